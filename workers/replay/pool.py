"""The processes of a replay: each replays one stream at a time, and a process that dies is replaced."""

import contextlib
import os
import selectors
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from events.log.errors import LogUnavailable, ObjectStoreUnavailable
from events.log.keys import name
from events.processes.child import Child
from workers.replay.report import ChildMessage, Done, Failed, ReplayRequest, StreamProgress, Unavailable

ATTEMPTS_MAX = 3
_END_SECONDS = 10.0


class ProcessDied(Exception):
    """A process of the replay died `ATTEMPTS_MAX` times over the same stream."""

    def __init__(self, stream: int, code: int) -> None:
        super().__init__(f"the process that replays {name(stream)} ended {ATTEMPTS_MAX} times, with exit code {code}")
        self.stream, self.code = stream, code


class _Child:
    def __init__(self, request: ReplayRequest, environment: Mapping[str, str]) -> None:
        self.stream: int | None = None
        self.unavailable: Unavailable | None = None
        self._child = Child(
            [sys.executable, "-m", "workers.replay.child", msgspec.json.encode(request).decode()],
            environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.process, self._partial_line = self._child.process, b""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._stdin, self.stdout = self.process.stdin, self.process.stdout

    def ask(self, stream: int) -> None:
        self.stream = stream
        # A dead process is detected when its output ends.
        with contextlib.suppress(BrokenPipeError):
            self._stdin.write(b"%d\n" % stream)
            self._stdin.flush()

    def messages(self) -> list[ChildMessage] | None:
        """The messages since the last call; `None` when the output has ended."""
        data = os.read(self.stdout.fileno(), 1 << 20)
        if not data:
            return None
        *lines, self._partial_line = (self._partial_line + data).split(b"\n")
        return [msgspec.json.decode(line, type=ChildMessage) for line in lines]

    def end(self) -> int:
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        self.stdout.close()
        return self._child.end(_END_SECONDS)


def replay_streams(
    request: ReplayRequest, streams: Sequence[int], *, processes: int, environment: Mapping[str, str]
) -> Iterator[StreamProgress]:
    """Replay every stream in child processes, and yield their messages as they arrive.

    Raises:
        ProcessDied: a process died three times over the same stream.
        LogUnavailable, ObjectStoreUnavailable: it died because Redis or the archive did not answer.
    """
    waiting, deaths = deque(streams), dict.fromkeys(streams, 0)
    children: list[_Child] = []
    with selectors.DefaultSelector() as selector:

        def start() -> None:
            child = _Child(request, environment)
            children.append(child)
            selector.register(child.stdout, selectors.EVENT_READ, child)
            child.ask(waiting.popleft())

        try:
            for _ in range(min(processes, len(waiting))):
                start()
            while any(child.stream is not None for child in children):
                for selected, _ in selector.select():
                    child: _Child = selected.data
                    messages = child.messages()
                    for message in messages or ():
                        if isinstance(message, Unavailable):
                            child.unavailable = message
                            continue
                        yield message
                        if isinstance(message, Done | Failed):
                            child.stream = None
                            if waiting:
                                child.ask(waiting.popleft())
                    if messages is None:
                        selector.unregister(selected.fileobj)
                        children.remove(child)
                        code = child.end()
                        if child.stream is None:
                            continue
                        deaths[child.stream] += 1
                        if deaths[child.stream] == ATTEMPTS_MAX:
                            if child.unavailable is None:
                                raise ProcessDied(child.stream, code)
                            if child.unavailable.url is None:
                                raise LogUnavailable(child.unavailable.why)
                            raise ObjectStoreUnavailable(child.unavailable.url, child.unavailable.why)
                        waiting.appendleft(child.stream)
                        start()
        finally:
            for child in children:
                if child.stream is not None:
                    child.process.kill()
                child.end()
