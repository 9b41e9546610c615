"""A whole system on a log whose older part is in the archive: producers, workers, API, a rebuild."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from events import PatchTags
from events.log.archive.notes import notes_of
from events.log.connect import connect
from events.log.keys import FLEET, key, partition_of
from events.notification.archive_mover import open_mover
from events.notification.feed import Feed
from events.projection_store.archived_assignments import stored_key
from events.projection_store.port import StoredDevice
from events.projection_store.redis import RedisProjectionStore
from events.settings import read_settings
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import api
from tests.archive.streams import FAR, seal_all
from tests.servers import eventually, flush
from tests.workers.system import PARTITIONS, System, assert_rebuilt, base, deploy, fresh_system, join

pytestmark = [pytest.mark.redis_server, pytest.mark.full]

DEVICES = [f"edge-{number:02d}" for number in range(24)]


@pytest.fixture
def system(shared_redis: EmbeddedRedis) -> Iterator[System]:
    with fresh_system(shared_redis) as system:
        seal_all(system.log)
        yield system


def _grow(system: System) -> None:
    for device in DEVICES:
        system.do(*join(device, site="north"))
    system.do(deploy("first", base("m"), "tags.site = 'north'"))
    system.settle()
    for device in DEVICES:
        system.do(PatchTags(device, {"line": 1}))
    system.do(deploy("second", base("n"), "tags.line = 2", priority=2))
    system.settle()


def _archive(system: System, location: Path, *, segment_events: int = 3, only: str = "") -> int:
    """Move everything that may be moved of streams that end so; answers how many entries left Redis."""
    settings = read_settings(archive_url=str(location), archive_segment_events=segment_events)
    moving = open_mover(system.log, settings)
    moving.settle()
    streams = [stream for stream in moving.streams if stream.endswith(only)]
    for stream in streams:
        moving.write(stream)
    return sum(moving.trim(stream, before_at=FAR).trimmed for stream in streams)


def test_everybody_goes_on_and_a_rebuild_finds_the_same_projections(system: System, tmp_path: Path) -> None:
    with system.process("-m", "workers.pool"):
        _grow(system)
        before = system.everything_kept()
        had = _devices(system.projections)
        feed = Feed(system.log, system.projections)
        start = tuple(0 for _ in feed.heads())
        notifications = feed.read(start, feed.heads(), limit=100_000)
        assert _archive(system, tmp_path) > 50
        assert system.everything_kept() == before
        again = RedisProjectionStore(system.log.client)
        assert _devices(again) == had
        assert Feed(system.log, again).read(start, feed.heads(), limit=100_000) == notifications
    # Workers that never saw what was archived, and producers, go on.
    with system.process("-m", "workers.pool"):
        for device in DEVICES[:6]:
            system.do(PatchTags(device, {"line": 2}))
        system.do(*join("late", site="north"))
        system.settle()
        assert system.status("second")["actual"] == 6
        assert_rebuilt(system)
        assert _archive(system, tmp_path) > 0
        assert_rebuilt(system)


@pytest.mark.full
def test_a_device_keeps_time_and_cause_though_the_archive_is_away(system: System, tmp_path: Path) -> None:
    with system.process("-m", "workers.pool"):
        _grow(system)
        for turn in range(4):
            system.do(*(PatchTags(device, {"line": 2 - turn % 2}) for device in DEVICES[:12]))
            system.settle()
    devices = _devices(system.projections)
    assert len(devices) == len(DEVICES)
    assert all(one.at > 0 and one.cause for one in devices.values())
    _archive(system, tmp_path / "archive")
    assert any(notes_of(system.log.client, f"p{number:02d}:assignments").trimmed for number in range(PARTITIONS))
    (tmp_path / "archive").rename(tmp_path / "away")
    assert _devices(system.projections) == devices
    # Only what devices have is kept, and what nobody has any more goes with the next that leave.
    stored_positions = [set(map(int, system.log.client.hkeys(stored_key(number)))) for number in range(PARTITIONS)]
    had = {(partition_of(device, PARTITIONS), one.assignment_change) for device, one in devices.items()}
    assert any(stored_positions)
    assert {(number, position) for number, positions in enumerate(stored_positions) for position in positions} <= had


def _devices(projections: RedisProjectionStore) -> dict[str, StoredDevice]:
    devices = {device: projections.device(partition_of(device, PARTITIONS), device) for device in DEVICES}
    return {device: one for device, one in devices.items() if one is not None}


@pytest.mark.full
def test_a_pool_archives_by_itself(system: System, tmp_path: Path) -> None:
    settings = {
        "TWINFOLD_ARCHIVE_URL": str(tmp_path),
        "TWINFOLD_ARCHIVE_SEGMENT_EVENTS": "5",
        "TWINFOLD_ARCHIVE_KEEP_DAYS": "0",
        "TWINFOLD_ARCHIVE_SECONDS": "0.2",
    }
    with system.process("-m", "workers.pool", **settings):
        for device in DEVICES:
            system.do(*join(device, site="north"))
        system.do(deploy("first", base("m")), deploy("second", base("n"), priority=2))
        eventually(
            lambda: all(notes_of(system.log.client, f"p{number:02d}").trimmed for number in range(PARTITIONS)),
            what="events leave Redis",
        )
        system.settle()
    head = system.log.head(0)
    assert system.log.client.xlen(key(0, "log")) < head
    assert [one.position for one in system.log.read(0, after=0, limit=head)] == list(range(1, head + 1))
    assert system.log.read(FLEET, after=0, limit=1)
    assert_rebuilt(system)


def test_the_api_answers_from_the_archive_and_says_when_it_is_away(system: System, tmp_path: Path) -> None:
    location, away = tmp_path / "archive", tmp_path / "away"
    with system.process("-m", "workers.pool"):
        _grow(system)
        system.do(PatchTags("edge-01", {"line": 2}))
        system.settle()
    _archive(system, location, segment_events=1, only=":assignments")
    location.rename(away)
    with api(system) as http:
        assert http.get("/v1/devices/edge-01/effective").is_success
        assert http.get("/v1/deployments/second/status").json()["counts"]["actual"] == 1
        missing = http.get("/v1/devices/edge-01/assignments")
        assert (missing.status_code, missing.json()["error"]["code"]) == (500, "ArchiveDamaged")
        assert "assignments/p" in missing.text
        away.rename(location)
        changes = http.get("/v1/devices/edge-01/assignments").json()["assignments"]
        assert [change["assignmentChange"] for change in changes] == [1, 2]


@pytest.mark.full
def test_a_log_on_a_cluster_is_archived_too(shared_redis: EmbeddedRedis, cluster_url: str, tmp_path: Path) -> None:
    nodes = connect(cluster_url)
    flush(nodes)
    nodes.close()
    with contextlib.closing(System(cluster_url, queue_url=shared_redis.url)) as system:
        with system.process("-m", "workers.pool"):
            for device in DEVICES:
                system.do(*join(device, site="north"))
            system.do(deploy("first", base("m")))
            system.settle()
        stored = [system.log.read(number, after=0, limit=1000) for number in range(PARTITIONS)]
        seal_all(system.log)
        assert _archive(system, tmp_path) > 20
        assert [system.log.read(number, after=0, limit=1000) for number in range(PARTITIONS)] == stored
        assert_rebuilt(system)
