"""What is moved, when, and who is in the way."""

import base64
import hashlib
import io
import os
import re
import resource
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from events import PatchTags, Producer
from events.device.events import DeviceRegistered
from events.log.archive.manifest import Segment, manifest_of, segment_name
from events.log.archive.mover import faults, is_due, overdue
from events.log.archive.notes import hold, location_of, note, notes_of
from events.log.archive.segment import SegmentWriter
from events.log.entries import entry_bytes, genesis, stream_names
from events.log.errors import ArchiveElsewhere, UnreadableEvent
from events.log.keys import key, partition_of
from events.log.object_store import ObjectStore
from events.log.port import Proposed, read_all
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from events.notification.archive_mover import open_mover
from events.producer.secrecy import LazyVault
from events.secrets.redis import RedisSecretStore
from events.settings import environment_of, read_settings
from events.webhook.commands import DefineWebhook
from services.cli.app import app
from services.embedded_redis import EmbeddedRedis
from services.up.run import follow_archive
from tests import waiting
from tests.archive.streams import ADA, FAR, fresh_log, mover, seal_all, write_events
from tests.workers.system import PARTITIONS, System, base, deploy, fresh_system, join
from workers.projector import Projector

pytestmark = pytest.mark.redis_server
DAY = 24 * 3600 * 1000


@pytest.fixture
def log(shared_redis: EmbeddedRedis) -> Iterator[RedisLog]:
    with fresh_log(shared_redis) as made:
        write_events(made, 20)
        yield made


def test_segments_are_written_ahead_once_each_and_stay_in_redis(log: RedisLog, tmp_path: Path) -> None:
    moving = mover(log, tmp_path, segment_entries=30)
    assert moving.write("p00").written == 90
    assert moving.write("p00").written == 0
    assert log.client.xlen(key(0, "log")) == 100
    assert [re.sub("-[0-9a-f]{8}[.]", "-….", name) for name in ObjectStore(str(tmp_path)).names()] == [
        "events/p00/000000000001-000000000030-….parquet",
        "events/p00/000000000031-000000000060-….parquet",
        "events/p00/000000000061-000000000090-….parquet",
        "manifests/events/p00.json",
    ]
    # Another size goes on behind what is written.
    assert mover(log, tmp_path, segment_entries=4).write("p00").segments == 2
    manifest = manifest_of(ObjectStore(str(tmp_path)), "p00")
    assert manifest is not None
    assert manifest.segments == notes_of(log.client, "p00").segments
    assert [(one.first, one.last) for one in manifest.segments[2:]] == [(61, 90), (91, 94), (95, 98)]


def test_only_what_is_old_enough_leaves_and_never_the_newest_entry(log: RedisLog, tmp_path: Path) -> None:
    moving = mover(log, tmp_path, segment_entries=25)
    moving.write("p00")
    # A device a second, five events each: entry 25 is of second 5, entry 50 of second 10.
    assert moving.trim("p00", before_at=5000).trimmed == 0
    young = moving.trim("p00", before_at=5001)
    assert (young.trimmed, young.held_by) == (25, "age")
    rest = moving.trim("p00", before_at=FAR)
    assert (rest.trimmed, rest.held_by) == (50, "head")
    assert log.client.xlen(key(0, "log")) == 25


def test_nothing_goes_past_a_holder_and_the_script_looks_itself(log: RedisLog, tmp_path: Path) -> None:
    hold(log.client, "p00", "sealer", 0)
    moving = mover(log, tmp_path)
    moving.write("p00")
    assert moving.trim("p00", before_at=FAR).held_by == "sealer"
    hold(log.client, "p00", "sealer", 35)
    assert moving.trim("p00", before_at=FAR).trimmed == 30

    def register_late(stream: str, _entries: object) -> None:
        hold(log.client, stream, "snapshots", 35)

    late = mover(log, tmp_path, keepers=(register_late,))
    hold(log.client, "p00", "sealer", 100)
    caught = late.trim("p00", before_at=FAR)
    assert (caught.trimmed, caught.held_by) == (0, "snapshots")
    hold(log.client, "p00", "snapshots", 100)
    assert moving.trim("p00", before_at=FAR).trimmed == 60


def test_projections_and_webhooks_hold_what_they_have_not_seen(shared_redis: EmbeddedRedis, tmp_path: Path) -> None:
    with fresh_system(shared_redis, at=1000, waking=False) as system:
        for number in range(8):
            system.do(*join(f"d{number}", site="north"))
        system.do(deploy("a", base("m")))
        vault = LazyVault(RedisSecretStore(system.log.client), tmp_path / "key")
        secret = "whsec_" + base64.b64encode(b"k" * 32).decode()
        hook = DefineWebhook("w", "https://example.com/w", secret)
        Producer(system.log, by=ADA, take_secrets=vault.take_out).do(hook)
        settings = read_settings(archive_url=str(tmp_path / "archive"), archive_segment_events=1)
        moving = open_mover(system.log, settings)
        moving.settle()
        for stream in moving.streams:
            moving.write(stream)
        assert {moving.trim(stream, before_at=FAR).held_by for stream in ("fleet", "p00")} == {"projections"}
        _drain(system)
        assert moving.waiting("p00", head=system.log.head(0), before_at=FAR).holders["sealer"] == 0
        hold(system.log.client, "p00", "sealer", 10**9)
        waiting = moving.waiting("p00", head=system.log.head(0), before_at=FAR)
        assert waiting.holders == {"projections": system.log.head(0), "webhook w": 0, "sealer": 10**9}
        assert waiting.held_by == "webhook w"
        assert moving.trim("p00", before_at=FAR).trimmed == 0


def test_an_assignment_change_without_time_or_cause_that_a_device_has_is_named_and_every_other_stream_is_archived(
    shared_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    with fresh_system(shared_redis, at=1000, waking=False) as system:
        seal_all(system.log)
        devices = [f"d{number}" for number in range(24)]
        for device in devices:
            system.do(*join(device, site="north"))
        system.do(deploy("a", base("m")), deploy("b", base("n"), "tags.line = 2", priority=2))
        _drain(system)
        # One device of each partition goes on; the others keep the assignment change before.
        moved = {partition_of(device, PARTITIONS): device for device in devices}
        system.do(*(PatchTags(device, {"line": 2}) for device in moved.values()))
        _drain(system)
        stays = next(device for device in devices if device not in moved.values())
        number, position = partition_of(stays, PARTITIONS), _assignment_change_of(system, stays)
        stream = f"p{number:02d}:assignments"
        moving = open_mover(system.log, read_settings(archive_url=str(tmp_path), archive_segment_events=1))
        moving.settle()
        moving.write(stream)
        for harm in ({"at": None}, {"at": b"noon"}, {"at": b"1", "cause": b"\xff"}, {"cause": None}):
            _harm(system, key(number, "assignments"), position, harm)
            with pytest.raises(UnreadableEvent, match=f"{stream}:{position} cannot be read"):
                moving.trim(stream, before_at=FAR)
        locations = {"ARCHIVE_URL": str(tmp_path), "ARCHIVE_SEGMENT_EVENTS": "1", "ARCHIVE_KEEP_DAYS": "0"}
        environment = system.environment(**{f"TWINFOLD_{name}": value for name, value in locations.items()})
        command = [sys.executable, "-m", "workers.pool.child_job", "archive"]
        ran = waiting.run(command, env=environment)
        said = ran.stdout + ran.stderr
        assert (ran.returncode, "Traceback" in said) == (1, False)
        assert f"{stream}:{position} cannot be read: field b'cause' is missing" in said
        trimmed = {one: notes_of(system.log.client, one).trimmed for one in stream_names(PARTITIONS)}
        assert trimmed.pop(stream) == position - 1
        assert all(trimmed.values())


def _assignment_change_of(system: System, device: str) -> int:
    stored_device = system.projections.device(partition_of(device, PARTITIONS), device)
    assert stored_device is not None
    return stored_device.assignment_change


def _harm(system: System, stream_key: str, position: int, harm: dict[str, bytes | None]) -> None:
    """Change fields of one entry; `None` takes one away."""
    client: Any = system.log.client
    entries = client.xrange(stream_key)
    client.delete(stream_key)
    changed = {field.encode(): value for field, value in harm.items()}
    for entry_id, fields in entries:
        stored = {**fields, **changed} if entry_id == b"%d-0" % position else fields
        client.xadd(stream_key, {field: value for field, value in stored.items() if value is not None}, id=entry_id)


def _drain(system: System) -> None:
    projector = Projector(system.log, system.projections, clock=lambda: 1000)
    for number in range(system.log.partitions):
        assert projector.drain(number, go_on=lambda: True)


def test_an_archive_moves_house_when_all_of_it_is_there(log: RedisLog, tmp_path: Path) -> None:
    old, new = ObjectStore(str(tmp_path / "old")), ObjectStore(str(tmp_path / "new"))
    moving = mover(log, old.url)
    moving.write("p00")
    moving.trim("p00", before_at=FAR)
    moved = open_mover(log, read_settings(archive_url=new.url))
    with pytest.raises(ArchiveElsewhere, match=r"000000000001-000000000010-[0-9a-f]{8}\.parquet"):
        moved.settle(may_move=True)
    reading = RawStreams(log.client)
    stored = [entry_bytes("p00", entry) for entry in reading.entries("p00", upto=50)]
    for name in old.names():
        data = old.get(name)
        assert data is not None
        new.put(name, data)
        old.delete(name)
    moved.settle(may_move=True)
    stored += [entry_bytes("p00", entry) for entry in reading.entries("p00", after=50)]
    assert [entry_bytes("p00", entry) for entry in RawStreams(log.client).entries("p00")] == stored


def test_an_archive_that_has_moved_is_not_moved_back_by_who_was_not_told(log: RedisLog, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    begun = mover(log, old, segment_entries=20)
    begun.write("p00")
    shutil.copytree(old, new)
    address = log.client.connection_pool.connection_kwargs  # type: ignore[union-attr]
    url = f"unix://{address['path']}" if "path" in address else f"redis://{address['host']}:{address['port']}"
    there = ["archive", "--redis-url", url, "--archive-url", str(new), "--write-only"]
    assert CliRunner().invoke(app, there).exit_code == 0
    assert location_of(log.client) == str(new)
    # Every file is at the former place as well, and that is where a pool's setting still leads.
    settings = {"REDIS_URL": url, "ARCHIVE_URL": str(old), "ARCHIVE_SEGMENT_EVENTS": "1", "ALLOW_VOLATILE_REDIS": "1"}
    environment = os.environ | {f"TWINFOLD_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "workers.pool.child_job", "archive"]
    ran = waiting.run(command, env=environment)
    assert (ran.returncode, f"the archive is at {new}" in ran.stdout + ran.stderr) == (1, True)
    # Who had begun before it was moved does not go on at the former place either.
    for go_on in (lambda: begun.write("p00"), lambda: begun.trim("p00", before_at=FAR)):
        with pytest.raises(ArchiveElsewhere, match="set TWINFOLD_ARCHIVE_URL"):
            go_on()
    assert location_of(log.client) == str(new)
    assert notes_of(log.client, "p00").trimmed == 0
    shutil.rmtree(old)
    assert len(list(RawStreams(log.client).entries("p00"))) == 100


def test_an_object_store_does_as_well(log: RedisLog) -> None:
    stored = [entry_bytes("p00", entry) for entry in RawStreams(log.client).entries("p00")]
    moving = mover(log, "memory://archive-of-a-test")
    moving.write("p00")
    assert moving.trim("p00", before_at=FAR).trimmed == 90
    assert [entry_bytes("p00", entry) for entry in RawStreams(log.client).entries("p00")] == stored
    assert list(faults(log.client, ObjectStore("memory://archive-of-a-test"), "p00", epoch=log.epoch)) == []


def test_a_full_disk_is_told_and_leaves_nothing_behind(
    log: RedisLog, shared_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    # -B: Python would cut off the byte code that it stores of our modules, and fail to read it from then on.
    command = [
        sys.executable,
        "-B",
        "-m",
        "services.cli",
        "archive",
        "--redis-url",
        shared_redis.url,
        "--keep-days",
        "0",
    ]
    command += ["--archive-url", str(tmp_path), "--segment-events", "50"]
    full = waiting.run(command, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)))
    assert full.returncode == 3
    assert f"object store {tmp_path}: File too large" in full.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert (log.client.xlen(key(0, "log")), notes_of(log.client, "p00").written) == (100, 0)


def test_two_movers_at_once_write_every_entry_once(log: RedisLog, tmp_path: Path) -> None:
    first = mover(log, tmp_path, segment_entries=30)
    second = mover(log, tmp_path, segment_entries=25)

    def overtake(_stream: str, _count: int) -> None:
        if not notes_of(log.client, "p00").segments:
            second.write("p00")

    first.write("p00", overtake)
    segments = notes_of(log.client, "p00").segments
    assert [(one.first, one.last) for one in segments] == [(1, 25), (26, 50), (51, 75), (76, 100)]
    first.write("p00")
    assert list(ObjectStore(str(tmp_path)).names("events")) == [segment.name for segment in segments]
    assert list(faults(log.client, ObjectStore(str(tmp_path)), "p00", epoch=log.epoch)) == []


def test_a_mover_that_writes_other_bytes_at_once_overwrites_nobody_s_file(log: RedisLog, tmp_path: Path) -> None:
    """As one of another version does, which compresses otherwise."""
    object_store = ObjectStore(str(tmp_path))
    moving = mover(log, tmp_path, segment_entries=30)

    def overtake(_stream: str, _count: int) -> None:
        if not notes_of(log.client, "p00").segments:
            note(log.client, _written_otherwise(log, object_store))

    moving.write("p00", overtake)
    assert [one.first for one in notes_of(log.client, "p00").segments] == [1]
    assert len(object_store.names("events")) == 2
    assert moving.write("p00").written == 60
    assert list(object_store.names("events")) == [segment.name for segment in notes_of(log.client, "p00").segments]
    assert moving.trim("p00", before_at=FAR).trimmed == 90
    assert list(faults(log.client, object_store, "p00", epoch=log.epoch)) == []


def _written_otherwise(log: RedisLog, object_store: ObjectStore) -> Segment:
    """The first segment of 30 entries in other bytes, in its place."""
    writer = SegmentWriter("p00", epoch=log.epoch, before=genesis(log.epoch, "p00"))
    for entry in RawStreams(log.client).entries("p00", upto=30):
        writer.add(entry)
    segment, data = writer.finish()
    file = pq.ParquetFile(io.BytesIO(data))
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, file.schema_arrow, compression="gzip") as parquet:
        parquet.write_table(file.read())
        parquet.add_key_value_metadata(file.metadata.metadata)
    other = sink.getvalue()
    assert other != data
    sha256 = hashlib.sha256(other).hexdigest()
    name = segment_name("p00", 1, 30, sha256=sha256)
    object_store.put(name, other)
    return msgspec.structs.replace(segment, name=name, bytes=len(other), sha256=sha256)


def test_a_rest_that_fills_no_segment_is_written_and_leaves_redis_once_it_is_old(log: RedisLog, tmp_path: Path) -> None:
    moving = mover(log, tmp_path, segment_entries=300)
    seal_all(log)
    before_at = 1000 + DAY + 1

    def due(at: int) -> bool:
        head_of = RawStreams(log.client).head
        return is_due(log.client, partitions=1, segment_entries=300, before_at=at, head_of=head_of)

    # The first entry is of 1,000; the fleet has only one, which stays.
    assert (due(before_at - 1), due(before_at)) == (False, True)
    assert moving.write("p00", overdue_at=overdue(before_at - 1)).written == 0
    assert moving.waiting("p00", head=100, before_at=before_at).would_be_written == 99
    written = moving.write("p00", overdue_at=overdue(before_at))
    assert (written.written, written.segments) == (99, 1)
    assert moving.trim("p00", before_at=before_at).trimmed == 99
    # The newest entry stays, and gets no file before another one comes.
    assert not due(FAR)
    assert moving.write("p00", overdue_at=FAR).written == 0
    log.append([Proposed("later", 0, DeviceRegistered())], command_id="later", by=ADA, at=before_at)
    assert moving.write("p00", overdue_at=overdue(before_at)).written == 0
    assert moving.write("p00", overdue_at=overdue(before_at + 20_000)).written == 1
    assert log.client.xlen(key(0, "log")) == 2
    assert [envelope.position for envelope in read_all(log, 0)] == list(range(1, 102))


def test_events_leave_redis_by_default_where_a_location_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TWINFOLD_ARCHIVE_URL", raising=False)
    now = 100 * DAY
    assert read_settings().archive_before_at(now) is None
    assert read_settings(archive_url="/srv/archive").archive_before_at(now) == 93 * DAY
    assert read_settings(archive_url="/srv/archive", archive_keep_days=1.5).archive_before_at(now) == 98.5 * DAY
    everything = read_settings(archive_url="/srv/archive", archive_keep_days="inf")
    assert everything.archive_before_at(now) is None
    monkeypatch.setenv("TWINFOLD_ARCHIVE_KEEP_DAYS", environment_of(everything)["TWINFOLD_ARCHIVE_KEEP_DAYS"])
    assert read_settings(archive_url="/srv/archive").archive_before_at(now) is None


def test_up_follows_a_data_directory_that_was_moved_with_its_archive(log: RedisLog, tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    moving = mover(log, before / "archive", segment_entries=30)
    seal_all(log)
    moving.write("p00")
    assert moving.trim("p00", before_at=FAR).trimmed == 90
    settings = read_settings(data_dir=after)
    follow_archive(settings, log)
    assert location_of(log.client) == str(before / "archive")
    before.rename(after)
    follow_archive(settings, log)
    assert location_of(log.client) == str(after / "archive")
    assert len(list(read_all(log, 0))) == 100
