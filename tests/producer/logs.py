"""Logs that behave as a busy or failing server does, on the memory log."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from typing_extensions import override

from events.envelope import Principal
from events.log.errors import LogUnavailable
from events.log.keys import FLEET
from events.log.memory import MemoryLog
from events.log.port import Chunk, Proposed, Stored
from events.log.wake import WakeFailed
from events.producer.producer import Producer

ADA = Principal.parse("user:ada")


class RacingLog(MemoryLog):
    """Before each of the next appends, somebody else gets in; `sizes` says how many events each append brought."""

    def __init__(self, **how: Any) -> None:
        self.rivals: list[Callable[[], object]] = []
        self.sizes: list[int] = []
        super().__init__(**how)

    @override
    def append(self, batch: Sequence[Proposed], **how: Any) -> tuple[Chunk, ...]:
        self.sizes.append(len(batch))
        if self.rivals:
            self.rivals.pop(0)()
        return super().append(batch, **how)


class FlakyLog(MemoryLog):
    """Writes, and for the next `failures` times loses the answer; for the next `failed_loads` loads it does not answer."""

    failures = failed_loads = 0

    @override
    def load(self, subjects: Sequence[str], *, fleet: bool = False) -> list[Stored]:
        if self.failed_loads:
            self.failed_loads -= 1
            raise LogUnavailable("the server does not answer")
        return super().load(subjects, fleet=fleet)

    @override
    def append(self, batch: Sequence[Proposed], **how: Any) -> tuple[Chunk, ...]:
        chunks = super().append(batch, **how)
        if self.failures:
            self.failures -= 1
            raise LogUnavailable("the connection broke")
        return chunks


class Bell:
    """A waker that remembers whom it woke; a broken one wakes nobody."""

    def __init__(self, *, broken: bool = False) -> None:
        self.woken: list[set[int]] = []
        self._broken = broken

    def wake(self, streams: Any) -> None:
        if self._broken:
            raise WakeFailed("the queue is away")
        self.woken.append(set(streams))


def claims_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims and marks of woken workers end by what a test does, and not by the time that a slow machine takes for it."""
    monkeypatch.setattr("events.log.claims.CLAIM_MS", 3_600_000)
    monkeypatch.setattr("events.log.redis.WOKEN_MS", 3_600_000)


def producer(log: MemoryLog, **how: Any) -> Producer:
    """A producer that does not wait."""
    return Producer(log, by=ADA, **{"clock": lambda: 1000, "pause": lambda _seconds: None, **how})


def all_events(log: MemoryLog) -> list[Any]:
    """Every event of a log but the first, stream by stream."""
    return [
        one.event
        for stream in (FLEET, *range(log.partitions))
        for one in log.read(stream, after=0, limit=100_000)
        if one.subject != "log"
    ]
