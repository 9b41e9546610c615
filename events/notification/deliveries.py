"""The progress of each webhook, its lease, and its last deliveries, in Redis."""

import secrets
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, cast

import msgspec

from events.log.connect import Client, answering, entries_of
from events.log.keys import FLEET, key
from events.log.lease import take_for
from events.notification.positions import Positions, of_names
from events.webhook.state import WebhookDocument

DELIVERIES_MAX = 1000
"""How many deliveries of each webhook are stored."""

QUEUED_MS = 5000
"""How long a queued job counts as pending; after that, a lost job is queued again."""

_SCRIPT = files("events.notification").joinpath("note.lua").read_text(encoding="utf-8")
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
_PROGRESS, _COUNTS = key(FLEET, "webhooks:progress"), key(FLEET, "webhooks:counts")


class DeliveryProgress(msgspec.Struct, frozen=True):
    """The progress of a webhook: everything up to `positions` was delivered, or does not match its filter.

    `born` and `version` are the webhook's. `failures` counts the failures since the last success, the first of them at
    `failing_since`; the next attempt is at `due_at`. Times are in milliseconds, 0 means none. `error` is the last failure's.
    """

    born: int
    version: int
    positions: Positions
    failures: int = 0
    failing_since: int = 0
    due_at: int = 0
    error: str = ""


def current_progress(document: WebhookDocument, stored: DeliveryProgress | None, partitions: int) -> DeliveryProgress:
    """Returns the progress of the current webhook; progress of an earlier webhook of its id does not count."""
    if stored is None or stored.born != document.born:
        return DeliveryProgress(document.born, document.version, of_names(document.after, partitions))
    # An operator who changed or resumed the webhook expects an immediate attempt: the failures and the pause are dropped.
    if stored.version != document.version:
        return DeliveryProgress(document.born, document.version, stored.positions)
    return stored


RETRY_SECONDS_MAX = 600.0
"""The longest pause before another attempt."""


def is_due(progress: DeliveryProgress, now: int) -> bool:
    """Returns whether the next attempt is due."""
    # A time further away than the longest pause is from a clock that has gone back since.
    return progress.due_at <= now or progress.due_at > now + round(1000 * RETRY_SECONDS_MAX)


class Delivery(msgspec.Struct, frozen=True):
    """One attempt; `result` is the class of its status (`2xx`) or its error. `status` is `None` without an answer."""

    event: str
    at: int
    result: str
    status: int | None
    attempt: int
    milliseconds: int


class Deliveries:
    """The stored deliveries of all webhooks."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def claim(self, webhook_id: str) -> bool:
        """Returns whether to queue a job for a webhook: no job is pending, and no worker has its lease."""
        with answering():
            if self._client.exists(_key(webhook_id, "lease")):
                return False
        return take_for(self._client, _key(webhook_id, "queued"), "1", QUEUED_MS)

    def lease(self, webhook_id: str, *, lease_ms: int) -> str | None:
        """Take a webhook's lease; returns its token, or `None` while another worker has it."""
        token = secrets.token_hex(8)
        with answering():
            self._client.delete(_key(webhook_id, "queued"))
        return token if take_for(self._client, _key(webhook_id, "lease"), token, lease_ms) else None

    def release(self, webhook_id: str, token: str) -> None:
        """Give a webhook's lease back."""
        with answering():
            self._client.eval(_RELEASE, 1, _key(webhook_id, "lease"), token)

    def note(
        self, webhook_id: str, progress: DeliveryProgress, delivery: Delivery | None, *, token: str, lease_ms: int
    ) -> bool:
        """Store a webhook's progress with its delivery, and renew the lease; false, and nothing, if another has it."""
        keys = (_key(webhook_id, "lease"), _PROGRESS, _COUNTS, _key(webhook_id, "deliveries"))
        entry, result = (b"", "") if delivery is None else (msgspec.json.encode(delivery), delivery.result)
        arguments = (token, lease_ms, webhook_id, msgspec.json.encode(progress), entry, result, DELIVERIES_MAX)
        with answering():
            return bool(self._client.eval(_SCRIPT, len(keys), *keys, *cast("tuple[Any, ...]", arguments)))

    def all(self) -> dict[str, DeliveryProgress]:
        """Returns the progress of every webhook with a delivery, by id."""
        with answering():
            fields = cast("Mapping[bytes, bytes]", self._client.hgetall(_PROGRESS))
        return {name.decode(): msgspec.json.decode(data, type=DeliveryProgress) for name, data in fields.items()}

    def progress(self, webhook_id: str) -> DeliveryProgress | None:
        """Returns a webhook's progress; `None` before its first delivery."""
        with answering():
            data = cast("bytes | None", self._client.hget(_PROGRESS, webhook_id))
        return None if data is None else msgspec.json.decode(data, type=DeliveryProgress)

    def newest(self, webhook_id: str, *, limit: int) -> Sequence[Delivery]:
        """Returns the last deliveries, newest first."""
        with answering():
            entries = entries_of(self._client.xrevrange(_key(webhook_id, "deliveries"), count=limit))
        return [msgspec.json.decode(fields[b"data"], type=Delivery) for _, fields in entries]

    def counts(self) -> dict[tuple[str, str], int]:
        """Returns the number of deliveries by (webhook, result)."""
        with answering():
            fields = cast("Mapping[bytes, bytes]", self._client.hgetall(_COUNTS))
        names = {field: field.decode().partition(":") for field in fields}
        return {(webhook_id, result): int(fields[field]) for field, (webhook_id, _, result) in names.items()}

    def forget(self, webhook_id: str) -> None:
        """Remove everything of a deleted webhook."""
        names = [f"{counted_id}:{result}" for counted_id, result in self.counts() if counted_id == webhook_id]
        with answering():
            self._client.hdel(_PROGRESS, webhook_id)
            self._client.delete(_key(webhook_id, "deliveries"))
            if names:
                self._client.hdel(_COUNTS, *names)


def _key(webhook_id: str, what: str) -> str:
    return key(FLEET, f"webhook:{webhook_id}:{what}")
