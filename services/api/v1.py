"""Our own paths: what devices run and why, who is in a status, outcomes, reports, and facts from other languages."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
from fastapi import APIRouter, Header, Query, Request, Response
from msgspec import UNSET
from starlette.concurrency import run_in_threadpool

from events.canonical import JsonObject
from events.deployment.advice import Advice
from events.deployment.commands import DeploymentCommand, UpdateDeployment
from events.device.commands import DeviceCommand, PatchTwin, ReportProperties
from events.device.errors import DeviceNotFound
from events.fleet.rows import Own, Row
from events.log.errors import LogUnavailable
from events.log.keys import partition_of
from events.manifest.document import MODULE, by_module, in_modern_form
from events.manifest.merge import Conflict, conflicts
from events.preview.errors import PreviewError
from events.producer.errors import Command
from events.producer.keys import CommandKey
from events.producer.producer import Producer
from events.producer.readiness import report_on
from events.readiness.commands import WaiverCommand
from events.rollout.commands import RecordResults, RolloutCommand
from events.rollout.errors import PlanInvalid
from events.rollout.plan_text import plan_text
from events.secrets.references import extract, mask, references
from events.unique_names import NameTwice, check_unique_names
from events.view_store.fleet_view import Effective
from events.view_store.series import SAMPLES_MAX, SeriesStore
from events.view_store.targeted import Targeted
from events.views.reading import STATUSES, Assignment
from services.api import described
from services.api.answers import JsonAnswer
from services.api.asking import author_of, caller_of, room_of, writer_of
from services.api.bodies import CreateBody, ReportBody, UpdateBody
from services.api.callers import Author, Caller
from services.api.described import answers, refusals
from services.api.errors import BodyInvalid, Forbidden, NotFound, text_of
from services.api.hub import deployment_of, deployment_seen, deployments_seen
from services.api.idempotency import IdempotencyKeys, command_key, digest_of, name_of
from services.api.json_bounds import JsonOutOfBounds, check_bounds
from services.api.members import check_members
from services.api.near import near
from services.api.needs import lacking, needed_for
from services.api.pages import PAGE_MAX, page, place_of
from services.api.paths import DeploymentId, DeviceId, NewDeploymentId, StatusName
from services.api.previewing import digest_of as digest_of_commands
from services.api.readiness import report_shape, waivers_at
from services.api.rollouts import create_of, line_of, rollouts_of
from services.api.room import Room

router = APIRouter(prefix="/v1", tags=["v1"], responses=refusals(described.ErrorAnswer))

POSITION_MAX = 2**53 - 1
BATCH_LINES = 1000
LINES_MAX = 100_000
REFUSED_MAX = 1000
_LINE_BYTES_MAX = 1 << 20
_LINE_VALUES_MAX = 60_000
_BATCH_BYTES = 1 << 20
FACTS_BODY: JsonObject = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-ndjson": {
                "schema": {"type": "string"},
                "example": '{"command": "RegisterDevice", "device_id": "edge-2"}\n'
                '{"command": "PatchTags", "device_id": "edge-2", "tags": {"site": "north"}}\n',
            }
        },
    }
}
_PARTS = ("tags", "desired")
_KINDS: dict[str, type[Command]] = {
    kind.__name__: kind
    for union in (DeviceCommand, DeploymentCommand, RolloutCommand, WaiverCommand)
    for kind in union.__args__
    # How devices stand is read from projections and nothing that a caller says.
    if kind is not RecordResults
}


@router.get("/devices", response_model=None, responses=answers(described.DevicePage))
def devices(
    request: Request,
    top: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
    continuation: Annotated[str | None, Query()] = None,
) -> JsonObject:
    """The ids of all devices, page by page."""
    room = room_of(request)
    within = room.within(caller_of(request))
    after = place_of(room.continuations.open(continuation))
    return page(room, room.view.devices(after=after, limit=top, within=within))


@router.get("/deployments", response_model=None, responses=answers(list[described.DeploymentLine]))
def list_deployments(request: Request, label: Annotated[list[str] | None, Query()] = None) -> list[JsonObject]:
    """The deployments that carry all of some labels (`?label=team=x`), with their counts, times and rollouts in short."""
    labels = dict(_pair(one) for one in label or [])
    seen = list(deployments_seen(request, labels))
    rollouts = rollouts_of(room_of(request), *(name for name, _, _ in seen))
    return [line_of(request, name, document, dict(counts or {}), rollouts[name]) for name, document, counts in seen]


def _pair(label: str) -> tuple[str, str]:
    name, equals, value = label.partition("=")
    if not equals:
        raise BodyInvalid(f"a label is asked for as name=value, not {label[:80]!r}")
    return name, value


@router.get("/devices/{device_id}/effective", response_model=None, responses=answers(described.EffectiveConfiguration))
def effective(request: Request, device_id: DeviceId) -> Response:
    """What a device should run, its layers and versions, and why; secrets show as `***`."""
    room = room_of(request)
    found = effective_of(room, device_id)
    return JsonAnswer(
        {
            "deviceId": device_id,
            "managed": found.managed,
            "standing": found.row.standing.value,
            "reason": found.row.reason or None,
            "layers": [layer.id for layer in found.row.stack],
            "versions": found.row.module_versions,
            "configuration": found.row.configuration,
            "modules": mask(found.modules),
            **parts_of(found),
            "outcome": found.outcome,
            "since": found.since,
            "cause": found.cause,
            "asOf": {"partition": found.vector.partition, "fleet": found.vector.fleet},
        }
    )


@router.get("/devices/{device_id}/passed-over", response_model=None, responses=answers(described.PassedOverList))
def passed_over(request: Request, device_id: DeviceId) -> JsonObject:
    """The deployments that target a device and do not apply, each with its reason."""
    room = room_of(request)
    assignment_of(room, device_id)
    found = room.view.passed_over(device_id)
    return {
        "deviceId": device_id,
        "passedOver": [{"deployment": one.deployment_id, "why": one.why.value, "by": one.by or None} for one in found],
    }


def parts_of(found: Effective) -> JsonObject:
    """What configurations give the device's own twin, and single modules; nothing where none ever gave them anything."""
    own, shown = found.row.own, _module_lines(found.row)
    if own is not UNSET:
        shown["device"] = {"desired": found.own or {}, **_own_line(own), "reason": own.reason or None}
    return shown


def _module_lines(row: Row) -> JsonObject:
    parts = row.module_parts
    lines = {name: {**_own_line(part), "reason": part.reason or None} for name, part in sorted(parts.items())}
    return {"byModule": lines} if lines else {}


def _own_line(own: Own) -> JsonObject:
    return {"version": own.version, "layers": [layer.id for layer in own.stack]}


def assignment_of(room: Room, device_id: str) -> Assignment:
    """A device's assignment.

    Raises:
        DeviceNotFound: the views do not know the device (yet).
    """
    found = room.view.assignment(device_id)
    if found is None:
        raise DeviceNotFound(device_id)
    return found


@router.get("/devices/{device_id}/modules", response_model=None, responses=answers(described.ModuleStatuses))
def modules(request: Request, device_id: DeviceId) -> JsonObject:
    """Each module's desired and reported runtime status."""
    room = room_of(request)
    twin = room.twins.module(device_id, "$edgeAgent")
    if twin is None:
        raise DeviceNotFound(device_id)
    desired, reported = twin["properties"]["desired"], twin["properties"]["reported"]
    names = {**_by_name(desired), **_by_name(reported)}
    return {
        "deviceId": device_id,
        "modules": {
            name: {
                "desired": _member(_by_name(desired).get(name), "status"),
                "runtimeStatus": _member(_by_name(reported).get(name), "runtimeStatus"),
            }
            for name in sorted(names)
        },
    }


@router.get("/devices/{device_id}/conflicts", response_model=None, responses=answers(described.ConflictList))
def device_conflicts(request: Request, device_id: DeviceId) -> JsonObject:
    """On which properties the device's deployments disagree, and who wins."""
    room = room_of(request)
    found = effective_of(room, device_id)
    both: list[Conflict] = []
    for layers in (found.row.own_part.stack, found.row.stack):
        both += conflicts([(layer.id, by_module(deployment_of(room, layer.id).content)) for layer in layers])
    for module_id, part in sorted(found.row.module_parts.items()):
        contents = ((layer.id, deployment_of(room, layer.id).content) for layer in part.stack)
        both += conflicts([(name, {module_id: by_module(content)[MODULE]}) for name, content in contents])
    return {"deviceId": device_id, "conflicts": [msgspec.to_builtins(one) for one in both]}


@router.post("/devices/{device_id}/reports", status_code=204)
async def report(request: Request, device_id: DeviceId, body: ReportBody) -> None:
    """What a device or one of its modules says of itself."""
    await writer_of(request).do(ReportProperties(device_id, body.patch, body.module_id), author_of(request))


@router.get("/devices/{device_id}/outcomes", response_model=None, responses=answers(described.ChangeList))
def outcomes(
    request: Request, device_id: DeviceId, after: Annotated[int, Query(ge=0, le=POSITION_MAX)] = 0
) -> JsonObject:
    """The outcomes that changed a device's assignment, oldest first, from position after + 1 on."""
    room = room_of(request)
    partition = partition_of(device_id, room.log.partitions)
    changes = changes_of(room, partition, assignment_of(room, device_id).ordinal, after)
    return {"deviceId": device_id, "outcomes": list(changes)}


@router.post("/deployments/{name}", status_code=201, response_model=None, responses=answers(described.Created, 201))
def create(request: Request, name: NewDeploymentId, body: CreateBody) -> JsonObject:
    """Create a deployment, validated in full, with its times and its rollout; answers what its author should know.

    `targeted` is how many devices it targets now, `readiness` has what the rules find in its content.
    """
    room = room_of(request)
    deployment, rollout = create_of(name, body)
    try:
        told = room.do_together(author_of(request), deployment, *([] if rollout is None else [rollout]))
    except PlanInvalid as error:
        raise PlanInvalid(name, f"rollout.{error.element}", error.rule) from error
    targeted, advice = targeted_now(request, name, told)
    waivers = waivers_at(room)
    report = report_on(deployment, room.profile, waivers=waivers.all, now=waivers.now)
    return {
        "id": name,
        "targeted": targeted,
        "advice": [msgspec.to_builtins(one) for one in advice],
        "readiness": report_shape(request, report, waivers),
        "planText": None if rollout is None else msgspec.to_builtins(plan_text(rollout.plan)),
    }


def targeted_now(request: Request, name: str, advice: Iterable[Advice]) -> tuple[int | None, list[Advice]]:
    """How many devices a deployment targets that was just written, and what its author should know by now.

    Of layers and bases that outrank one another, those are told that have a device in common.
    """
    room = room_of(request)
    targeting = Targeted(room.log, room.views, room.view)
    document, within = deployment_of(room, name), room.within(caller_of(request))
    targeted = targeting.count(name, within=within)
    if targeted is None:
        return None, list(advice)
    met = [one for one in advice if one.rule != "layer-not-above-base" or targeting.meet(name, one.about)]
    return targeted, [*met, *targeting.advice(name, document, targeted, within=within)]


def _masked(content: JsonObject) -> Any:
    return mask(extract(content, new_id=lambda: "0")[0])


@router.put("/deployments/{name}", response_model=None, responses=answers(described.Created))
def update(
    request: Request, name: DeploymentId, body: UpdateBody, if_match: Annotated[str | None, Header()] = None
) -> JsonObject:
    """Change what may change of a deployment; what is left out stays. Says so if a content was sent that is another."""
    room = room_of(request)
    command = UpdateDeployment(name, body.target_condition, body.priority, body.labels, body.metrics, if_match or "*")
    targeted, said = targeted_now(request, name, room.do(command, author_of(request)))
    if body.content is not None and _masked(in_modern_form(body.content)) != _masked(deployment_of(room, name).content):
        said.append(Advice("content-immutable", f"{name} keeps its content; another one is another deployment"))
    return {"id": name, "targeted": targeted, "advice": [msgspec.to_builtins(one) for one in said]}


@router.get("/deployments/{name}/status", response_model=None, responses=answers(described.Counts))
def status(request: Request, name: DeploymentId) -> JsonObject:
    """How many devices are in each status; each count is that of its list."""
    _, counts = deployment_seen(request, name)
    return {"id": name, "counts": dict(counts)}


@router.get("/deployments/{name}/series", response_model=None, responses=answers(described.Series))
def series(
    request: Request,
    name: DeploymentId,
    since: Annotated[int, Query(ge=0, le=POSITION_MAX)] = 0,
    limit: Annotated[int, Query(ge=1, le=SAMPLES_MAX)] = SAMPLES_MAX,
) -> JsonObject:
    """The course of a deployment's counts and metrics, sampled about once a minute; times in milliseconds."""
    if caller_of(request).scope is not None:
        raise Forbidden("they are limited to a scope, and samples are of the whole fleet")
    room = room_of(request)
    deployment_of(room, name)
    samples = SeriesStore(room.client).read(name, since=since, until=room.until, limit=limit)
    return {"id": name, "samples": [msgspec.to_builtins(one) for one in samples]}


@router.get("/deployments/{name}/status/{which}", response_model=None, responses=answers(described.DevicePage))
def members(
    request: Request,
    name: DeploymentId,
    which: StatusName,
    top: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
    continuation: Annotated[str | None, Query()] = None,
) -> JsonObject:
    """Who is in a status, page by page: no device twice, and none missed that stood throughout."""
    if which not in STATUSES:
        raise NotFound(f"no status {which[:40]!r}; there are {', '.join(STATUSES)}")
    room, within = room_of(request), room_of(request).within(caller_of(request))
    if within is None:
        deployment_of(room, name)
    else:
        deployment_seen(request, name)
    after = place_of(room.continuations.open(continuation))
    return page(room, room.view.page(name, which, after=after, limit=top, within=within))


@router.post("/facts", response_model=None, responses=answers(described.Written), openapi_extra=FACTS_BODY)
async def facts(request: Request) -> JsonObject:
    """Commands, one JSON object a line (`{"command": "PatchTags", "device_id": …}`), in order and in batches.

    With the token of a preview they are at most 1000, and looked at once more all together.
    """
    room, author, name = room_of(request), author_of(request), name_of(request)
    if author.asked is not None:
        if author.asked.looks:
            raise BodyInvalid("lines are previewed at POST /v1/preview")
        return _shape(await run_in_threadpool(_write_shown, room, author, await commands_of(request), name))
    written, refused = 0, list[tuple[int, str]]()
    async for first, lines in batches(request):
        try:
            batch = await run_in_threadpool(_write_batch, room, author, _Batch(first, lines), caller_of(request), name)
        except LogUnavailable as error:
            raise LogUnavailable(f"{error}; lines before {first} are done, send the others again") from error
        written += batch.written
        refused += batch.refused
        if len(refused) > REFUSED_MAX:
            raise BodyInvalid(_too_many_refused(refused[0], written, after=first + len(lines) - 1))
    return _shape(BatchAnswer(written, tuple(refused)))


class BatchAnswer(msgspec.Struct, frozen=True):
    """What became of some lines: how many facts are in the log, and the number and the error of each line that was refused."""

    written: int
    refused: tuple[tuple[int, str], ...]


class _Batch(NamedTuple):
    first: int
    lines: list[bytes]


_batch_answers = msgspec.json.Decoder(BatchAnswer)


def _shape(answer: BatchAnswer) -> JsonObject:
    return {
        "written": answer.written,
        "refused": [{"line": number, "error": error} for number, error in answer.refused],
    }


def _once(room: Room, name: str | None, digest: str, write: Callable[[CommandKey | None], BatchAnswer]) -> BatchAnswer:
    """Write a batch, or answer what became of it when it came with the same key before."""
    if name is None:
        return write(None)
    keys = IdempotencyKeys(room.client)
    if (known := keys.begin(name, digest)) is not None:
        return _batch_answers.decode(known)
    answer = write(command_key(name, digest))
    # What could not be kept is not lost: the ids of its commands are in the log.
    with contextlib.suppress(LogUnavailable):
        keys.finish(name, msgspec.json.encode(answer))
    return answer


def _write_batch(room: Room, author: Author, batch: _Batch, caller: Caller, name: str | None) -> BatchAnswer:
    first, lines = batch

    def write(key: CommandKey | None) -> BatchAnswer:
        with room.producer(msgspec.structs.replace(author, key=key)) as producer:
            try:
                return _submit(producer, batch, caller)
            except PreviewError as error:
                if first > 1 or producer.written:
                    error.add(_done(first, producer.written))
                raise

    return _once(room, None if name is None else f"{name}:{first}", digest_of(*lines), write)


def _too_many_refused(first: tuple[int, str], written: int, *, after: int) -> str:
    line, error = first
    return (
        f"over {REFUSED_MAX} lines are refused, the first of them line {line}: {error[:500]};"
        f" lines up to {after} were read and gave {written} facts, and the others were not read"
    )


def _done(first: int, more: int) -> str:
    """What is written of a body that was left at a batch, of whose own facts some may be written as well."""
    before = f"lines before {first} are done" if first > 1 else ""
    return " and ".join(
        filter(None, (before, f"{more} facts of the lines from {first} on are written" if more else ""))
    )


def _write_shown(room: Room, author: Author, commands: Sequence[Command], name: str | None) -> BatchAnswer:
    def write(key: CommandKey | None) -> BatchAnswer:
        with room.producer(msgspec.structs.replace(author, key=key), *commands) as producer:
            report = producer.submit(commands)
        return BatchAnswer(report.written, tuple((one.index + 1, text_of(one.error)) for one in report.refused))

    return _once(room, name, digest_of_commands(commands), write)


async def commands_of(request: Request) -> list[Command]:
    """All commands of a body that is looked at as a whole, which has at most 1000 lines.

    Raises:
        BodyInvalid: it has more, or a line is no command.
        Forbidden: a command is not theirs to give.
    """
    lines: list[bytes] = []
    async for _, some in batches(request):
        lines += some
        if len(lines) > BATCH_LINES:
            raise BodyInvalid(f"a preview has at most {BATCH_LINES} lines, and so has what comes with its token")
    return await run_in_threadpool(_commands, lines, caller_of(request))


def _commands(lines: Sequence[bytes], caller: Caller) -> list[Command]:
    return [allowed(command_of(line), caller) for line in lines]


def _submit(producer: Producer, batch: _Batch, caller: Caller) -> BatchAnswer:
    commands, refused = list[tuple[int, Command]](), list[tuple[int, str]]()
    for number, line in enumerate(batch.lines, batch.first):
        try:
            commands.append((number, allowed(command_of(line), caller)))
        except (BodyInvalid, Forbidden) as error:
            refused.append((number, text_of(error)))
    report = producer.submit_numbered(commands)
    refused += [(one.index, text_of(one.error)) for one in report.refused]
    return BatchAnswer(report.written, tuple(sorted(refused)))


def allowed(command: Command, caller: Caller) -> Command:
    """The command, where it is theirs to give.

    Raises:
        Forbidden: it is not.
    """
    need = needed_for(command)
    if not caller.may(need):
        raise Forbidden(lacking(need, caller.rights))
    return command


def command_of(line: bytes) -> Command:
    """A command from its line.

    Raises:
        BodyInvalid: no JSON object, an unknown command, or a member of a wrong name or type, or given twice.
    """
    try:
        check_bounds(line, values_max=_LINE_VALUES_MAX)
        check_unique_names(line)
        members_ = msgspec.json.decode(line, type=dict[str, Any])
        kind = _kind_of(members_.pop("command", ""))
        check_members(members_, kind)
        for part in _PARTS if kind is PatchTwin else ():
            if part in members_ and members_[part] is None:
                raise BodyInvalid(
                    f'{part}: null is no patch; leave it out, or send "clear": ["{part}"] to remove all of it'
                )
        # Whoever may read the registry sees keys in plain: a password that is referred to must not become one.
        if references(members_.get("authentication")):
            raise BodyInvalid("a key is given itself, not as a reference")
        return msgspec.convert(members_, kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, JsonOutOfBounds, NameTwice) as error:
        raise BodyInvalid(str(error)) from error


def _kind_of(command: object) -> type[Command]:
    if isinstance(command, str) and command in _KINDS:
        return _KINDS[command]
    closest = [name for name in near(str(command)[:80], _KINDS)[:1] if isinstance(command, str)]
    meant = f"; did you mean {closest[0]!r}?" if closest else ""
    raise BodyInvalid(f"command must be one of {', '.join(sorted(_KINDS))}{meant}")


async def batches(request: Request) -> Any:
    """Lines of a body as they arrive, with the number of the first, counted from 1: 1000 of them, or a megabyte.

    How they are parted follows from the lines alone, so that a body that is sent again has the same batches.

    Raises:
        BodyInvalid: a line is too long, or there are too many.
    """
    lines: list[bytes] = []
    first, rest = 1, b""
    async for chunk in request.stream():
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LINE_BYTES_MAX:
            raise BodyInvalid(f"line {first + len(lines) + len(whole)} is over {_LINE_BYTES_MAX} bytes")
        lines += whole
        while count := _whole_batch(lines):
            yield first, lines[:count]
            first, lines = first + count, lines[count:]
            if first > LINES_MAX and (lines or rest):
                raise BodyInvalid(f"a request has at most {LINES_MAX} lines; those before line {first} are done")
    lines += [rest] if rest.strip() else []
    while lines:
        count = _whole_batch(lines) or len(lines)
        yield first, lines[:count]
        first, lines = first + count, lines[count:]


def _whole_batch(lines: Sequence[bytes]) -> int:
    """How many lines from the first on are a batch; 0 where they are not enough yet."""
    size = 0
    for count, line in enumerate(lines[:BATCH_LINES], 1):
        size += len(line)
        if size >= _BATCH_BYTES or count == BATCH_LINES:
            return count
    return 0


def effective_of(room: Room, device_id: str) -> Effective:
    """As `assignment_of`, with what it gives."""
    found = room.view.effective(device_id)
    if found is None:
        raise DeviceNotFound(device_id)
    return found


def changes_of(
    room: Room, partition: int, ordinal: int, after: int, *, upto: int | None = None
) -> Iterator[JsonObject]:
    """The changes of a device's assignment by outcomes at positions after + 1 to `upto`, or to the newest; oldest first."""
    for recorded in room.recent.recorded(partition, after=after, upto=upto):
        for change in recorded.changes:
            if ordinal in change.members:
                yield {
                    "outcome": recorded.position,
                    "at": recorded.at,
                    "standing": change.after.standing.value,
                    "layers": [layer.id for layer in change.after.stack],
                    "configuration": change.after.configuration,
                    "versions": change.after.module_versions,
                    **({} if change.after.own is UNSET else {"device": _own_line(change.after.own)}),
                    **_module_lines(change.after),
                }


def _by_name(section: JsonObject) -> JsonObject:
    found: JsonObject = {}
    for group, prefix in (("modules", ""), ("systemModules", "$")):
        members_ = section.get(group)
        if isinstance(members_, dict):
            found |= {f"{prefix}{name}": value for name, value in members_.items()}
    return found


def _member(value: object, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
