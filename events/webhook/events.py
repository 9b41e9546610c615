"""What can happen to a webhook. Subject: `webhook:<id>`, in the fleet's stream."""

import msgspec

from events.canonical import JsonObject


class WebhookDefined(msgspec.Struct, frozen=True, tag="WebhookDefined", forbid_unknown_fields=True):
    """A webhook is exactly this from here on, and not paused.

    `url` ends before its query; the query may hold secrets, so it is a `{"$secret": id}` as the signing `secret` is. Told is
    what is of one of the `kinds` and about one of the `deployments` or `devices`; nothing named is anything. `after` has the
    positions of all streams, by name, behind which a new webhook begins; one that stands goes on where it was.
    """

    url: str
    secret: JsonObject
    query: JsonObject | None = None
    kinds: tuple[str, ...] = ()
    deployments: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    after: dict[str, int] = {}


class WebhookPaused(msgspec.Struct, frozen=True, tag="WebhookPaused", forbid_unknown_fields=True):
    """Nothing is delivered until it is resumed; what happens meanwhile waits in the log."""

    why: str


class WebhookResumed(msgspec.Struct, frozen=True, tag="WebhookResumed", forbid_unknown_fields=True):
    """Deliveries go on where they stopped."""


class WebhookDeleted(msgspec.Struct, frozen=True, tag="WebhookDeleted", forbid_unknown_fields=True):
    """Nobody is told any more."""


WebhookEvent = WebhookDefined | WebhookPaused | WebhookResumed | WebhookDeleted
