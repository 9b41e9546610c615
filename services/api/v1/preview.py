"""`/v1/preview`, and `?preview=true` on every write: what would happen, who would be concerned, and the token to go on with."""

import datetime as dt
import functools
from collections.abc import Sequence
from typing import Annotated

import msgspec
from fastapi import Query, Request
from msgspec import field
from starlette.concurrency import run_in_threadpool

from events import canonical
from events.deployment.advice import Advice
from events.deployment.events import DeploymentCreated
from events.log.keys import name as stream_name
from events.manifest.merge import Conflict, conflicts
from events.number_text import counted
from events.preview.difference import PropertyDifference, differences
from events.preview.errors import PreviewDiffers
from events.preview.preview_result import OF_DEPLOYMENTS, ConfigurationChange, PreviewResult, page_of_list, sections_of
from events.producer.errors import Command
from events.producer.readiness import document_of
from events.projection_store.query_engine import ContinuationInvalid
from events.readiness.check import check
from events.readiness.subject import ReadinessSubject
from services.api.context.api_context import ApiContext
from services.api.context.callers import ListPage, PreviewRequest
from services.api.context.dry_run import DryRun, Preview
from services.api.context.pages import PAGE_MAX, DevicePage
from services.api.context.request import author_of, context_of, page_of
from services.api.http.access import SERVICE_CONNECT, Access
from services.api.http.json_answer import AnswerBody, JsonAnswer
from services.api.http.request_costs import LINES
from services.api.v1.device_assignment import AsOf
from services.api.v1.events import EVENTS_BODY, RefusedLine, commands_of, refused_lines
from services.api.v1.readiness import ReadinessAnswer, waivers_at
from services.api.v1.router import v1_router

router = v1_router()

EXAMPLES = 3
CHANGES_MAX = 50
DIFFERENCES_MAX = 200
_STACKS_MAX = 200


class PreviewList(AnswerBody):
    """How many devices, the first of them, and the name under which `?list=` has them all."""

    name: str = field(name="list")
    devices: int
    examples: list[str]


class PreviewedDeployment(AnswerBody):
    """The devices that would get a deployment's part or lose it, and those that it would target or target no more."""

    id: str
    gained: PreviewList
    lost: PreviewList
    targeted: PreviewList
    untargeted: PreviewList


class PreviewedChange(PreviewList):
    """One configuration in place of another; `module` is `null` for what an edge device runs. Removals come first."""

    module: str | None
    before: str
    after: str
    differences: tuple[PropertyDifference, ...]
    more_differences: int


class PreviewedLimit(AnswerBody):
    """A limit that devices would be over, and therefore keep what they have."""

    reason: str
    name: str = field(name="list")
    devices: int
    examples: list[str]


class PreviewedRollout(AnswerBody):
    """The devices that a rollout would admit first, if all is as it is now."""

    deployment: str
    says: str
    admitted: PreviewList


class DeploymentReadiness(ReadinessAnswer):
    """What the rules find in the content of a new deployment."""

    deployment: str


class PreviewAnswer(AnswerBody):
    """What commands would do. `affected` are those who change, and those whom deployments come to target or leave."""

    says: list[str]
    changes_nothing: bool
    events: int
    affected: PreviewList
    changed: PreviewList
    reconfigured: PreviewList
    unmanaged: PreviewList
    managed: PreviewList
    over_limit: PreviewList
    again: PreviewList
    registered: PreviewList
    retired: PreviewList
    deployments: list[PreviewedDeployment]
    changes: list[PreviewedChange]
    more_changes: int
    reasons: list[PreviewedLimit]
    rollouts: list[PreviewedRollout]
    conflicts: list[Conflict]
    readiness: list[DeploymentReadiness]
    advice: tuple[Advice, ...]
    refused: list[RefusedLine]
    as_of: dict[str, AsOf]
    token: str
    token_until: str


@router.post("/preview", openapi_extra=EVENTS_BODY)
@Access(SERVICE_CONNECT, scope="handler", cost=LINES)  # Each line requires the permission of its command, too.
async def preview(
    request: Request,
    list_: Annotated[str | None, Query(alias="list", description="One of the answer's lists, page by page.")] = None,
    top: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
    continuation: Annotated[str | None, Query()] = None,
) -> JsonAnswer[PreviewAnswer | DevicePage]:
    """What commands would do, given as for `/v1/events`, at most 1000 of them; nothing is written, not even a secret.

    A single command that would be refused is refused here the same way. Every other write takes `?preview=true` and answers
    as this does. The `token`, sent as `Twinfold-Preview` with the same write, has it done only if the result is still the
    same: else it answers 412 and says what differs. `?list=` asks for the ids of one of the lists.
    """
    del list_, top, continuation
    return await run_in_threadpool(_preview, request, await commands_of(request))


def _preview(request: Request, commands: Sequence[Command]) -> JsonAnswer[PreviewAnswer | DevicePage]:
    context = context_of(request)
    author = msgspec.structs.replace(
        author_of(request), preview_request=PreviewRequest(is_dry_run=True, token="", page=page_of(request))
    )
    dry_run = DryRun(context.dry_runs, author)
    report = dry_run.producer().submit(commands)
    if len(commands) == 1:
        for one in report.refused:
            raise one.error
    return answer_to(request, dry_run.preview(commands, report.refused if len(commands) > 1 else None))


def answer_to(request: Request, shown: Preview) -> JsonAnswer[PreviewAnswer | DevicePage]:
    """A preview as an answer, or the page of its lists that was asked for."""
    context, preview_request = context_of(request), shown.author.preview_request
    if preview_request is not None and preview_request.page is not None:
        return JsonAnswer(_page(context, shown.result, preview_request.page))
    return JsonAnswer(_answer(request, context, shown))


def _page(context: ApiContext, result: PreviewResult, wanted: ListPage) -> DevicePage:
    digest = result.summary().get(wanted.name, (0, ""))[1]
    after = (0, -1)
    if (text := context.continuations.open(wanted.continuation)) is not None:
        try:
            name, shown, *location = msgspec.json.decode(text, type=tuple[str, str, int, int])
        except msgspec.DecodeError:
            raise ContinuationInvalid from None
        if name != wanted.name:
            raise ContinuationInvalid
        if shown != digest:
            raise PreviewDiffers([f"{wanted.name} has other devices by now"])
        after = (location[0], location[1])
    members = result.members(wanted.name)
    names, location_after = page_of_list(context.projections, result, members, after=after, limit=wanted.top)
    sealed = None
    if location_after is not None:
        sealed = context.continuations.seal(canonical.encode([wanted.name, digest, *location_after]).decode())
    return DevicePage(names, sealed)


def _answer(request: Request, context: ApiContext, shown: Preview) -> PreviewAnswer:
    result, events = shown.result, shown.events.by_stream
    listed = functools.partial(_list, context, result)
    # Elsewhere, how much is written is about devices that a scoped caller does not reach.
    reached = {number for members in result.lists.values() for number, ordinals in members.items() if ordinals}
    return PreviewAnswer(
        says=says(result),
        changes_nothing=not result.count("affected") and not events,
        events=sum(map(len, events.values())),
        affected=listed("affected"),
        changed=listed("changed"),
        reconfigured=listed("reconfigured"),
        unmanaged=listed("unmanaged"),
        managed=listed("managed"),
        over_limit=listed("overLimit"),
        again=listed("again"),
        registered=listed("registered"),
        retired=listed("retired"),
        deployments=[
            PreviewedDeployment(name, *(listed(f"deployments/{name}/{part}") for part in OF_DEPLOYMENTS))
            for name in result.deployment_ids
        ],
        changes=[_change(change, listed(change.name)) for change in result.changes[:CHANGES_MAX]],
        more_changes=max(0, len(result.changes) - CHANGES_MAX),
        reasons=[
            PreviewedLimit(reason, *msgspec.structs.astuple(listed(f"overLimit/{location}")))
            for location, reason in enumerate(result.held, 1)
        ],
        rollouts=[
            PreviewedRollout(first.deployment, first.says, listed(f"rollouts/{first.deployment}/first"))
            for first in result.rollouts
        ],
        conflicts=_conflicts(result),
        readiness=_readiness(request, shown),
        advice=shown.advice,
        refused=refused_lines(shown.refused),
        as_of={
            stream_name(number): AsOf.of(vector)
            for number, vector in sorted(result.vectors.items())
            if shown.author.scope is None or number in reached
        },
        token=shown.token,
        token_until=dt.datetime.fromtimestamp(shown.until / 1000, dt.UTC).isoformat(timespec="seconds"),
    )


def _list(context: ApiContext, result: PreviewResult, name: str) -> PreviewList:
    members = result.lists.get(name, {})
    examples, _ = page_of_list(context.projections, result, members, limit=EXAMPLES) if members else ([], None)
    return PreviewList(name, result.count(name), examples)


def _change(change: ConfigurationChange, devices: PreviewList) -> PreviewedChange:
    found = differences(sections_of(change.before), sections_of(change.after))
    return PreviewedChange(
        name=devices.name,
        devices=devices.devices,
        examples=devices.examples,
        module=change.module or None,
        before=change.before.digest,
        after=change.after.digest,
        differences=found[:DIFFERENCES_MAX],
        more_differences=max(0, len(found) - DIFFERENCES_MAX),
    )


def _conflicts(result: PreviewResult) -> list[Conflict]:
    """On which properties the layers disagree of those who come to other ones; each once."""
    stacks = (
        [(name, result.deployments[name].content) for name in stack if name in result.deployments]
        for stack in result.stacks[:_STACKS_MAX]
    )
    return list(dict.fromkeys(conflict for contents in stacks for conflict in conflicts(contents)))


def _readiness(request: Request, shown: Preview) -> list[DeploymentReadiness]:
    """What the rules find in the content of each new deployment."""
    context = context_of(request)
    waivers = waivers_at(context)
    found = []
    for envelope in shown.events.fleet:
        if isinstance(envelope.event, DeploymentCreated):
            document = document_of(
                envelope.subject, envelope.event.content, envelope.event.labels, envelope.event.priority
            )
            report = check(ReadinessSubject((document,)), context.profile, now=waivers.now, waivers=waivers.all)
            found.append(DeploymentReadiness.of(request, report, waivers, deployment=envelope.subject))
    return found


def says(result: PreviewResult) -> list[str]:
    """The most important things first, in sentences."""
    sentences = [
        f"{counted(count, 'device')} {text}" for name, text in _SENTENCES.items() if (count := result.count(name))
    ]
    return sentences if result.count("changed") else [*sentences, "no device changes"]


_SENTENCES = {
    "unmanaged": "would be left without any deployment, and keep what they have",
    "reconfigured": "would get another configuration",
    "overLimit": "would keep what they have, as what they should have is over a limit",
    "again": "would get the same configuration once more",
    "managed": "would come under deployments that were under none",
    "registered": "would be new",
    "retired": "would be gone",
}
