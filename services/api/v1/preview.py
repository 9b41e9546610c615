"""`/v1/preview`, and `?preview=true` on every write: what would happen, who would be concerned, and the token to go on with."""

import datetime as dt
from collections.abc import Sequence
from typing import Annotated

import msgspec
from fastapi import Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from events import canonical
from events.canonical import JsonObject
from events.deployment.facts import DeploymentCreated
from events.manifest.merge import Conflict, conflicts
from events.preview.difference import differences
from events.preview.errors import PreviewDiffers
from events.preview.outcome import OF_DEPLOYMENTS, PLAIN, Change, Members, Outcome, page_of_list, sections_of
from events.producer.errors import Command
from events.producer.readiness import document_of
from events.readiness.check import check
from events.readiness.subject import Subject
from events.view_store.querying import ContinuationInvalid
from events.wording import counted
from services.api.context.api_context import Room
from services.api.context.callers import Asked, ListPage
from services.api.context.dry_run import Preview
from services.api.context.pages import PAGE_MAX
from services.api.context.request import author_of, page_of, room_of
from services.api.http.access import SERVICE_CONNECT, Access
from services.api.http.errors import text_of
from services.api.http.json_answer import JsonAnswer
from services.api.http.openapi import answers
from services.api.http.request_costs import LINES
from services.api.v1 import described, described_preview
from services.api.v1.facts import FACTS_BODY, commands_of
from services.api.v1.readiness import ReadinessAnswer, waivers_at
from services.api.v1.router import v1_router

router = v1_router()

EXAMPLES = 3
CHANGES_MAX = 50
DIFFERENCES_MAX = 200
_STACKS_MAX = 200


@router.post(
    "/preview",
    response_model=None,
    responses=answers(described_preview.Preview | described.DevicePage),
    openapi_extra=FACTS_BODY,
)
@Access(SERVICE_CONNECT, scope="handler", cost=LINES)  # Each line requires the permission of its command, too.
async def preview(
    request: Request,
    list_: Annotated[str | None, Query(alias="list", description="One of the answer's lists, page by page.")] = None,
    top: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
    continuation: Annotated[str | None, Query()] = None,
) -> Response:
    """What commands would do, given as for `/v1/facts`, at most 1000 of them; nothing is written, not even a secret.

    A single command that would be refused is refused here the same way. Every other write takes `?preview=true` and answers
    as this does. The `token`, sent as `Twinfold-Preview` with the same write, has it done only if the outcome is still the
    same: else it answers 412 and says what differs. `?list=` asks for the ids of one of the lists.
    """
    del list_, top, continuation
    return await run_in_threadpool(_preview, request, await commands_of(request))


def _preview(request: Request, commands: Sequence[Command]) -> Response:
    room = room_of(request)
    author = msgspec.structs.replace(author_of(request), asked=Asked(looks=True, token="", page=page_of(request)))
    glance, producer = room.glance(author)
    report = producer.submit(commands)
    if len(commands) == 1:
        for one in report.refused:
            raise one.error
    return answer_to(request, glance.preview(commands, report.refused if len(commands) > 1 else None))


def answer_to(request: Request, shown: Preview) -> Response:
    """A preview as an answer, or the page of its lists that was asked for."""
    room, asked = room_of(request), shown.author.asked
    if asked is not None and asked.page is not None:
        return JsonAnswer(_page(room, shown.outcome, asked.page))
    return JsonAnswer(_shape(request, room, shown))


def _page(room: Room, outcome: Outcome, wanted: ListPage) -> JsonObject:
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
    return {"devices": names, "continuation": sealed}


def _shape(request: Request, room: Room, shown: Preview) -> JsonObject:
    outcome = shown.outcome
    changes = [_change(room, outcome, one) for one in outcome.changes[:CHANGES_MAX]]
    # Elsewhere, how much is written is about devices that whoever is scoped does not reach.
    theirs = {number for members in outcome.lists.values() for number, some in members.items() if some}
    body: JsonObject = {
        "says": says(outcome),
        "changesNothing": not outcome.count("affected") and not shown.facts.by_stream,
        "facts": sum(map(len, shown.facts.by_stream.values())),
        **{name: _list(room, outcome, name) for name in PLAIN},
        "deployments": _deployments(room, outcome),
        "changes": changes,
        "moreChanges": max(0, len(outcome.changes) - CHANGES_MAX),
        "reasons": [
            {"reason": reason, **_list(room, outcome, f"heldBack/{place}")}
            for place, reason in enumerate(outcome.held, 1)
        ],
        "rollouts": [
            {
                "deployment": one.deployment,
                "says": one.says,
                "admitted": _list(room, outcome, f"rollouts/{one.deployment}/first"),
            }
            for one in outcome.rollouts
        ],
        "conflicts": [msgspec.to_builtins(one) for one in _conflicts(outcome)],
        "readiness": _readiness(request, shown),
        "advice": [msgspec.to_builtins(one) for one in shown.advice],
        "refused": [{"line": one.index + 1, "error": text_of(one.error)} for one in shown.refused],
        "asOf": {
            f"p{number:02d}": {"partition": at.partition, "fleet": at.fleet}
            for number, at in sorted(outcome.vectors.items())
            if shown.author.scope is None or number in theirs
        },
        "token": shown.token,
        "tokenUntil": dt.datetime.fromtimestamp(shown.until / 1000, dt.UTC).isoformat(timespec="seconds"),
    }
    return body


def _list(room: Room, outcome: Outcome, name: str) -> JsonObject:
    return _named(room, outcome, name, outcome.lists.get(name, {}))


def _named(room: Room, outcome: Outcome, name: str, members: Members) -> JsonObject:
    examples, _ = page_of_list(room.views, outcome, members, limit=EXAMPLES) if members else ([], None)
    return {"list": name, "devices": sum(map(len, members.values())), "examples": examples}


def _deployments(room: Room, outcome: Outcome) -> list[JsonObject]:
    return [
        {"id": name, **{part: _list(room, outcome, f"deployments/{name}/{part}") for part in OF_DEPLOYMENTS}}
        for name in outcome.deployment_ids
    ]


def _change(room: Room, outcome: Outcome, change: Change) -> JsonObject:
    found = differences(sections_of(change.before), sections_of(change.after))
    return {
        **_list(room, outcome, change.name),
        "module": change.module or None,
        "before": change.before.digest,
        "after": change.after.digest,
        "differences": [msgspec.to_builtins(one) for one in found[:DIFFERENCES_MAX]],
        "moreDifferences": max(0, len(found) - DIFFERENCES_MAX),
    }


def _conflicts(outcome: Outcome) -> list[Conflict]:
    """On which properties the layers disagree of those who come to other ones; each once."""
    found: dict[Conflict, None] = {}
    for stack in outcome.stacks[:_STACKS_MAX]:
        contents = [(name, outcome.deployments[name].content) for name in stack if name in outcome.deployments]
        found |= dict.fromkeys(conflicts(contents))
    return list(found)


def _readiness(request: Request, shown: Preview) -> list[JsonObject]:
    """What the rules find in the content of each new deployment."""
    room = room_of(request)
    waivers = waivers_at(room)
    found = []
    for one in shown.facts.fleet:
        if isinstance(one.fact, DeploymentCreated):
            document = document_of(one.subject, one.fact.content, one.fact.labels, one.fact.priority)
            report = check(Subject((document,)), room.profile, now=waivers.now, waivers=waivers.all)
            found.append(
                {"deployment": one.subject, **msgspec.to_builtins(ReadinessAnswer.of(request, report, waivers))}
            )
    return found


def says(outcome: Outcome) -> list[str]:
    """The most important things first, in sentences."""
    said = []
    for name, text in _SENTENCES.items():
        if count := outcome.count(name):
            said.append(f"{counted(count, 'device')} {text}")
    if not outcome.count("changed"):
        said.append("no device changes")
    return said


_SENTENCES = {
    "unmanaged": "would be left without any deployment, and keep what they have",
    "reconfigured": "would get another configuration",
    "heldBack": "would keep what they have, as what they should have is over a limit",
    "again": "would get the same configuration once more",
    "managed": "would come under deployments that were under none",
    "registered": "would be new",
    "retired": "would be gone",
}
