"""The state of a webhook: the document that replaying its events gives, stored as a snapshot beside the fleet's log."""

from typing import assert_never

import msgspec

from events.canonical import JsonObject
from events.webhook.events import WebhookDefined, WebhookDeleted, WebhookEvent, WebhookPaused, WebhookResumed

WEBHOOK = "webhook:"


class WebhookDocument(msgspec.Struct, frozen=True):
    """A webhook as its events made it; `secret` and `query` are references.

    `born` is the version of its creation, which tells a webhook from a deleted one of the same id. `paused` is the reason, and
    empty if it is not paused. `changed_at` is the time of its newest event, in milliseconds.
    """

    version: int
    born: int
    url: str
    secret: JsonObject
    query: JsonObject | None
    kinds: tuple[str, ...]
    deployments: tuple[str, ...]
    devices: tuple[str, ...]
    after: dict[str, int]
    paused: str
    changed_at: int


_decoder = msgspec.json.Decoder(WebhookDocument)


def decode(data: bytes) -> WebhookDocument:
    """Returns the document in canonical bytes."""
    return _decoder.decode(data)


def evolve(document: WebhookDocument | None, event: WebhookEvent, *, version: int, at: int) -> WebhookDocument | None:
    """Returns the webhook after an event; `None` after its deletion."""
    match event:
        case WebhookDefined():
            born = version if document is None else document.born
            names = (event.kinds, event.deployments, event.devices)
            return WebhookDocument(version, born, event.url, event.secret, event.query, *names, event.after, "", at)
        case WebhookDeleted():
            return None
        case WebhookPaused() | WebhookResumed():
            assert document is not None
            why = event.why if isinstance(event, WebhookPaused) else ""
            return msgspec.structs.replace(document, version=version, paused=why, changed_at=at)
        case _:
            assert_never(event)
