"""Turns of workers in threads of a test, and the round trips that they make."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from redis import ConnectionPool, Redis

from events.log.claims import Claims
from events.log.redis import RedisLog
from events.log.wake import QUEUE
from events.projection_store.redis import RedisProjectionStore
from tests import waiting
from tests.servers import eventually
from tests.workers.system import PARTITIONS, System
from workers.projector import Projector
from workers.turn import WorkerTurn


class Worker:
    """A worker's process in a thread of this one: everything that one turn after another works with."""

    def __init__(self, system: System, client: Redis | None = None) -> None:
        self._system, self._stopping = system, threading.Event()
        self.log = RedisLog(client or Redis.from_url(system.url), partitions=PARTITIONS, epoch="test")
        self.projections = RedisProjectionStore(self.log.client)
        self.claims = Claims(self.log.client, partitions=PARTITIONS)
        self._projector = Projector(self.log, self.projections, clock=lambda: 0)

    def turn(self, seconds: float) -> None:
        WorkerTurn(
            self.log,
            self.projections,
            self._projector,
            self._system.waker,
            self.claims,
            seconds=seconds,
            is_stopped=self._stopping.is_set,
        ).run()

    def following(self) -> contextlib.AbstractContextManager[None]:
        """A turn that lasts as long as the block; raises what it raises."""
        return self._in_thread(lambda: self.turn(60.0))

    def serving(self) -> contextlib.AbstractContextManager[None]:
        """A turn for each job of the queue, as long as the block lasts."""

        def serve() -> None:
            while not self._stopping.is_set():
                if self._system.queue.blpop([f"rq:queue:{QUEUE}"], timeout=1):
                    self.turn(60.0)

        return self._in_thread(serve)

    @contextlib.contextmanager
    def _in_thread(self, work: Callable[[], None]) -> Iterator[None]:
        failures: list[Exception] = []

        def run() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - raised by the thread of the test
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            thread.join(waiting.seconds())
            self._stopping.clear()
        assert not thread.is_alive()
        if failures:
            raise failures[0]

    def followed(self) -> set[int]:
        return {stream for stream, holder in self.claims.holders().items() if holder == self.claims.holder}


def taken_over(worker: Worker, streams: Callable[[], set[int]]) -> None:
    eventually(lambda: worker.followed() == streams(), what="the streams are followed")


Trips = list[frozenset[bytes]]
"""The commands of each round trip."""


def counting(url: str) -> tuple[Redis, Trips]:
    """A client, and the round trips that it makes."""
    pool, trips = ConnectionPool.from_url(url), Trips()

    def send(connection: Any, command: Any, **how: Any) -> None:
        trips.append(frozenset(_names(b"".join(command if isinstance(command, list) else [command]))))
        plain.send_packed_command(connection, command, **how)

    plain = pool.connection_class
    pool.connection_class = type("Counting", (plain,), {"send_packed_command": send})
    return Redis(connection_pool=pool), trips


def _names(packed: bytes) -> Iterator[bytes]:
    """The name of each command of a request: `*3\\r\\n$3\\r\\nGET\\r\\n…`."""
    lines = packed.split(b"\r\n")
    return (lines[at + 2] for at, line in enumerate(lines) if line[:1] == b"*" and line[1:].isdigit())
