"""The webhooks that stand."""

from collections.abc import Iterator

from events.log.keys import FLEET
from events.log.port import Log
from events.secrets.vault import Vault
from events.webhook import state
from events.webhook.errors import WebhookNotFound
from events.webhook.state import WEBHOOK, WebhookDocument


def webhooks(log: Log) -> Iterator[tuple[str, WebhookDocument]]:
    """(id, webhook), by id.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    subjects = sorted(set(log.subjects(FLEET, prefix=WEBHOOK)))
    for subject, one in zip(subjects, log.load(subjects, fleet=True), strict=True):
        if one.snapshot is not None:
            yield subject.removeprefix(WEBHOOK), state.decode(one.snapshot)


def webhook_of(log: Log, webhook_id: str) -> WebhookDocument:
    """A webhook as it stands.

    Raises:
        WebhookNotFound: it does not.
        LogUnavailable: as `webhooks`.
    """
    (stored,) = log.load([WEBHOOK + webhook_id], fleet=True)
    if stored.snapshot is None:
        raise WebhookNotFound(webhook_id)
    return state.decode(stored.snapshot)


def opened(vault: Vault, document: WebhookDocument) -> tuple[str, str]:
    """A webhook's URL with its query, and the secret that it is signed with.

    Raises:
        SecretsError: one of them does not open.
    """
    found = vault.reveal({"secret": document.secret, "query": document.query or ""})
    assert isinstance(found, dict)
    return f"{document.url}?{found['query']}" if document.query else document.url, found["secret"]
