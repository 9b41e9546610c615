"""`POST /v1/events`: commands as lines of JSON, for producers in any language."""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from fastapi import Request
from starlette.concurrency import run_in_threadpool

from events.canonical import JsonObject
from events.deployment.commands import DeploymentCommand
from events.device.commands import DeviceCommand, PatchTwin
from events.log.errors import LogUnavailable
from events.preview.errors import PreviewError
from events.producer.errors import Command, Refused
from events.producer.keys import CommandKey
from events.readiness.commands import WaiverCommand
from events.rollout.commands import RecordResults, RolloutCommand
from events.secrets.references import references
from events.unique_names import NameTwice, check_unique_names
from services.api.auth.permissions import lacking, needed_for
from services.api.context.api_context import ApiContext
from services.api.context.callers import Author, Caller
from services.api.context.dry_run import digest_of as digest_of_commands
from services.api.context.idempotency import begin, command_key, digest_of, finish, name_of
from services.api.context.request import author_of, caller_of, context_of
from services.api.http.access import SERVICE_CONNECT, Access
from services.api.http.errors import BodyInvalid, Forbidden, text_of
from services.api.http.json_answer import AnswerBody, JsonAnswer
from services.api.http.json_bounds import JsonOutOfBounds, check_bounds
from services.api.http.request_costs import LINES
from services.api.http.similar_names import near
from services.api.http.unknown_members import check_members
from services.api.v1.router import v1_router

router = v1_router()
BATCH_LINES = 1000
LINES_MAX = 100_000
# Each refused line takes memory until the answer is sent: refusals once came to 32 MB for a request (decision 0036).
REFUSED_MAX = 1000
_LINE_BYTES_MAX = 1 << 20
_LINE_VALUES_MAX = 60_000
_BATCH_BYTES = 1 << 20

EVENTS_BODY: JsonObject = {
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

_KINDS: dict[str, type[Command]] = {
    kind.__name__: kind
    for union in (DeviceCommand, DeploymentCommand, RolloutCommand, WaiverCommand)
    for kind in union.__args__
    # The results of a rollout are read from the projections. A caller must not invent them.
    if kind is not RecordResults
}


class RefusedLine(AnswerBody, order=True):
    """A refused line, counted from 1, and the error."""

    line: int
    error: str


class LinesAnswer(AnswerBody):
    """The result of lines: the number of events that they wrote, and the refused lines."""

    written: int
    refused: list[RefusedLine]


@router.post("/events", openapi_extra=EVENTS_BODY)
@Access(SERVICE_CONNECT, scope="handler", cost=LINES)  # Each line requires the permission of its command, too.
async def events(request: Request) -> JsonAnswer[LinesAnswer]:
    """Write commands, one JSON object per line (`{"command": "PatchTags", "device_id": …}`), in order and in batches.

    With the token of a preview there can be at most 1000 lines, and all are decided together.
    """
    context, author, name = context_of(request), author_of(request), name_of(request)
    if author.preview_request is not None:
        if author.preview_request.is_dry_run:
            raise BodyInvalid("POST /v1/events has no ?preview=true; send the lines to POST /v1/preview")
        return JsonAnswer(await run_in_threadpool(_write_previewed, context, author, await commands_of(request), name))
    answer, caller = LinesAnswer(0, []), caller_of(request)
    async for first, lines in batches(request):
        try:
            batch = await run_in_threadpool(_write_batch, context, author, caller, name, first=first, lines=lines)
        except LogUnavailable as error:
            raise LogUnavailable(f"{error}; lines before {first} are done, send the rest again") from error
        answer.written += batch.written
        answer.refused += batch.refused
        if len(answer.refused) > REFUSED_MAX:
            refused = answer.refused[0]
            raise BodyInvalid(
                f"over {REFUSED_MAX} lines are refused, the first of them line {refused.line}: {refused.error[:500]};"
                f" the lines up to line {first + len(lines) - 1} were read and wrote {answer.written} events,"
                " the rest was not read"
            )
    return JsonAnswer(answer)


def _once(
    context: ApiContext, name: str | None, digest: str, write: Callable[[CommandKey | None], LinesAnswer]
) -> LinesAnswer:
    """Write a batch, or return its stored answer if it was sent with the same idempotency key before."""
    if name is None:
        return write(None)
    if (stored_answer := begin(context.client, name, digest)) is not None:
        return msgspec.json.decode(stored_answer, type=LinesAnswer)
    answer = write(command_key(name, digest))
    # Without a stored answer a repeat is still detected: the ids of the commands are in the log (decision 0041).
    with contextlib.suppress(LogUnavailable):
        finish(context.client, name, msgspec.json.encode(answer))
    return answer


def _write_batch(
    context: ApiContext, author: Author, caller: Caller, name: str | None, *, first: int, lines: Sequence[bytes]
) -> LinesAnswer:
    def write(key: CommandKey | None) -> LinesAnswer:
        commands, refused = list[tuple[int, Command]](), list[RefusedLine]()
        for number, line in enumerate(lines, first):
            try:
                commands.append((number, command_of(line, caller)))
            except (BodyInvalid, Forbidden) as error:
                refused.append(RefusedLine(number, text_of(error)))
        with context.producer(msgspec.structs.replace(author, key=key)) as producer:
            try:
                report = producer.submit_numbered(commands)
            except PreviewError as error:
                # Several commands are appended in chunks: a preview can stop holding after the first of them (decision 0028).
                done = [f"lines before {first} are done"] if first > 1 else []
                if producer.written:
                    done.append(f"{producer.written} events of the lines from {first} on are written")
                if done:
                    error.add(" and ".join(done))
                raise
        refused += (RefusedLine(each.index, text_of(each.error)) for each in report.refused)
        return LinesAnswer(report.written, sorted(refused))

    return _once(context, None if name is None else f"{name}:{first}", digest_of(*lines), write)


def _write_previewed(context: ApiContext, author: Author, commands: Sequence[Command], name: str | None) -> LinesAnswer:
    def write(key: CommandKey | None) -> LinesAnswer:
        with context.producer(msgspec.structs.replace(author, key=key), *commands) as producer:
            report = producer.submit(commands)
        return LinesAnswer(report.written, refused_lines(report.refused))

    return _once(context, name, digest_of_commands(commands), write)


def refused_lines(refused: Iterable[Refused]) -> list[RefusedLine]:
    """Refused commands, whose `index` counts from 0, as lines."""
    return [RefusedLine(each.index + 1, text_of(each.error)) for each in refused]


async def commands_of(request: Request) -> list[Command]:
    """All commands of a body of at most 1000 lines.

    Raises:
        BodyInvalid: the body has more lines, or a line is not a command.
        Forbidden: the caller lacks the permission of a command.
    """
    lines: list[bytes] = []
    async for _, batch in batches(request):
        lines += batch
        if len(lines) > BATCH_LINES:
            raise BodyInvalid(f"a preview, or a request with its token, must have at most {BATCH_LINES} lines")
    caller = caller_of(request)
    return await run_in_threadpool(lambda: [command_of(line, caller) for line in lines])


def command_of(line: bytes, caller: Caller) -> Command:
    """A command from its line.

    Raises:
        BodyInvalid: the line is not a JSON object, the command is unknown, or a member is unknown, repeated or of a wrong
            type.
        Forbidden: the caller lacks the permission of the command.
    """
    try:
        # Before decoding: 7 MiB of small members would hold the interpreter for seconds (decision 0036).
        check_bounds(line, values_max=_LINE_VALUES_MAX)
        check_unique_names(line)
        members_ = msgspec.json.decode(line, type=dict[str, Any])
        kind = _kind_of(members_.pop("command", ""))
        check_members(members_, kind)
        for part in ("tags", "desired") if kind is PatchTwin else ():
            if part in members_ and members_[part] is None:
                raise BodyInvalid(
                    f'{part} must not be null; leave it out, or send "clear": ["{part}"] to remove all of it'
                )
        # Callers with registry read see keys in plain: a reference would show them another secret as a key.
        if references(members_.get("authentication")):
            raise BodyInvalid("authentication must have the key itself, not a reference to a secret")
        command = msgspec.convert(members_, kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, JsonOutOfBounds, NameTwice) as error:
        raise BodyInvalid(str(error)) from error
    permissions = needed_for(command)
    if not caller.may(permissions):
        raise Forbidden(lacking(permissions, caller.permissions))
    return command


def _kind_of(command: object) -> type[Command]:
    if isinstance(command, str) and command in _KINDS:
        return _KINDS[command]
    closest = near(command[:80], _KINDS) if isinstance(command, str) else []
    hint = f"; did you mean {closest[0]!r}?" if closest else ""
    raise BodyInvalid(f"command must be one of {', '.join(sorted(_KINDS))}{hint}")


async def batches(request: Request) -> Any:
    """The lines of a body in batches of 1000 lines or 1 MiB, each with the number of its first line, counted from 1.

    Raises:
        BodyInvalid: a line is longer than 1 MiB, or there are more than 100,000 lines.
    """
    # The batches follow from the lines and not from the chunks of the network: a body that is sent again with the same
    # idempotency key must have the same batches (decision 0041).
    lines: list[bytes] = []
    first, partial_line = 1, b""
    async for chunk in request.stream():
        *whole, partial_line = (partial_line + chunk).split(b"\n")
        if len(partial_line) > _LINE_BYTES_MAX:
            raise BodyInvalid(f"line {first + len(lines) + len(whole)} has more than {_LINE_BYTES_MAX} bytes")
        lines += whole
        while count := _whole_batch(lines):
            yield first, lines[:count]
            first, lines = first + count, lines[count:]
            if first > LINES_MAX and (lines or partial_line):
                raise BodyInvalid(f"a request must have at most {LINES_MAX} lines; lines before {first} are done")
    lines += [partial_line] if partial_line.strip() else []
    while lines:
        count = _whole_batch(lines) or len(lines)
        yield first, lines[:count]
        first, lines = first + count, lines[count:]


def _whole_batch(lines: Sequence[bytes]) -> int:
    """The number of lines of the first batch, 0 if more lines are needed for one."""
    size = 0
    for count, line in enumerate(lines[:BATCH_LINES], 1):
        size += len(line)
        if size >= _BATCH_BYTES or count == BATCH_LINES:
            return count
    return 0
