"""Requests byte by byte, which no client would send."""

import contextlib
import socket

from tests import waiting
from tests.api.serving import Guarded


class Raw:
    """An answer as it came over a socket."""

    def __init__(self, data: bytes) -> None:
        top, _, self.body = data.partition(b"\r\n\r\n")
        first, *lines = top.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def connect(gate: Guarded) -> socket.socket:
    """A connection to the API; what is waited for too long fails."""
    assert gate.http.base_url.port is not None
    return socket.create_connection(("127.0.0.1", gate.http.base_url.port), timeout=waiting.seconds())


def head(gate: Guarded, method: str, path: str, headers: dict[str, str]) -> bytes:
    """Everything before the body."""
    lines = [
        f"{method} {path} HTTP/1.1",
        *(f"{name}: {value}" for name, value in ({"Host": gate.host} | headers).items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def raw(gate: Guarded, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Raw:
    """A request with a path that no client would leave as it is."""
    length = {"Content-Length": str(len(body)), "Content-Type": "application/json"} if body else {}
    with connect(gate) as wire:
        wire.sendall(head(gate, method, path, {**headers, **length, "Connection": "close"}) + body)
        return Raw(rest(wire))


def rest(wire: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    data = b""
    with contextlib.suppress(ConnectionResetError):  # It may be closed while we still had something to say.
        while chunk := wire.recv(65536):
            data += chunk
    return data


def until(wire: socket.socket, wanted: bytes) -> bytes:
    """What comes until this is in it."""
    data = b""
    while wanted not in data:
        chunk = wire.recv(65536)
        assert chunk, data
        data += chunk
    return data
