"""Why a command on a webhook is refused.

WebhookError
├── WebhookInvalid    the name, the URL, a kind or a filter is invalid
├── TargetRefused     webhooks may not use the address
└── WebhookNotFound
"""


class WebhookError(Exception):
    """Base of all refusals of a command on webhooks. No message quotes a URL or a secret."""


class WebhookInvalid(WebhookError):
    """A member of the webhook is invalid; `element` names it."""

    def __init__(self, webhook_id: str, element: str, why: str) -> None:
        super().__init__(f"webhook {webhook_id[:80]!r}: `{element}` {why}")
        self.webhook_id, self.element, self.why = webhook_id, element, why


class TargetRefused(WebhookError):
    """The address is not public, and no setting allows it."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"url leads to {address[:80]}, which is not a public address;"
            " TWINFOLD_WEBHOOK_PRIVATE_TARGETS allows more networks"
        )
        self.address = address


class WebhookNotFound(WebhookError):
    """The webhook does not exist."""

    def __init__(self, webhook_id: str) -> None:
        super().__init__(f"there is no webhook {webhook_id[:80]!r}")
        self.webhook_id = webhook_id
