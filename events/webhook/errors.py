"""Why a command on a webhook is refused.

WebhookError
├── WebhookInvalid    a name, an address, a kind or a filter that cannot be one
├── TargetRefused     an address that webhooks may not lead to
└── WebhookNotFound
"""


class WebhookError(Exception):
    """Any refusal of a command on webhooks. None quotes a URL or a secret."""


class WebhookInvalid(WebhookError):
    """The webhook cannot be like this; `element` is the member at fault."""

    def __init__(self, webhook_id: str, element: str, why: str) -> None:
        super().__init__(f"webhook {webhook_id[:80]!r}: `{element}` {why}")
        self.webhook_id, self.element, self.why = webhook_id, element, why


class TargetRefused(WebhookError):
    """The address is not public, and no setting allows it."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"url leads to {address[:80]}, which is no public address;"
            " TWINFOLD_WEBHOOK_PRIVATE_TARGETS names the networks that webhooks may also lead to"
        )
        self.address = address


class WebhookNotFound(WebhookError):
    """There is no such webhook."""

    def __init__(self, webhook_id: str) -> None:
        super().__init__(f"there is no webhook {webhook_id[:80]!r}")
        self.webhook_id = webhook_id
