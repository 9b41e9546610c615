"""The events of a webhook. Subject: `webhook:<id>`, in the fleet's stream."""

import msgspec

from events.canonical import JsonObject


class WebhookDefined(msgspec.Struct, frozen=True, tag="WebhookDefined", forbid_unknown_fields=True):
    """A webhook was created or replaced, and is not paused.

    `url` ends before its query; the query can hold secrets, so it is a `{"$secret": id}`, as the signing `secret` is. The webhook
    receives notifications of the `kinds`, about one of the `deployments` or `devices`; an empty list matches everything. `after`
    has the positions of all streams, by name, after which a new webhook starts; a replaced webhook continues from its progress.
    """

    url: str
    secret: JsonObject
    query: JsonObject | None = None
    kinds: tuple[str, ...] = ()
    deployments: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    after: dict[str, int] = {}


class WebhookPaused(msgspec.Struct, frozen=True, tag="WebhookPaused", forbid_unknown_fields=True):
    """Deliveries stopped until the webhook is resumed; events since then wait in the log."""

    why: str


class WebhookResumed(msgspec.Struct, frozen=True, tag="WebhookResumed", forbid_unknown_fields=True):
    """Deliveries continue where they stopped."""


class WebhookDeleted(msgspec.Struct, frozen=True, tag="WebhookDeleted", forbid_unknown_fields=True):
    """The webhook was deleted."""


WebhookEvent = WebhookDefined | WebhookPaused | WebhookResumed | WebhookDeleted
