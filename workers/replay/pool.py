"""The processes of a replay: each replays one stream at a time, and one that dies is followed by another."""

import contextlib
import os
import selectors
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from events.log.errors import LogUnavailable
from events.processes.child import Child
from workers.replay.report import Away, ChildMessage, Done, Failed, ReplayRequest, StreamProgress

ATTEMPTS_MAX = 3
_END_SECONDS = 10.0


class ProcessDied(Exception):
    """A process of the replay died again and again over one stream."""

    def __init__(self, stream: int, code: int) -> None:
        super().__init__(f"the process that replayed stream {stream} ended with {code}, {ATTEMPTS_MAX} times")
        self.stream, self.code = stream, code


class _Child:
    def __init__(self, asked: ReplayRequest, environment: Mapping[str, str]) -> None:
        self.stream: int | None = None
        self.away: str | None = None
        self._child = Child(
            [sys.executable, "-m", "workers.replay.child", msgspec.json.encode(asked).decode()],
            environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.process = self._child.process
        self._rest = b""

    def ask(self, stream: int) -> None:
        self.stream = stream
        assert self.process.stdin is not None
        # One that is dead already is found so when it says nothing.
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(b"%d\n" % stream)
            self.process.stdin.flush()

    def heard(self) -> list[ChildMessage] | None:
        """What it said since; `None` when it will say no more."""
        assert self.process.stdout is not None
        data = os.read(self.process.stdout.fileno(), 1 << 20)
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [msgspec.json.decode(line, type=ChildMessage) for line in lines]

    def end(self) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
        return self._child.end(_END_SECONDS)


def told(
    asked: ReplayRequest, streams: Sequence[int], *, processes: int, environment: Mapping[str, str]
) -> Iterator[StreamProgress]:
    """Have every stream replayed, and tell what comes of it as it comes.

    Raises:
        ProcessDied: a process died three times over the same stream.
        LogUnavailable: the last time because Redis did not answer.
    """
    waiting, deaths = deque(streams), dict.fromkeys(streams, 0)
    children: list[_Child] = []
    with selectors.DefaultSelector() as selector:

        def start() -> None:
            child = _Child(asked, environment)
            children.append(child)
            assert child.process.stdout is not None
            selector.register(child.process.stdout, selectors.EVENT_READ, child)
            child.ask(waiting.popleft())

        try:
            for _ in range(min(processes, len(waiting))):
                start()
            while any(child.stream is not None for child in children):
                for selected, _ in selector.select():
                    child: _Child = selected.data
                    heard = child.heard()
                    for one in heard or ():
                        if isinstance(one, Away):
                            child.away = one.why
                            continue
                        yield one
                        if isinstance(one, Done | Failed):
                            child.stream = None
                            if waiting:
                                child.ask(waiting.popleft())
                    if heard is None:
                        selector.unregister(selected.fileobj)
                        children.remove(child)
                        code = child.end()
                        if child.stream is None:
                            continue
                        deaths[child.stream] += 1
                        if deaths[child.stream] == ATTEMPTS_MAX:
                            if child.away is not None:
                                raise LogUnavailable(child.away)
                            raise ProcessDied(child.stream, code)
                        waiting.appendleft(child.stream)
                        start()
        finally:
            for child in children:
                if child.stream is not None:
                    child.process.kill()
                child.end()
