"""Killed with -9 at any step, archiving goes on where it was: nothing is lost, and nothing is read twice."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.log.archive.mover import faults
from events.log.archive.notes import notes_of
from events.log.entries import entry_bytes, stream_names
from events.log.failpoints import VARIABLE, FailPoint
from events.log.object_store import ObjectStore
from events.log.raw import RawStreams
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.archive.streams import seal_all
from tests.workers.groups import AT, GROUPS, write
from tests.workers.system import PARTITIONS, System, assert_rebuilt, fresh_system
from workers.projector import Projector

pytestmark = pytest.mark.redis_server

POINTS = tuple(point for point in FailPoint if point.value.startswith("archive_"))
QUICK = (FailPoint.ARCHIVE_LISTED, FailPoint.ARCHIVE_KEPT)
STREAMS = stream_names(PARTITIONS)


@pytest.fixture
def system(shared_redis: EmbeddedRedis) -> Iterator[System]:
    with fresh_system(shared_redis, at=AT) as system:
        seal_all(system.log)
        yield system


def _grow(system: System, group: int) -> None:
    write(system.url, system.queue_url, group)
    projector = Projector(system.log, system.projections, clock=lambda: AT)
    for number in range(PARTITIONS):
        assert projector.drain(number, go_on=lambda: True)


def _everything(system: System) -> dict[str, list[bytes]]:
    streams = RawStreams(system.log.client)
    return {stream: [entry_bytes(stream, entry) for entry in streams.entries(stream)] for stream in STREAMS}


def _archive(system: System, location: Path, **environment: str) -> int:
    command = (
        "-m",
        "services.cli",
        "archive",
        "--keep-days",
        "0",
        "--segment-events",
        "4",
        "--archive-url",
        str(location),
    )
    with system.process(*command, **environment) as process:
        return waiting.exit_code(process)


def _is_whole(system: System, location: Path) -> bool:
    object_store = ObjectStore(str(location))
    for stream in STREAMS:
        assert list(faults(system.log.client, object_store, stream, epoch=system.log.epoch)) == []
    listed = [one.name for stream in STREAMS for one in notes_of(system.log.client, stream).segments]
    return sorted(listed) == sorted([*object_store.names("events"), *object_store.names("assignments")])


@pytest.mark.parametrize(
    "point", [pytest.param(point, marks=() if point in QUICK else pytest.mark.long, id=point.value) for point in POINTS]
)
def test_a_process_killed_at_any_step_loses_and_doubles_nothing(
    system: System, tmp_path: Path, point: FailPoint
) -> None:
    for group in range(1 if point in QUICK else GROUPS):
        _grow(system, group)
        stored = _everything(system)
        # The last group has one whole segment alone.
        turn = 1 if group == GROUPS - 1 else 2
        assert _archive(system, tmp_path, **{VARIABLE: f"{point.value}:{turn}"}) == -signal.SIGKILL
        assert _everything(system) == stored
        assert _archive(system, tmp_path) == 0
        assert _is_whole(system, tmp_path)
        assert _everything(system) == stored
        assert any(notes_of(system.log.client, stream).trimmed for stream in STREAMS)
    assert_rebuilt(system)


@pytest.mark.long
def test_killed_at_every_step_in_turn_it_comes_to_an_end(system: System, tmp_path: Path) -> None:
    for group in range(GROUPS):
        _grow(system, group)
    stored = _everything(system)
    for point in POINTS:
        assert _archive(system, tmp_path, **{VARIABLE: point.value}) == -signal.SIGKILL
        assert _everything(system) == stored
    assert _archive(system, tmp_path) == 0
    assert _is_whole(system, tmp_path)
    assert _everything(system) == stored
    assert_rebuilt(system)
