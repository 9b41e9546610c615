"""The commands on webhooks."""

from typing import Any

import msgspec
from typing_extensions import override


class DefineWebhook(msgspec.Struct, frozen=True):
    """Create or replace a webhook.

    `url` includes its query, if any. `secret` is `whsec_` and base64 of 24 to 64 bytes; `None` keeps the current one. The
    command's representation hides both. `after` as in `WebhookDefined`.
    """

    webhook_id: str
    url: str
    secret: Any = None
    kinds: tuple[str, ...] = ()
    deployments: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    after: dict[str, int] = {}
    query: Any = None
    """The reference to the URL's query, after the producer stored the query as a secret."""

    @override
    def __repr__(self) -> str:
        """Returns the command without its secrets."""
        return f"DefineWebhook(webhook_id={self.webhook_id!r})"


class PauseWebhook(msgspec.Struct, frozen=True):
    """Stop deliveries until the webhook is resumed."""

    webhook_id: str
    why: str


class ResumeWebhook(msgspec.Struct, frozen=True):
    """Continue deliveries."""

    webhook_id: str


class DeleteWebhook(msgspec.Struct, frozen=True):
    """Delete a webhook."""

    webhook_id: str


WebhookCommand = DefineWebhook | PauseWebhook | ResumeWebhook | DeleteWebhook
