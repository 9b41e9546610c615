"""What can be asked of webhooks."""

from typing import Any

import msgspec
from typing_extensions import override


class DefineWebhook(msgspec.Struct, frozen=True):
    """Make a webhook, or make one that stands exactly this.

    `url` comes with its query, if it has one. `secret` is `whsec_` and base64 of 24 to 64 bytes; `None` keeps the one that
    stands. Neither shows when the command is printed. `after` as in `WebhookDefined`.
    """

    webhook_id: str
    url: str
    secret: Any = None
    kinds: tuple[str, ...] = ()
    deployments: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    after: dict[str, int] = {}
    query: Any = None
    """Where the secret of the URL's query went, when it was taken out."""

    @override
    def __repr__(self) -> str:
        """Without the secrets."""
        return f"DefineWebhook(webhook_id={self.webhook_id!r})"


class PauseWebhook(msgspec.Struct, frozen=True):
    """Deliver nothing until it is resumed."""

    webhook_id: str
    why: str


class ResumeWebhook(msgspec.Struct, frozen=True):
    """Go on delivering."""

    webhook_id: str


class DeleteWebhook(msgspec.Struct, frozen=True):
    """Tell nobody any more."""

    webhook_id: str


WebhookCommand = DefineWebhook | PauseWebhook | ResumeWebhook | DeleteWebhook
