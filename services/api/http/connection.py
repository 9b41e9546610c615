"""One HTTP connection: uvicorn's, with a time limit for the headers of a request, and our answer to malformed HTTP."""

import asyncio
import urllib.parse
from collections import deque
from typing import Any

import httptools
import msgspec
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from events.clock import now_ms
from services.api.http.errors import BAD_REQUEST, hub_error

HEADERS_BYTES_MAX = 32 * 1024
"""Limit for the first line and the headers of a request together."""

_VERSIONS = {"1.0", "1.1"}
_FIELDS_OF_CONNECTIONS = {b"connection", b"proxy-connection"}
_JOINED_BYTES_MAX = 64 * 1024
"""Larger parts are sent as they are: copying them would take longer than another system call."""
_SEPARATORS_BYTES = 4
"""The colon and space, and the end of the line, of each header."""


class RequestMalformed(Exception):
    """The parser accepts a request that is ambiguous or that the API does not support."""


class _JoiningTransport:
    """A transport that sends what is written twice in one step of the event loop in one piece: the head and body of an answer.

    Each write is a system call and a packet, and a client would wake up for the head alone.
    """

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._first = b""

    def write(self, data: bytes) -> None:
        """Send data: with what waits, or else together with the next, at the end of this step at the latest."""
        if self._first:
            first, self._first = self._first, b""
            if len(data) <= _JOINED_BYTES_MAX:
                self._transport.write(first + data)
            else:
                self._transport.write(first)
                self._transport.write(data)
        elif data:
            # Never more than this waits, so that a long answer still learns that its client reads slowly.
            self._first = data
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Close after everything is sent."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._first and not self._transport.is_closing():
            self._transport.write(self._first)
        self._first = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connection(HttpToolsProtocol):
    """A connection that closes if the headers of a request do not arrive in time.

    The time starts with the connection and after each answer; the rest of a body that no handler read counts towards it.
    """

    seconds_max: float
    """The time for the headers of a request; `connection_class` sets it."""
    _until_request: asyncio.TimerHandle | None = None
    _unframed_bytes = 0
    """What arrived since the last end of headers, part of a body, or end of a request: headers, or the framing of a body."""
    _in_headers = False
    _without_upgrade = b""
    """The head of a request for another protocol, without what asks for it, until it is parsed again."""
    _refusal = ""
    """Why the connection ends after the answers to the requests before the malformed one; empty if it goes on."""

    @override
    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._unanswered = deque[RequestResponseCycle]()
        """The request that is being answered, and those that wait for it."""

    @override
    def connection_made(self, transport: Any) -> None:
        super().connection_made(_JoiningTransport(transport, self.loop))  # type: ignore[arg-type]
        self._wait_for_a_request()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        # The superclass ends the last request. The one that is being answered may be an earlier one, such as a stream.
        for cycle in self._unanswered:
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        while data and not self._refusal:
            self._unframed_bytes += len(data)
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                # The parser takes what follows for another protocol, or for the next request: the body of this one would be a
                # request that a proxy in front does not see. So it is parsed as if it did not ask for another protocol.
                data = self._without_upgrade + data[upgrade.args[0] :]
                self._without_upgrade, self._unframed_bytes = b"", 0
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as the superclass
            except httptools.HttpParserError as error:
                self._refuse(_refusal_of(error))
            else:
                data = b""
        # The parser has no limit: without one, a single header, trailer or chunk extension would fill the memory.
        if self._unframed_bytes > HEADERS_BYTES_MAX and not self._refusal:
            self._refuse(f"the headers have more than {HEADERS_BYTES_MAX} bytes")

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_headers = True

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_headers:
            # The parser leaves the white space at the end, which is no part of a value (RFC 9110, section 5.5).
            super().on_header(name, value.rstrip(b" \t"))
        elif name.lower() in _FIELDS_OF_CONNECTIONS:
            # The parser would obey `close`, and read nothing more from a connection that stays open (RFC 9110, section 6.5.1).
            raise RequestMalformed(f"{name.decode('ascii')} is a header, and no field after a body")
        # Any other field after a chunked body is ignored: the request was authenticated and authorized without it.

    @override
    def on_headers_complete(self) -> None:
        self._in_headers, self._unframed_bytes = False, 0
        self._check_headers()
        if self.parser.should_upgrade():
            self._without_upgrade = self._head_without_upgrade()
            return
        # Not httptools.parse_url: the path of a signature and of a route is the text that the client sent.
        raw_path, _, query = self.url.partition(b"?")
        path = raw_path.decode("ascii")
        version = self.parser.get_http_version()
        self.scope["method"] = self.parser.get_method().decode("ascii")
        self.scope["http_version"] = version
        self.scope["path"] = urllib.parse.unquote(path) if "%" in path else path
        self.scope["raw_path"], self.scope["query_string"] = raw_path, query
        self.cycle = RequestResponseCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue and version != "1.0",
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        self._stop_waiting()
        self._unanswered.append(self.cycle)
        if len(self._unanswered) == 1:
            self._start_asgi_task(self.cycle, self.app)
        else:
            # A request that was sent before the answer to the former one waits for it.
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    @override
    def on_body(self, body: bytes) -> None:
        self._unframed_bytes = 0
        super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        self._unframed_bytes = 0
        if not self._without_upgrade:
            super().on_message_complete()

    @override
    def on_response_complete(self) -> None:
        self._unanswered.popleft()
        super().on_response_complete()
        if self.cycle.response_complete:
            self._wait_for_a_request()
            if self._refusal and not self.transport.is_closing():
                self._send_refusal()

    @override
    def shutdown(self) -> None:
        # A TLS transport that is closed twice cannot be aborted any more, and the server would wait for it.
        if not self.transport.is_closing():
            super().shutdown()

    def _check_headers(self) -> None:
        """Reject a request whose end is ambiguous (RFC 9112, section 6.1), or whose host is.

        Raises:
            RequestMalformed: names the header.
        """
        # A proxy in front that reads such a request by other rules would take the rest of its body for the next request, of
        # another caller.
        version, hosts, encodings = self.parser.get_http_version(), 0, list[bytes]()
        size = len(self.url)
        for name, value in self.headers:
            size += len(name) + len(value) + _SEPARATORS_BYTES
            if name == b"host":
                hosts += 1
            elif name == b"transfer-encoding":
                encodings.append(value.lower())
        if size > HEADERS_BYTES_MAX:
            raise RequestMalformed(f"the headers have more than {HEADERS_BYTES_MAX} bytes")
        if version not in _VERSIONS:
            raise RequestMalformed("HTTP/1.1 and HTTP/1.0 are supported")
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            raise RequestMalformed("a request has the header Host once")
        if encodings and version == "1.0":
            raise RequestMalformed("Transfer-Encoding requires HTTP/1.1; send Content-Length")
        if encodings and encodings != [b"chunked"]:
            raise RequestMalformed("Transfer-Encoding is chunked, and no other encoding")
        if self.parser.get_method() == b"CONNECT":
            raise RequestMalformed("CONNECT is for proxies")

    def _head_without_upgrade(self) -> bytes:
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + self.parser.get_http_version().encode()]
        for name, value in self.headers:
            if name == b"connection":
                options = [option.strip() for option in value.split(b",")]
                lines.append(b"connection: " + b", ".join(option for option in options if option.lower() != b"upgrade"))
            elif name != b"upgrade":
                lines.append(name + b": " + value)
        return b"\r\n".join([*lines, b"", b""])

    def _refuse(self, why: str) -> None:
        """Answer a malformed request, after the requests before it, and close the connection."""
        self._refusal = why
        running: Any = self.cycle
        if running is None or running.response_complete:
            self._send_refusal()
        elif not running.more_body:
            # This request is complete, and gets its answer first.
            self.flow.pause_reading()
        elif running.response_started or self.pipeline:
            self.transport.close()  # An answer is being sent already: a second one would corrupt it.
        else:
            # The request whose body is malformed: its handler sends nothing any more.
            running.disconnected = True
            running.message_event.set()
            self._send_refusal()

    def _send_refusal(self) -> None:
        # The request has not reached the application: no handler, path or request id exists.
        error = hub_error(BAD_REQUEST, self._refusal, request_id="none", at=now_ms())
        body = msgspec.json.encode(error)
        head = (
            f"HTTP/1.1 {BAD_REQUEST.status} Bad Request\r\n"
            "content-type: application/json\r\n"
            f"content-length: {len(body)}\r\n"
            f"iothub-errorcode: {BAD_REQUEST.code}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _wait_for_a_request(self) -> None:
        self._stop_waiting()
        self._until_request = self.loop.call_later(self.seconds_max, self._end)

    def _end(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def _stop_waiting(self) -> None:
        if self._until_request is not None:
            self._until_request.cancel()
            self._until_request = None


def connection_class(seconds_max: float) -> type[asyncio.Protocol]:
    """The class of connections with this time limit, in seconds. uvicorn takes a class and makes the connections itself."""
    return type("LimitedConnection", (Connection,), {"seconds_max": seconds_max})


def _refusal_of(error: httptools.HttpParserError) -> str:
    """Why the parser, or a check of ours that it called, rejects a request."""
    cause = error.__context__
    if isinstance(cause, RequestMalformed):
        return str(cause)
    text = str(error)
    if "Content-Length" in text and "Transfer-Encoding" in text:
        return "a request has the header Content-Length or Transfer-Encoding, not both; leave one out"
    return "the path has characters that are not ASCII" if isinstance(cause, UnicodeDecodeError) else text
