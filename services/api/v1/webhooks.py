"""`/v1/webhooks`: define, pause and test webhooks, and list their deliveries."""

import secrets
from collections.abc import Sequence
from typing import Annotated

from fastapi import Query, Request
from starlette.concurrency import run_in_threadpool

from events.log.fleet_documents import webhook_of, webhooks
from events.notification.cloud_event import of_test
from events.notification.deliveries import DELIVERIES_MAX, Deliveries, Delivery, current_progress
from events.notification.feed import Feed
from events.notification.http_delivery import WebhookSender, revealed_target
from events.notification.positions import Positions, by_name, lag
from events.producer.decision import check
from events.producer.secrecy import in_references
from events.secrets.references import MASK
from events.webhook.commands import DefineWebhook, DeleteWebhook, PauseWebhook, ResumeWebhook
from events.webhook.signature import secret_of
from events.webhook.state import WEBHOOK, WebhookDocument
from events.webhook.targets import AllowedTargets, check_target
from services.api.context.api_context import ApiContext
from services.api.context.request import context_of, write
from services.api.http.access import ADMIN, Access
from services.api.http.json_answer import AnswerBody, JsonAnswer
from services.api.http.path_names import WebhookId
from services.api.v1.bodies import PauseBody, WebhookBody
from services.api.v1.router import v1_router

_KEY_BYTES = 32

router = v1_router(read=Access(ADMIN, at=True), write=Access(ADMIN))


class WebhookAnswer(AnswerBody):
    """A webhook and the state of its deliveries. Times are in milliseconds, `null` for none.

    `secret` is in plain only in the answer of the PUT that made it. `lag` is the number of events and assignment changes
    that were not read for the webhook yet. For a past point in time, `lag` and the members after it are `null`: deliveries
    are not part of the log.
    """

    id: str
    url: str
    secret: str
    kinds: tuple[str, ...]
    deployments: tuple[str, ...]
    devices: tuple[str, ...]
    paused: str | None
    changed_at: int
    lag: int | None = None
    failures: int | None = None
    failing_since: int | None = None
    next_attempt_at: int | None = None
    error: str | None = None


class WebhookDeliveries(AnswerBody):
    """The last attempts to deliver the events of a webhook, newest first."""

    id: str
    deliveries: Sequence[Delivery]


class WebhookTest(AnswerBody):
    """The result of the delivery of a test event."""

    id: str
    delivered: bool
    result: str
    status: int | None
    milliseconds: int


@router.get("/webhooks")
def list_webhooks(request: Request) -> list[WebhookAnswer]:
    """All webhooks, with the state of their deliveries."""
    context = context_of(request)
    heads = Feed(context.log, context.projections).heads()
    return [_answer(context, webhook_id, document, heads) for webhook_id, document in webhooks(context.log)]


@router.get("/webhooks/{webhook_id}")
def show(request: Request, webhook_id: WebhookId) -> WebhookAnswer:
    """A webhook, with the state of its deliveries. Secrets appear as `***`."""
    context = context_of(request)
    document = webhook_of(context.log, webhook_id)
    return _answer(context, webhook_id, document, Feed(context.log, context.projections).heads())


@router.put("/webhooks/{webhook_id}")
def define(request: Request, webhook_id: WebhookId, body: WebhookBody) -> WebhookAnswer:
    """Create a webhook that begins with the next event, or replace one, which continues where it was and is resumed."""
    context = context_of(request)
    # The heads are part of the event, so that it does not matter when a worker first sees the webhook (decision 0022).
    heads = Feed(context.log, context.projections).heads()
    (stored,) = context.log.load([WEBHOOK + webhook_id], fleet=True)
    made = secret_of(secrets.token_bytes(_KEY_BYTES)) if stored.snapshot is None and not body.secret else ""
    secret, positions = body.secret or made or None, by_name(heads, context.log.partitions)
    command = DefineWebhook(webhook_id, body.url, secret, body.kinds, body.deployments, body.devices, positions)
    check(in_references(command))
    # An address inside this machine's network would let a caller post into it (decision 0022).
    check_target(body.url, AllowedTargets.parse(context.settings.webhook_private_targets))
    write(request, command)
    answer = _answer(context, webhook_id, webhook_of(context.log, webhook_id), heads)
    answer.secret = made or answer.secret
    return answer


@router.delete("/webhooks/{webhook_id}", status_code=204)
def delete(request: Request, webhook_id: WebhookId) -> None:
    """Delete a webhook."""
    write(request, DeleteWebhook(webhook_id))


@router.post("/webhooks/{webhook_id}/pause", status_code=204)
def pause(request: Request, webhook_id: WebhookId, body: PauseBody) -> None:
    """Pause deliveries. Events wait in the log until the webhook is resumed."""
    write(request, PauseWebhook(webhook_id, body.why))


@router.post("/webhooks/{webhook_id}/resume", status_code=204)
def resume(request: Request, webhook_id: WebhookId) -> None:
    """Resume deliveries now, from where they stopped."""
    write(request, ResumeWebhook(webhook_id))


@router.get("/webhooks/{webhook_id}/deliveries")
@Access(ADMIN, at="attempts to deliver are not part of the log")
def deliveries(
    request: Request, webhook_id: WebhookId, top: Annotated[int, Query(ge=1, le=DELIVERIES_MAX)] = 100
) -> WebhookDeliveries:
    """The last attempts to deliver, newest first."""
    context = context_of(request)
    webhook_of(context.log, webhook_id)  # An unknown webhook is a 404, and not an empty list.
    return WebhookDeliveries(webhook_id, Deliveries(context.client).newest(webhook_id, limit=top))


@router.post("/webhooks/{webhook_id}/test")
async def test(request: Request, webhook_id: WebhookId) -> JsonAnswer[WebhookTest]:
    """Deliver an event of the type `twinfold.Test` now, ahead of waiting events, and return the result."""
    context = context_of(request)
    document = await run_in_threadpool(webhook_of, context.log, webhook_id)
    url, secret = await run_in_threadpool(lambda: revealed_target(context.vault.opened, document))
    at = context.clock()
    async with WebhookSender(context.settings) as sender:
        answer = await sender.post(url, of_test(context.log.epoch, webhook_id, at=at), secret=secret, at=at)
    return JsonAnswer(WebhookTest(webhook_id, answer.delivered, answer.result, answer.status, answer.milliseconds))


def _answer(context: ApiContext, webhook_id: str, document: WebhookDocument, heads: Positions) -> WebhookAnswer:
    url = document.url + (f"?{MASK}" if document.query else "")
    answer = WebhookAnswer.filled(document, id=webhook_id, url=url, secret=MASK, paused=document.paused or None)
    if context.point_in_time is None:
        progress = current_progress(document, Deliveries(context.client).progress(webhook_id), context.log.partitions)
        answer.lag, answer.failures = lag(progress.positions, heads), progress.failures
        answer.failing_since, answer.next_attempt_at = progress.failing_since or None, progress.due_at or None
        answer.error = progress.error or None
    return answer
