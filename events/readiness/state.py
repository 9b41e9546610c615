"""The replay of waivers: the documents that stand as snapshots beside the fleet's log."""

import datetime as dt
from typing import assert_never

import msgspec

from events.readiness.events import WaiverEvent, WaiverGranted, WaiverWithdrawn
from events.readiness.waiver import Waiver

WAIVER = "waiver:"
"""What the subjects of waivers begin with; no deployment's id has a colon."""


class WaiverDocument(msgspec.Struct, frozen=True):
    """A waiver as its events made it; `who` granted it last, at `granted_at` (milliseconds)."""

    version: int
    rule: str
    reason: str
    until: dt.date
    module: str | None
    deployment: str | None
    who: str
    granted_at: int

    @property
    def waiver(self) -> Waiver:
        """As a check takes it."""
        return Waiver(self.rule, self.who, self.reason, self.until, self.module, self.deployment)


_decoder = msgspec.json.Decoder(WaiverDocument)


def decode(data: bytes) -> WaiverDocument:
    """Read a document's canonical bytes."""
    return _decoder.decode(data)


def evolve(event: WaiverEvent, *, version: int, at: int, by: str) -> WaiverDocument | None:
    """The waiver after one more event, by somebody; `None` when it is gone."""
    match event:
        case WaiverGranted(rule, reason, until, module, deployment):
            return WaiverDocument(version, rule, reason, until, module, deployment, by, at)
        case WaiverWithdrawn():
            return None
        case _:
            assert_never(event)
