"""The header `Idempotency-Key`: a write that is sent again with the same key is done once (decisions/0041)."""

import hashlib
import re

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from events.log.connect import Client, answering
from events.log.keys import FLEET, key
from events.log.redis import COMMANDS_REMEMBERED_MS
from events.producer.keys import CommandKey
from services.api.context.callers import Caller
from services.api.context.request import asked_of, caller_of, context_of
from services.api.http.errors import BAD_REQUEST, INTERNAL, BodyInvalid, IdempotencyKeyReused

HEADER = "Idempotency-Key"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class IdempotencyKeys:
    """The requests of the last 24 hours that came with a key: a digest of each, and its answer once it has one."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def begin(self, name: str, digest: str) -> bytes | None:
        """Note a request; the answer that it got before, if it is a repeat of one that was answered.

        Raises:
            IdempotencyKeyReused: the name is that of another request.
            LogUnavailable: Redis did not answer.
        """
        request, answer = _locations(name)
        with answering():
            pipe = self._client.pipeline(transaction=False)  # type: ignore[no-untyped-call, unused-ignore]
            pipe.set(request, digest, nx=True, px=COMMANDS_REMEMBERED_MS)
            pipe.get(request)
            pipe.get(answer)
            _, noted, answered = pipe.execute()
        if noted != digest.encode():
            raise IdempotencyKeyReused
        found: bytes | None = answered
        return found

    def finish(self, name: str, answer: bytes = b"") -> None:
        """Keep the answer of a request.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        with answering():
            self._client.set(_locations(name)[1], answer, px=COMMANDS_REMEMBERED_MS)

    def forget(self, name: str) -> None:
        """Let a key be used for another request, as this one was refused.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        with answering():
            self._client.delete(_locations(name)[0])


def _locations(name: str) -> tuple[str, str]:
    return key(FLEET, f"idempotency:{name}"), key(FLEET, f"idempotency:{name}:answer")


def name_of(request: Request) -> str | None:
    """What a request's key is known by, as its caller's; `None` where it has none, or only previews.

    Raises:
        BodyInvalid: it is no key.
    """
    text = request.headers.get(HEADER)
    if text is None:
        return None
    if not _KEY.fullmatch(text):
        raise BodyInvalid(f"{HEADER} has 1 to 255 printable ASCII characters without spaces")
    asked = asked_of(request)
    if asked is not None and asked.looks:
        return None
    return digest_of(_identity(caller_of(request)), text)[:32]


def _identity(caller: Caller) -> str:
    return str(caller.principal) if caller.scope is None else f"{caller.principal} within {caller.scope.text}"


def digest_of(*parts: str | bytes) -> str:
    """SHA-256 of some parts, as hexadecimal digits."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(b"%d:" % len(data))
        whole.update(data)
    return whole.hexdigest()


async def note_key(request: Request) -> None:
    """Before a write: note its key, and whether it was answered before.

    Raises:
        BodyInvalid, IdempotencyKeyReused, LogUnavailable: as `name_of` and `IdempotencyKeys.begin`.
    """
    name = name_of(request)
    if name is None:
        return
    digest = digest_of(
        request.method,
        request.scope["path"],
        request.scope["query_string"],
        request.headers.get("if-match", ""),
        await request.body(),
    )
    answer = await run_in_threadpool(IdempotencyKeys(context_of(request).client).begin, name, digest)
    request.state.idempotency_name = name
    request.state.command_key = command_key(name, digest, is_answered=answer is not None)


def command_key(name: str, digest: str, *, is_answered: bool = False) -> CommandKey:
    """What the ids of a request's commands begin with: those of another request are others, whatever became of its key."""
    return CommandKey(f"{name}:{digest[:32]}", is_answered)


async def settle_key(request: Request, status: int) -> None:
    """After a write: what was done is not done again, and what was refused leaves its key free for another request.

    Raises:
        LogUnavailable: Redis did not answer. The ids of its commands are in the log all the same.
    """
    name: str | None = getattr(request.state, "idempotency_name", None)
    if name is None or request.state.command_key.is_answered:
        return
    keys = IdempotencyKeys(context_of(request).client)
    if status < BAD_REQUEST.status:
        await run_in_threadpool(keys.finish, name)
    elif status < INTERNAL.status:
        await run_in_threadpool(keys.forget, name)
