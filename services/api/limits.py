"""What a request's body may take: so many bytes, and so much time until they are here."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyTooLarge(HTTPException):
    """The body has more bytes than it may."""

    def __init__(self, bytes_max: int) -> None:
        super().__init__(413, f"a request has at most {bytes_max} bytes; send several")


class BodyTooSlow(HTTPException):
    """The body did not come in time."""

    def __init__(self, seconds_max: float) -> None:
        super().__init__(408, f"a request's body is here within {seconds_max:g} seconds; send it again")


class BodyCutOff(HTTPException):
    """Whoever sent it went away before its end; nobody reads the answer."""

    def __init__(self) -> None:
        super().__init__(400, "the body ended early")


class BodyLimits:
    """Lets handlers read a body as long as it keeps the limits. What they do between two parts of it does not count."""

    def __init__(self, app: ASGIApp, *, bytes_max: int, seconds_max: float) -> None:
        self._app = app
        self._bytes_max = bytes_max
        self._seconds_max = seconds_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.

        Raises:
            BodyTooLarge, BodyTooSlow, BodyCutOff: inside the handler, as it reads.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        seconds_left, bytes_left, more = self._seconds_max, self._bytes_max, True

        async def limited() -> Message:
            nonlocal seconds_left, bytes_left, more
            if not more:
                return await receive()
            if lengths and int(lengths[0]) > self._bytes_max:
                raise BodyTooLarge(self._bytes_max)
            clock = asyncio.get_running_loop().time
            start = clock()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, seconds_left))
            except TimeoutError:
                raise BodyTooSlow(self._seconds_max) from None
            seconds_left -= clock() - start
            if message["type"] == "http.disconnect":
                raise BodyCutOff
            bytes_left -= len(message.get("body", b""))
            if bytes_left < 0:
                raise BodyTooLarge(self._bytes_max)
            more = message.get("more_body", False)
            return message

        await self._app(scope, limited, send)
