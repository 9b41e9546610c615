"""Limits on a request's body: its bytes, the time until they arrive, the values in its JSON; and its caller's turns."""

import asyncio
import math
from collections import deque
from collections.abc import Iterable

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from events.unique_names import NameTwice, check_unique_names
from services.api.http.json_bounds import JsonOutOfBounds, JsonTooLarge, check_bounds
from services.api.http.request_costs import Cost
from services.api.http.route_index import RouteMatch
from services.api.http.turns import Fairness

_CHECKED_AT_ONCE_BYTES = 64 * 1024
"""Larger bodies are checked in a thread: two megabytes take tens of milliseconds, in which no other caller would be answered."""

_AHEAD_BYTES = 64 * 1024
"""How much of a body is read before its caller's turn: a slow sender takes no turn from the caller's other requests."""


class BodyTooLarge(HTTPException):
    """The body has more bytes than its path accepts."""

    def __init__(self, bytes_max: int) -> None:
        super().__init__(
            413, f"the body has more than {bytes_max} bytes, the limit of this path; send several requests"
        )


class BodyOutOfBounds(HTTPException):
    """The body is JSON with too many values, nested too deep, or with a member twice."""

    def __init__(self, why: JsonOutOfBounds | NameTwice) -> None:
        super().__init__(413 if isinstance(why, JsonTooLarge) else 400, f"the body is not read: {why}")


class BodyTooSlow(HTTPException):
    """The body did not arrive in time."""

    def __init__(self, seconds_max: float) -> None:
        super().__init__(408, f"the body did not arrive within {seconds_max:g} seconds; send the request again")


class BodyCutOff(HTTPException):
    """The client closed the connection before the end of the body, and does not read the answer."""

    def __init__(self) -> None:
        super().__init__(400, "the body ended early")


class RequestLimits:
    """Passes a request on once its body is within the limits of its path, in a turn of its caller.

    Bodies of lines are passed on as they arrive. Here they are limited in bytes and time only; their handler checks each line.
    """

    def __init__(self, app: ASGIApp, *, bytes_max: int, seconds_max: float) -> None:
        self._app, self._bytes_max, self._seconds_max = app, bytes_max, seconds_max
        self._fairness = Fairness()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.

        Raises:
            BodyTooLarge, BodyOutOfBounds, BodyTooSlow, BodyCutOff: before the handler, or inside it as it reads lines.
            TooManyAtOnce: too many of the caller's requests wait already.
        """
        route: RouteMatch = scope["state"]["route"]
        cost = route.cost(scope["query_string"])
        caller = scope["state"]["caller"]
        scope["state"]["fairness"] = self._fairness
        body = _Body(scope, receive, bytes_max=min(cost.bytes_max, self._bytes_max), seconds_max=self._seconds_max)
        await body.read(_AHEAD_BYTES)
        async with self._fairness.turn(str(caller.principal), cost.work):
            if not cost.lines and body.ahead:
                await body.read(math.inf)
                # In a function of its own: the joined body is not kept while the handler runs.
                await _check_body(body.ahead, cost, names=scope["path"].startswith("/v1/"))
            await self._app(scope, body.receive, send)


async def _check_body(messages: Iterable[Message], cost: Cost, *, names: bool) -> None:
    text = b"".join(message.get("body", b"") for message in messages)
    if len(text) > _CHECKED_AT_ONCE_BYTES:
        await run_in_threadpool(_check, text, cost, names=names)
    else:
        _check(text, cost, names=names)


def _check(text: bytes, cost: Cost, *, names: bool) -> None:
    # The hub's paths take the last of two members with the same name, as the hub does.
    try:
        check_bounds(text, values_max=cost.values_max)
        if names:
            check_unique_names(text)
    except (JsonOutOfBounds, NameTwice) as error:
        raise BodyOutOfBounds(error) from None


class _Body:
    """A request's body: read ahead in part, and then passed on to the handler."""

    def __init__(self, scope: Scope, receive: Receive, *, bytes_max: int, seconds_max: float) -> None:
        self.bytes_max = bytes_max
        self._receive, self._seconds_max, self._seconds_left = receive, seconds_max, seconds_max
        headers = dict(scope["headers"])
        self._length = int(headers.get(b"content-length", 0))
        self._more = self._length > 0 or b"transfer-encoding" in headers
        self._bytes = 0
        self.ahead: deque[Message] = deque()
        """What was read and not yet passed on."""

    async def read(self, bytes_enough: float) -> None:
        """Read ahead until this many bytes arrived, or the whole body."""
        while self._more and self._bytes < bytes_enough:
            self.ahead.append(await self._next())

    async def receive(self) -> Message:
        """The next ASGI message, for the handler."""
        if self.ahead:
            return self.ahead.popleft()
        return await (self._next() if self._more else self._receive())

    async def _next(self) -> Message:
        if self._length > self.bytes_max:
            raise BodyTooLarge(self.bytes_max)
        if self._seconds_left <= 0:
            raise BodyTooSlow(self._seconds_max)
        clock = asyncio.get_running_loop().time
        start = clock()
        try:
            # Not `wait_for`, which starts a task, although most bodies have arrived already.
            async with asyncio.timeout(self._seconds_left):
                message = await self._receive()
        except TimeoutError:
            raise BodyTooSlow(self._seconds_max) from None
        self._seconds_left -= clock() - start
        if message["type"] == "http.disconnect":
            raise BodyCutOff
        self._bytes += len(message.get("body", b""))
        if self._bytes > self.bytes_max:
            raise BodyTooLarge(self.bytes_max)
        self._more = message.get("more_body", False)
        return message
