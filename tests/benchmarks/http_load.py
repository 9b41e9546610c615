"""Load over plain HTTP from one thread without an event loop, so that the generator is not what is measured."""

import contextlib
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from tests.api.serving import free_port
from tests.servers import eventually

_PLAIN = """
import sys, uvicorn

async def app(scope, receive, send):
    if scope["type"] == "http":
        headers = [(b"content-length", b"3"), (b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok\\n"})

uvicorn.run(app, port=int(sys.argv[1]), http="httptools", loop="uvloop", lifespan="off", access_log=False,
            log_level="error", server_header=False)
"""


class Load(msgspec.Struct, frozen=True):
    """Requests per second, how long each took, and what each cost the process that answered, in microseconds of a processor."""

    rate: float
    seconds: list[float]
    microseconds: float


@contextlib.contextmanager
def plain_uvicorn() -> Iterator[tuple[str, int]]:
    """uvicorn with a trivial application: its address, and its process."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", _PLAIN, str(port)])
    try:
        eventually(lambda: _accepts(port), what="uvicorn answers")
        yield f"127.0.0.1:{port}", process.pid
    finally:
        process.terminate()
        process.wait()


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def processor_seconds(pid: int) -> float:
    """The processor time of a process so far, all threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load(location: str, make: Callable[[int], bytes], *, pid: int, connections: int, during_seconds: float) -> Load:
    """Send requests for a while, on each connection the next one after the answer to the last; each must have status 200."""
    host, _, port = location.partition(":")
    numbers, seconds = iter(range(sys.maxsize)), list[float]()
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(connections)]
        by_descriptor = {wire.fileno(): wire for wire in wires}
        poll = stack.enter_context(select.epoll())
        sent_at, received = dict[int, float](), dict.fromkeys(by_descriptor, b"")
        before, start = processor_seconds(pid), time.perf_counter()
        for descriptor, wire in by_descriptor.items():
            poll.register(descriptor, select.EPOLLIN)
            wire.sendall(make(next(numbers)))
            sent_at[descriptor] = time.perf_counter()
        while (now := time.perf_counter()) < start + during_seconds:
            for descriptor, _ in poll.poll(1):
                data = received[descriptor] + by_descriptor[descriptor].recv(1 << 16)
                received[descriptor] = data
                if _is_complete(data):
                    assert data[9:12] == b"200", data
                    now = time.perf_counter()
                    seconds.append(now - sent_at[descriptor])
                    sent_at[descriptor], received[descriptor] = now, b""
                    by_descriptor[descriptor].sendall(make(next(numbers)))
        spent, elapsed = processor_seconds(pid) - before, now - start
    return Load(len(seconds) / elapsed, seconds, 1e6 * spent / len(seconds))


def _is_complete(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    _, _, after = head.lower().partition(b"content-length: ")
    return bool(end) and len(body) >= int(after.partition(b"\r\n")[0] or 0)
