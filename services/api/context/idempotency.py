"""The header `Idempotency-Key`: a write that is sent again with the same key is done once (decisions/0041)."""

import hashlib
import re
from typing import cast

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from events.log.connect import Client, answering
from events.log.keys import FLEET, key
from events.log.redis import COMMANDS_REMEMBERED_MS
from events.producer.keys import CommandKey
from services.api.context.request import caller_of, context_of, preview_request_of
from services.api.http.errors import BAD_REQUEST, INTERNAL, BodyInvalid, IdempotencyKeyReused

HEADER = "Idempotency-Key"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def begin(client: Client, name: str, digest: str) -> bytes | None:
    """Store a request under its key. Returns its answer if it repeats a request that was answered, else `None`.

    Raises:
        IdempotencyKeyReused: another request was stored under the name.
        LogUnavailable: Redis did not answer.
    """
    with answering():
        pipe = client.pipeline(transaction=False)  # type: ignore[no-untyped-call, unused-ignore]
        pipe.set(_key_of(name), digest, nx=True, px=COMMANDS_REMEMBERED_MS)
        pipe.get(_key_of(name))
        pipe.get(_key_of(f"{name}:answer"))
        stored, answer = pipe.execute()[1:]
    if stored != digest.encode():
        raise IdempotencyKeyReused
    return cast("bytes | None", answer)


def finish(client: Client, name: str, answer: bytes = b"") -> None:
    """Store that a request was answered; `answer` is empty unless it is known to hold no keys and secrets."""
    with answering():
        client.set(_key_of(f"{name}:answer"), answer, px=COMMANDS_REMEMBERED_MS)


def _key_of(name: str) -> str:
    return key(FLEET, f"idempotency:{name}")


def name_of(request: Request) -> str | None:
    """The name under which a request's key is stored, `None` without one and for a dry run; or BodyInvalid."""
    text = request.headers.get(HEADER)
    if text is None:
        return None
    if not _KEY.fullmatch(text):
        raise BodyInvalid(f"{HEADER} has 1 to 255 printable ASCII characters without spaces")
    preview_request = preview_request_of(request)
    if preview_request is not None and preview_request.is_dry_run:
        return None
    # Two callers may use the same key: each has names of their own.
    caller = caller_of(request)
    identity = str(caller.principal) if caller.scope is None else f"{caller.principal} within {caller.scope.text}"
    return digest_of(identity, text)[:32]


def digest_of(*parts: str | bytes) -> str:
    """The SHA-256 of some parts, in hexadecimal digits."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        # With the length in front, ("ab", "c") and ("a", "bc") differ.
        whole.update(b"%d:" % len(data))
        whole.update(data)
    return whole.hexdigest()


async def note_key(request: Request) -> None:
    """Before a write: store its key, and whether the request was answered before.

    Raises:
        As `name_of` and `begin`.
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
    answer = await run_in_threadpool(begin, context_of(request).client, name, digest)
    request.state.idempotency_name = name
    request.state.command_key = command_key(name, digest, is_answered=answer is not None)


def command_key(name: str, digest: str, *, is_answered: bool = False) -> CommandKey:
    """The prefix of the ids of a request's commands."""
    # With the digest in it, a request that reuses a forgotten key does not pass for the request before it.
    return CommandKey(f"{name}:{digest[:32]}", is_answered)


async def settle_key(request: Request, status: int) -> None:
    """After a write: keep the key of a request that succeeded, and free the key of a rejected one.

    Raises:
        LogUnavailable: Redis did not answer. A repeat is still recognised by the ids of its commands in the log.
    """
    name: str | None = getattr(request.state, "idempotency_name", None)
    if name is None or request.state.command_key.is_answered:
        return
    client = context_of(request).client
    # After a 5xx part of the work may be done: the key stays with the request, and a repeat goes on from there.
    if status < BAD_REQUEST.status:
        await run_in_threadpool(finish, client, name)
    elif status < INTERNAL.status:
        with answering():
            # The key of a rejected request can be used for another.
            await run_in_threadpool(client.delete, _key_of(name))
