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
from events.deployment.facts import DeploymentCreated
from events.log.keys import name as stream_name
from events.manifest.merge import Conflict, conflicts
from events.preview.difference import Difference, differences
from events.preview.errors import PreviewDiffers
from events.preview.outcome import OF_DEPLOYMENTS, Change, Outcome, page_of_list, sections_of
from events.producer.errors import Command
from events.producer.readiness import document_of
from events.readiness.check import check
from events.readiness.subject import Subject
from events.view_store.querying import ContinuationInvalid
from events.wording import counted
from services.api.context.api_context import Room
from services.api.context.callers import Asked, ListPage
from services.api.context.dry_run import Preview
from services.api.context.pages import PAGE_MAX, DevicePage
from services.api.context.request import author_of, page_of, room_of
from services.api.http.access import SERVICE_CONNECT, Access
from services.api.http.json_answer import AnswerBody, JsonAnswer
from services.api.http.request_costs import LINES
from services.api.v1.device_assignment import AsOf
from services.api.v1.facts import FACTS_BODY, RefusedLine, commands_of, refused_lines
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
    differences: tuple[Difference, ...]
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
    facts: int
    affected: PreviewList
    changed: PreviewList
    reconfigured: PreviewList
    unmanaged: PreviewList
    managed: PreviewList
    held_back: PreviewList
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


@router.post("/preview", openapi_extra=FACTS_BODY)
@Access(SERVICE_CONNECT, scope="handler", cost=LINES)  # Each line requires the permission of its command, too.
async def preview(
    request: Request,
    list_: Annotated[str | None, Query(alias="list", description="One of the answer's lists, page by page.")] = None,
    top: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
    continuation: Annotated[str | None, Query()] = None,
) -> JsonAnswer[PreviewAnswer | DevicePage]:
    """What commands would do, given as for `/v1/facts`, at most 1000 of them; nothing is written, not even a secret.

    A single command that would be refused is refused here the same way. Every other write takes `?preview=true` and answers
    as this does. The `token`, sent as `Twinfold-Preview` with the same write, has it done only if the outcome is still the
    same: else it answers 412 and says what differs. `?list=` asks for the ids of one of the lists.
    """
    del list_, top, continuation
    return await run_in_threadpool(_preview, request, await commands_of(request))


def _preview(request: Request, commands: Sequence[Command]) -> JsonAnswer[PreviewAnswer | DevicePage]:
    room = room_of(request)
    author = msgspec.structs.replace(author_of(request), asked=Asked(looks=True, token="", page=page_of(request)))
    glance, producer = room.glance(author)
    report = producer.submit(commands)
    if len(commands) == 1:
        for one in report.refused:
            raise one.error
    return answer_to(request, glance.preview(commands, report.refused if len(commands) > 1 else None))


def answer_to(request: Request, shown: Preview) -> JsonAnswer[PreviewAnswer | DevicePage]:
    """A preview as an answer, or the page of its lists that was asked for."""
    room, asked = room_of(request), shown.author.asked
    if asked is not None and asked.page is not None:
        return JsonAnswer(_page(room, shown.outcome, asked.page))
    return JsonAnswer(_answer(request, room, shown))


def _page(room: Room, outcome: Outcome, wanted: ListPage) -> DevicePage:
    digest = outcome.summary().get(wanted.name, (0, ""))[1]
    after = (0, -1)
    if (text := room.continuations.open(wanted.continuation)) is not None:
        try:
            name, shown, *place = msgspec.json.decode(text, type=tuple[str, str, int, int])
        except msgspec.DecodeError:
            raise ContinuationInvalid from None
        if name != wanted.name:
            raise ContinuationInvalid
        if shown != digest:
            raise PreviewDiffers([f"{wanted.name} has other devices by now"])
        after = (place[0], place[1])
    members = outcome.members(wanted.name)
    names, place_after = page_of_list(room.views, outcome, members, after=after, limit=wanted.top)
    sealed = None
    if place_after is not None:
        sealed = room.continuations.seal(canonical.encode([wanted.name, digest, *place_after]).decode())
    return DevicePage(names, sealed)


def _answer(request: Request, room: Room, shown: Preview) -> PreviewAnswer:
    outcome, facts = shown.outcome, shown.facts.by_stream
    listed = functools.partial(_list, room, outcome)
    # Elsewhere, how much is written is about devices that a scoped caller does not reach.
    reached = {number for members in outcome.lists.values() for number, ordinals in members.items() if ordinals}
    return PreviewAnswer(
        says=says(outcome),
        changes_nothing=not outcome.count("affected") and not facts,
        facts=sum(map(len, facts.values())),
        affected=listed("affected"),
        changed=listed("changed"),
        reconfigured=listed("reconfigured"),
        unmanaged=listed("unmanaged"),
        managed=listed("managed"),
        held_back=listed("heldBack"),
        again=listed("again"),
        registered=listed("registered"),
        retired=listed("retired"),
        deployments=[
            PreviewedDeployment(name, *(listed(f"deployments/{name}/{part}") for part in OF_DEPLOYMENTS))
            for name in outcome.deployment_ids
        ],
        changes=[_change(change, listed(change.name)) for change in outcome.changes[:CHANGES_MAX]],
        more_changes=max(0, len(outcome.changes) - CHANGES_MAX),
        reasons=[
            PreviewedLimit(reason, *msgspec.structs.astuple(listed(f"heldBack/{place}")))
            for place, reason in enumerate(outcome.held, 1)
        ],
        rollouts=[
            PreviewedRollout(first.deployment, first.says, listed(f"rollouts/{first.deployment}/first"))
            for first in outcome.rollouts
        ],
        conflicts=_conflicts(outcome),
        readiness=_readiness(request, shown),
        advice=shown.advice,
        refused=refused_lines(shown.refused),
        as_of={
            stream_name(number): AsOf.of(vector)
            for number, vector in sorted(outcome.vectors.items())
            if shown.author.scope is None or number in reached
        },
        token=shown.token,
        token_until=dt.datetime.fromtimestamp(shown.until / 1000, dt.UTC).isoformat(timespec="seconds"),
    )


def _list(room: Room, outcome: Outcome, name: str) -> PreviewList:
    members = outcome.lists.get(name, {})
    examples, _ = page_of_list(room.views, outcome, members, limit=EXAMPLES) if members else ([], None)
    return PreviewList(name, outcome.count(name), examples)


def _change(change: Change, devices: PreviewList) -> PreviewedChange:
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


def _conflicts(outcome: Outcome) -> list[Conflict]:
    """On which properties the layers disagree of those who come to other ones; each once."""
    stacks = (
        [(name, outcome.deployments[name].content) for name in stack if name in outcome.deployments]
        for stack in outcome.stacks[:_STACKS_MAX]
    )
    return list(dict.fromkeys(conflict for contents in stacks for conflict in conflicts(contents)))


def _readiness(request: Request, shown: Preview) -> list[DeploymentReadiness]:
    """What the rules find in the content of each new deployment."""
    room = room_of(request)
    waivers = waivers_at(room)
    found = []
    for envelope in shown.facts.fleet:
        if isinstance(envelope.fact, DeploymentCreated):
            document = document_of(
                envelope.subject, envelope.fact.content, envelope.fact.labels, envelope.fact.priority
            )
            report = check(Subject((document,)), room.profile, now=waivers.now, waivers=waivers.all)
            found.append(DeploymentReadiness.of(request, report, waivers, deployment=envelope.subject))
    return found


def says(outcome: Outcome) -> list[str]:
    """The most important things first, in sentences."""
    sentences = [
        f"{counted(count, 'device')} {text}" for name, text in _SENTENCES.items() if (count := outcome.count(name))
    ]
    return sentences if outcome.count("changed") else [*sentences, "no device changes"]


_SENTENCES = {
    "unmanaged": "would be left without any deployment, and keep what they have",
    "reconfigured": "would get another configuration",
    "heldBack": "would keep what they have, as what they should have is over a limit",
    "again": "would get the same configuration once more",
    "managed": "would come under deployments that were under none",
    "registered": "would be new",
    "retired": "would be gone",
}
