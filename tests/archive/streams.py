"""Logs with some history, and their archives, for the tests of this room."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redis import Redis

from events.device.events import DeviceRegistered, TwinPatched
from events.envelope import Principal
from events.log.archive.mover import Mover
from events.log.archive.notes import hold
from events.log.entries import stream_names
from events.log.events import LogInitialised
from events.log.log_factory import initialise
from events.log.object_store import ObjectStore
from events.log.port import Proposed
from events.log.redis import RedisLog
from services.embedded_redis import EmbeddedRedis
from tests.servers import flush

ADA = Principal.parse("user:ada")
BOB = Principal.parse("device:bob")
FAR = 2**53
"""A time after every other."""


@contextlib.contextmanager
def fresh_log(server: EmbeddedRedis, *, partitions: int = 1, at: int = 0) -> Iterator[RedisLog]:
    """A log on an emptied server."""
    client = Redis.from_url(server.url)
    flush(client)
    client.close()
    log = initialise(server.url, partitions=partitions, epoch="test", at=at)
    try:
        yield log
    finally:
        log.client.close()


def seal_all(log: RedisLog) -> None:
    """Say that everything is sealed, whatever comes; what is not sealed stays in Redis."""
    for stream in stream_names(log.partitions):
        hold(log.client, stream, "sealer", FAR)


def write_events(log: RedisLog, devices: int, *, patches: int = 4, at: int = 1000) -> None:
    """Devices that register one after the other, a second apart, and change a tag some times each."""
    for number in range(devices):
        name = f"edge-{number:03d}"
        batch = [Proposed(name, 0, DeviceRegistered(edge=True))]
        batch += [
            Proposed(name, 1 + turn, TwinPatched(tags={"turn": turn, "where": "Köln"})) for turn in range(patches)
        ]
        by, cause = (ADA, "") if number % 2 else (BOB, f"fleet:{number}")
        log.append(batch, command_id=f"{at}:{name}", by=by, at=at + 1000 * number, cause=cause)


def mover(log: RedisLog, location: Path | str, *, segment_entries: int = 10, **more: Any) -> Mover:
    """Moves a log's entries to a place, in short segments."""
    initialisation = LogInitialised(log.epoch, log.partitions)
    mover = Mover(
        log.client, ObjectStore(str(location)), initialisation=initialisation, segment_entries=segment_entries, **more
    )
    mover.settle()
    return mover
