"""One HTTP connection: uvicorn's, with a time limit for the headers of a request, and our answer to malformed HTTP."""

import asyncio
from typing import Any

import h11
import msgspec
import uvicorn
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

from events.clock import now_ms
from services.api.http.errors import BAD_REQUEST, hub_error

HEADERS_BYTES_MAX = 32 * 1024
"""Limit for the first line and the headers of a request together."""


class StrictFraming(h11.Connection):
    """Rejects a request whose end is ambiguous (RFC 9112, section 6.1)."""

    # h11 ignores the Content-Length of such a request. A proxy in front that ignores the Transfer-Encoding instead would take
    # the rest of the body for the next request, of another caller.

    refusal = ""
    """Why this class rejected the last request; empty if h11 rejected it."""

    @override
    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            names = {name for name, _ in event.headers}
            if {b"transfer-encoding", b"content-length"} <= names:
                self.refusal = "a request has the header Content-Length or Transfer-Encoding, not both; leave one out"
            elif b"transfer-encoding" in names and event.http_version < b"1.1":
                self.refusal = "Transfer-Encoding requires HTTP/1.1; send Content-Length"
            else:
                self.refusal = ""
            if self.refusal:
                raise h11.RemoteProtocolError(self.refusal)
        return event


def connection_class(seconds_max: float) -> type[asyncio.Protocol]:
    """The class of connections that close if the headers of a request do not arrive within this time, in seconds.

    The time starts with the connection and after each answer; the rest of a body that no handler read counts towards it.
    """

    class Connection(H11Protocol):
        _until_request: asyncio.TimerHandle | None = None

        @override
        def __init__(self, config: uvicorn.Config, *args: Any, **more: Any) -> None:
            super().__init__(config, *args, **more)
            self.conn: StrictFraming = StrictFraming(h11.SERVER, HEADERS_BYTES_MAX)

        @override
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait_for_a_request()

        @override
        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        @override
        def handle_events(self) -> None:
            super().handle_events()
            request: Any = self.cycle  # None before the first request
            if request is not None and not request.response_complete:
                self._stop_waiting()

        @override
        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.cycle.response_complete:
                self._wait_for_a_request()

        @override
        def shutdown(self) -> None:
            # A TLS transport that is closed twice cannot be aborted any more, and the server would wait for it.
            if not self.transport.is_closing():
                super().shutdown()

        @override
        def send_400_response(self, msg: str) -> None:
            if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
                self.transport.close()  # An answer is being sent already: a second one would corrupt it.
                return
            # The request has not reached the application: no handler, path or request id exists.
            error = hub_error(BAD_REQUEST, self.conn.refusal or msg, request_id="none", at=now_ms())
            body = msgspec.json.encode(error)
            headers = [
                ("content-type", "application/json"),
                ("content-length", str(len(body))),
                ("iothub-errorcode", BAD_REQUEST.code),
                ("connection", "close"),
            ]
            answer = h11.Response(status_code=BAD_REQUEST.status, headers=headers, reason="Bad Request")
            for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

        def _wait_for_a_request(self) -> None:
            self._stop_waiting()
            self._until_request = self.loop.call_later(seconds_max, self._end)

        def _end(self) -> None:
            if not self.transport.is_closing():
                self.transport.close()

        def _stop_waiting(self) -> None:
            if self._until_request is not None:
                self._until_request.cancel()
                self._until_request = None

    return Connection
