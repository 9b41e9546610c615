"""`/v1/preview`, and `?preview=true` on every write: the effect of commands on devices, and a token to apply exactly that."""

import datetime as dt
import itertools
from collections.abc import Sequence
from typing import Annotated

import msgspec
from fastapi import Query, Request
from msgspec import field
from starlette.concurrency import run_in_threadpool

from events import canonical
from events.deployment.advice import Advice
from events.deployment.events import DeploymentCreated
from events.log.keys import FLEET
from events.log.keys import name as stream_name
from events.manifest.merge import Conflict, conflicts
from events.member_names import snake_case
from events.number_text import counted
from events.preview.difference import PropertyDifference, differences
from events.preview.errors import PreviewDiffers
from events.preview.preview_result import (
    OF_DEPLOYMENTS,
    PLAIN,
    ConfigurationChange,
    PreviewResult,
    page_of_list,
    sections_of,
)
from events.producer.errors import Command
from events.producer.readiness import document_of
from events.projection_store.query_engine import ContinuationInvalid
from events.readiness.check import check
from events.readiness.subject import ReadinessSubject
from services.api.context.api_context import ApiContext
from services.api.context.callers import ListPage, PreviewRequest
from services.api.context.dry_run import Preview
from services.api.context.pages import PAGE_MAX, DevicePage
from services.api.context.request import author_of, context_of, page_of
from services.api.http.access import SERVICE_CONNECT, Access
from services.api.http.json_answer import AnswerBody, JsonAnswer
from services.api.http.request_costs import LINES
from services.api.v1.devices import AsOf
from services.api.v1.events import EVENTS_BODY, RefusedLine, commands_of, refused_lines
from services.api.v1.readiness import ReadinessAnswer, current_waivers
from services.api.v1.router import v1_router

router = v1_router()
EXAMPLES = 3
CHANGES_MAX = 50
DIFFERENCES_MAX = 200
_STACKS_MAX = 200


class PreviewList(AnswerBody):
    """A number of devices, the first of them, and the name of the list for `?list=`, which has all."""

    name: str = field(name="list")
    devices: int
    examples: list[str]


class PreviewedDeployment(AnswerBody):
    """The devices that would get or lose a deployment, and those that it would target or no longer target."""

    id: str
    gained: PreviewList
    lost: PreviewList
    targeted: PreviewList
    untargeted: PreviewList


class PreviewedChange(PreviewList):
    """A configuration that would replace another. `module` is `null` for an edge device's. Removals come first."""

    module: str | None
    before: str
    after: str
    differences: tuple[PropertyDifference, ...]
    more_differences: int


class PreviewedLimit(AnswerBody):
    """A limit that devices would exceed, so that they keep their present configuration."""

    reason: str
    name: str = field(name="list")
    devices: int
    examples: list[str]


class PreviewedRollout(AnswerBody):
    """The devices that a rollout would admit first, in the current state."""

    deployment: str
    says: str
    admitted: PreviewList


class DeploymentReadiness(ReadinessAnswer):
    """The findings in the content of a new deployment."""

    deployment: str


class PreviewAnswer(AnswerBody):
    """The effect of commands. `affected` are the devices that change, and those that deployments would target or leave."""

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
    """The effect of at most 1000 commands, in the form of `/v1/events`. Nothing is written, not even a secret.

    A single command that would be refused is refused here in the same way. Every other write takes `?preview=true` and has
    the same answer. The same write with the `token` in the header `Twinfold-Preview` is done only if the result is still
    the same; otherwise the answer is 412 with the differences. `?list=` requests the ids of one of the lists.
    """
    # The parameters are declared for the description of the API. `page_of` reads them for every write, as `?preview=true`
    # has them too.
    del list_, top, continuation
    return await run_in_threadpool(_preview, request, await commands_of(request))


def _preview(request: Request, commands: Sequence[Command]) -> JsonAnswer[PreviewAnswer | DevicePage]:
    preview_request = PreviewRequest(is_dry_run=True, token="", page=page_of(request))
    author = msgspec.structs.replace(author_of(request), preview_request=preview_request)
    dry_runs = context_of(request).dry_runs
    trial = dry_runs.trial(author)
    report = trial.producer.submit(commands)
    if len(commands) == 1 and report.refused:
        raise report.refused[0].error
    refused = report.refused if len(commands) > 1 else None
    return answer_to(request, dry_runs.preview(author, trial, commands, refused))


def answer_to(request: Request, previewed: Preview) -> JsonAnswer[PreviewAnswer | DevicePage]:
    """The answer of a preview, or the requested page of one of its lists."""
    preview_request = previewed.author.preview_request
    if preview_request is not None and preview_request.page is not None:
        return JsonAnswer(_page(context_of(request), previewed.result, preview_request.page))
    return JsonAnswer(_answer(request, previewed))


def _page(context: ApiContext, result: PreviewResult, requested_page: ListPage) -> DevicePage:
    digest = result.summary().get(requested_page.name, (0, ""))[1]
    after = (0, -1)
    if (text := context.continuations.open(requested_page.continuation)) is not None:
        try:
            name, digest_before, *position = msgspec.json.decode(text, type=tuple[str, str, int, int])
        except msgspec.DecodeError:
            raise ContinuationInvalid from None
        if name != requested_page.name:
            raise ContinuationInvalid
        # Lists are not stored: each page is another preview, which has to find the same devices (decision 0028).
        if digest_before != digest:
            raise PreviewDiffers([f"the devices of {requested_page.name} have changed since the first page"])
        after = (position[0], position[1])
    members = result.members(requested_page.name)
    names, position_after = page_of_list(context.projections, result, members, after=after, limit=requested_page.top)
    sealed = None
    if position_after is not None:
        sealed = context.continuations.seal(canonical.encode([requested_page.name, digest, *position_after]).decode())
    return DevicePage(names, sealed)


def _answer(request: Request, previewed: Preview) -> PreviewAnswer:
    context, result, events = context_of(request), previewed.result, previewed.events.by_stream

    def listed(name: str) -> PreviewList:
        members = result.lists.get(name, {})
        examples = page_of_list(context.projections, result, members, limit=EXAMPLES)[0] if members else []
        return PreviewList(name, result.count(name), examples)

    says = [f"{counted(count, 'device')} {text}" for name, text in _SENTENCES.items() if (count := result.count(name))]
    # The position of another partition would tell a caller with a scope how much is written on devices outside.
    reached = {number for members in result.lists.values() for number, ordinals in members.items() if ordinals}
    stacks = (
        [(name, result.deployments[name].content) for name in stack if name in result.deployments]
        for stack in result.stacks[:_STACKS_MAX]
    )
    return PreviewAnswer(
        says=says if result.count("changed") else [*says, "no device changes"],
        changes_nothing=not result.count("affected") and not events,
        events=sum(map(len, events.values())),
        **{snake_case(name): listed(name) for name in PLAIN},
        deployments=[
            PreviewedDeployment(name, *(listed(f"deployments/{name}/{part}") for part in OF_DEPLOYMENTS))
            for name in result.deployment_ids
        ],
        changes=[_change(change, listed(change.name)) for change in result.changes[:CHANGES_MAX]],
        more_changes=max(0, len(result.changes) - CHANGES_MAX),
        reasons=[
            PreviewedLimit(reason, *msgspec.structs.astuple(listed(f"overLimit/{number}")))
            for number, reason in enumerate(result.over_limit_reasons, 1)
        ],
        rollouts=[
            PreviewedRollout(first.deployment, first.says, listed(f"rollouts/{first.deployment}/first"))
            for first in result.rollouts
        ],
        # The properties that layers of a changed device set to different values, each once.
        conflicts=list(dict.fromkeys(itertools.chain.from_iterable(map(conflicts, stacks)))),
        readiness=_readiness(request, previewed),
        advice=previewed.advice,
        refused=refused_lines(previewed.refused),
        as_of={
            stream_name(number): AsOf(vector.partition, vector.fleet)
            for number, vector in sorted(result.vectors.items())
            if previewed.author.scope is None or number in reached
        },
        token=previewed.token,
        token_until=dt.datetime.fromtimestamp(previewed.until / 1000, dt.UTC).isoformat(timespec="seconds"),
    )


def _change(change: ConfigurationChange, devices: PreviewList) -> PreviewedChange:
    property_differences = differences(sections_of(change.before), sections_of(change.after))
    return PreviewedChange.filled(
        devices,
        module=change.module or None,
        before=change.before.digest,
        after=change.after.digest,
        differences=property_differences[:DIFFERENCES_MAX],
        more_differences=max(0, len(property_differences) - DIFFERENCES_MAX),
    )


def _readiness(request: Request, previewed: Preview) -> list[DeploymentReadiness]:
    """The findings in the content of each new deployment."""
    context = context_of(request)
    waivers, answers = current_waivers(context), []
    for envelope in previewed.events.of(FLEET):
        event = envelope.event
        if isinstance(event, DeploymentCreated):
            document = document_of(envelope.subject, event.content, event.labels, event.priority)
            report = check(ReadinessSubject((document,)), context.profile, now=waivers.now, waivers=waivers.all)
            answers.append(DeploymentReadiness.of(request, report, waivers, deployment=envelope.subject))
    return answers


# The most important first.
_SENTENCES = {
    "unmanaged": "would be left without any deployment, and keep their configuration",
    "reconfigured": "would get another configuration",
    "overLimit": "would keep their configuration, because the new one is over a limit",
    "again": "would get the same configuration again",
    "managed": "without a deployment would get one",
    "registered": "would be registered",
    "retired": "would be retired",
}
