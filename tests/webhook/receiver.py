"""A receiver of webhooks: a real HTTP or HTTPS server on a port of its own, which answers as it is told to."""

import contextlib
import hashlib
import hmac
import json
import ssl
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from typing_extensions import override


class Received:
    """One request, as it came."""

    def __init__(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.path, self.headers, self.body = path, headers, body
        self.event: Any = json.loads(body)
        self.status = 0

    @property
    def id(self) -> str:
        return str(self.event["id"])

    def is_signed_with(self, secret: str) -> bool:
        """Whether the signature is right, as the Standard Webhooks convention has it."""
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + self.body
        digest = hmac.new(b64decode(secret.removeprefix("whsec_")), signed, hashlib.sha256).digest()
        return self.headers["webhook-signature"] == "v1," + b64encode(digest).decode()


class Receiver:
    """Takes requests; `answer` gives the status of each, by what came."""

    def __init__(self, *, host: str = "127.0.0.1", certificate: tuple[str, str] | None = None) -> None:
        self.received: list[Received] = []
        self.answer: Callable[[Received], int] = lambda _one: 200
        self.headers: dict[str, str] = {}
        self._server = ThreadingHTTPServer((host, 0), self._handler())
        self.port = self._server.server_address[1]
        self.scheme = "http" if certificate is None else "https"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/hook"

    @property
    def taken(self) -> list[Received]:
        """What was answered with success, in its order."""
        return [one for one in self.received if one.status == 200]

    def ids(self) -> list[str]:
        return [one.id for one in self.taken]

    @contextlib.contextmanager
    def listening(self) -> Iterator["Receiver"]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                one = Received(self.path, headers, body)
                one.status = receiver.answer(one)
                receiver.received.append(one)
                self.send_response(one.status)
                for name, value in {"content-length": "0", **receiver.headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            @override
            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        Handler.timeout = 30
        return Handler


@contextlib.contextmanager
def receiver(**how: Any) -> Iterator[Receiver]:
    """A receiver until the end of the block."""
    with Receiver(**how).listening() as listening:
        yield listening
