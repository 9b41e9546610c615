"""What answers about history look like, for the description of the API; `at` is in milliseconds."""

from typing import Any

from services.api.http.openapi import Answered


class AuditLine(Answered):
    """A fact or an outcome: where it stands, when, who, what, why; `data` is its own, `***` stands for secrets."""

    stream: str
    position: int
    at: int
    time: str | None
    kind: str
    subject: str
    by: str | None
    version: int | None
    cause: str | None
    sentence: str
    data: dict[str, Any]


class AuditPage(Answered):
    """Entries in their order; `scanned` were looked at for this page, and the continuation leads to the rest."""

    facts: list[AuditLine]
    scanned: int
    continuation: str | None


class Branch(Answered):
    """An entry of a tree, with what is behind it; without a place, only a sentence."""

    place: str | None
    sentence: str
    by: str | None
    time: str | None
    more: list["Branch"]


class CausesAnswer(Answered):
    """An entry, what led to it, and what it led to."""

    fact: AuditLine
    causes: list[Branch]
    led_to: list[Branch]


class Fetches(Answered):
    """How often a device fetched its own secrets, by day."""

    device_id: str
    days: dict[str, int]
