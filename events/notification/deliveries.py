"""How far each webhook has come, who delivers for it at the moment, and what became of its last deliveries; in Redis."""

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
"""So many deliveries of each webhook are kept."""

QUEUED_MS = 5000
"""For so long a job that was given counts as on its way; one that was lost is given again after it."""

_SCRIPT = files("events.notification").joinpath("note.lua").read_text(encoding="utf-8")
_LET_GO = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
_PROGRESS, _COUNTS = key(FLEET, "webhooks:progress"), key(FLEET, "webhooks:counts")


class DeliveryProgress(msgspec.Struct, frozen=True):
    """How far a webhook has come: everything up to `positions` was delivered, or not wanted.

    `born` and `version` are those of the webhook that it is of. `failures` counts those since the last success, which began
    at `failing_since`; the next attempt is at `due_at`. Times are in milliseconds, 0 is none. `error` is the last failure's.
    """

    born: int
    version: int
    positions: Positions
    failures: int = 0
    failing_since: int = 0
    due_at: int = 0
    error: str = ""


def begun(document: WebhookDocument, known: DeliveryProgress | None, partitions: int) -> DeliveryProgress:
    """How far a webhook has come as it stands now: what is known of another one of its id does not count.

    Whoever changed or resumed it wants it tried again at once.
    """
    if known is None or known.born != document.born:
        return DeliveryProgress(document.born, document.version, of_names(document.after, partitions))
    if known.version != document.version:
        return DeliveryProgress(document.born, document.version, known.positions)
    return known


RETRY_SECONDS_MAX = 600.0
"""The longest pause before another attempt."""


def is_due(progress: DeliveryProgress, now: int) -> bool:
    """Whether an attempt may be made; a time further away than any pause was told by a clock that has gone back since."""
    return progress.due_at <= now or progress.due_at > now + round(1000 * RETRY_SECONDS_MAX)


class Delivery(msgspec.Struct, frozen=True):
    """One attempt; `result` is the class of its status (`2xx`) or error. `status` is `None` where there was no answer."""

    event: str
    at: int
    result: str
    status: int | None
    attempt: int
    milliseconds: int


class Deliveries:
    """What is kept of all webhooks."""

    def __init__(self, client: Client) -> None:
        self._client = client

    # -- who delivers

    def claim(self, webhook_id: str) -> bool:
        """Whether a job for a webhook has to be given: none is on its way, and nobody is at it."""
        with answering():
            if self._client.exists(_key(webhook_id, "lease")):
                return False
        return take_for(self._client, _key(webhook_id, "queued"), "1", QUEUED_MS)

    def lease(self, webhook_id: str, *, lease_ms: int) -> str | None:
        """Take a webhook for oneself; the token that shows it, or `None` while somebody else has it."""
        token = secrets.token_hex(8)
        with answering():
            self._client.delete(_key(webhook_id, "queued"))
        return token if take_for(self._client, _key(webhook_id, "lease"), token, lease_ms) else None

    def let_go(self, webhook_id: str, token: str) -> None:
        """Leave a webhook to the next."""
        with answering():
            self._client.eval(_LET_GO, 1, _key(webhook_id, "lease"), token)

    def note(
        self, webhook_id: str, progress: DeliveryProgress, delivery: Delivery | None, *, token: str, lease_ms: int
    ) -> bool:
        """Keep how far a webhook has come, with the delivery that took it there, and the lease for as long again.

        Answers whether it stands: not so where the lease went to somebody else, who then says how far it has come.
        """
        keys = (_key(webhook_id, "lease"), _PROGRESS, _COUNTS, _key(webhook_id, "deliveries"))
        entry, result = (b"", "") if delivery is None else (msgspec.json.encode(delivery), delivery.result)
        arguments = (token, lease_ms, webhook_id, msgspec.json.encode(progress), entry, result, DELIVERIES_MAX)
        with answering():
            return bool(self._client.eval(_SCRIPT, len(keys), *keys, *cast("tuple[Any, ...]", arguments)))

    # -- what is known

    def all(self) -> dict[str, DeliveryProgress]:
        """How far every webhook has come that anything was ever done for."""
        with answering():
            found = cast("Mapping[bytes, bytes]", self._client.hgetall(_PROGRESS))
        return {name.decode(): msgspec.json.decode(data, type=DeliveryProgress) for name, data in found.items()}

    def progress(self, webhook_id: str) -> DeliveryProgress | None:
        """How far a webhook has come; `None` where nothing was done for it yet."""
        with answering():
            data = cast("bytes | None", self._client.hget(_PROGRESS, webhook_id))
        return None if data is None else msgspec.json.decode(data, type=DeliveryProgress)

    def newest(self, webhook_id: str, *, limit: int) -> Sequence[Delivery]:
        """The last deliveries, newest first."""
        with answering():
            entries = entries_of(self._client.xrevrange(_key(webhook_id, "deliveries"), count=limit))
        return [msgspec.json.decode(fields[b"data"], type=Delivery) for _, fields in entries]

    def counts(self) -> dict[tuple[str, str], int]:
        """How many deliveries had each result, by (webhook, result)."""
        with answering():
            found = cast("Mapping[bytes, bytes]", self._client.hgetall(_COUNTS))
        counts = {}
        for field, count in found.items():
            webhook_id, _, result = field.decode().partition(":")
            counts[webhook_id, result] = int(count)
        return counts

    def forget(self, webhook_id: str) -> None:
        """Keep nothing of a webhook that is gone."""
        names = [f"{one}:{result}" for one, result in self.counts() if one == webhook_id]
        with answering():
            self._client.hdel(_PROGRESS, webhook_id)
            self._client.delete(_key(webhook_id, "deliveries"))
            if names:
                self._client.hdel(_COUNTS, *names)


def _key(webhook_id: str, what: str) -> str:
    return key(FLEET, f"webhook:{webhook_id}:{what}")
