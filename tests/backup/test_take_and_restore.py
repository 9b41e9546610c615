"""A backup holds what stood at one moment; a restore brings back those bytes, or nothing."""

import contextlib
import itertools
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from events import PatchTags, RegisterDevice, RetireDevice
from events.access.commands import DefinePolicy
from events.backup.backup import take
from events.backup.errors import BackupDamaged, FileDeleted, NoBackup, TargetNotEmpty
from events.backup.location import UNDER_WAY_MS, BackupLocation, Pruned
from events.backup.manifest import ENTRIES_MAX, BackupManifest, File
from events.backup.restore import claim, finish, restore, verify
from events.device.events import TwinPatched
from events.envelope import Principal
from events.fleet.assignments import AssignmentChange
from events.log.entries import stream_names
from events.log.errors import LogRestoring
from events.log.failpoints import FailPoint, observers
from events.log.keys import FLEET, key, name, partition_of
from events.log.log_factory import initialise, open_log
from events.log.object_store import ObjectStore
from events.log.port import Proposed
from events.log.raw import RawStreams
from events.producer.secrecy import LazyVault
from events.secrets.errors import SecretErased
from events.secrets.redis import RedisSecretStore
from events.secrets.sealed_secret import Sealed
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.archive.streams import FAR, mover
from tests.shortening import shortened
from tests.stored_subjects import subjects_in
from tests.workers.system import PARTITIONS, System, answer, assert_rebuilt, base, deploy, fresh_system, join
from tests.workers.test_blocked import damage
from workers.projector import Projector

pytestmark = [pytest.mark.redis_server, pytest.mark.full]


@pytest.fixture
def system(shared_redis: EmbeddedRedis) -> Iterator[System]:
    with fresh_system(shared_redis, waking=False) as system:
        for number in range(20):
            system.do(*join(f"d{number}", on=number % 3 == 0, n=number))
        system.do(deploy("a", base("m"), "tags.on = true"), deploy("b", base("n"), "tags.n > 10", priority=5))
        drain(system)
        system.do(answer(system, "d3", m="running"), RetireDevice("d4"), RegisterDevice("d4"), RetireDevice("d7"))
        drain(system)
        yield system


def drain(system: System) -> None:
    projector = Projector(system.log, system.projections, clock=lambda: 7)
    for number in range(PARTITIONS):
        assert projector.drain(number, go_on=lambda: True)


def taken(system: System, location: Path, *, at: int = 1_800_000_000_000) -> tuple[BackupManifest, BackupLocation]:
    where = BackupLocation(str(location))
    return take(system.log, where, at=at), where


def bring_back(
    system: System, manifest: BackupManifest, location: BackupLocation, archive: ObjectStore | None = None
) -> None:
    """Empty the server, as if it had been lost, and restore."""
    client: Any = system.log.client
    client.flushall()
    verify(manifest, location, keys=None)
    claim(manifest, client)
    restore(manifest, location, client, archive=archive)
    rebuild_projections(system)
    finish(client)


def rebuild_projections(system: System) -> None:
    command = [sys.executable, "-m", "workers.restored", str(PARTITIONS), system.log.epoch]
    done = waiting.run(command, env=system.environment())
    assert done.returncode == 0, done.stderr


def beside(system: System) -> dict[str, Any]:
    """Heads, documents, entries and what is kept beside them, as they stand in Redis."""
    client: Any = system.log.client
    streams = (FLEET, *range(PARTITIONS))
    entries = [key(stream, "log") for stream in streams] + [key(number, "assignments") for number in range(PARTITIONS)]
    metas = {key(stream, "meta"): client.hmget(key(stream, "meta"), "position", "at") for stream in streams}
    return {
        **{key(stream, "subjects"): subjects_in(client, stream) for stream in streams},
        **{one: client.hgetall(one) for one in ("{fleet}:secrets", "{fleet}:webhooks:progress")},
        **{one: client.xrange(one) for one in entries},
        **metas,
    }


def test_entries_heads_documents_secrets_and_projections_come_back_byte_for_byte(
    system: System, tmp_path: Path
) -> None:
    vault = LazyVault(RedisSecretStore(system.log.client), tmp_path / "master.key")
    secret = vault.take_out(
        DefinePolicy("p", ("RegistryRead",), "MDEyMzQ1Njc4OTAxMjM0NQ==", "MDEyMzQ1Njc4OTAxMjM0NQ==")
    )
    system.do(secret)
    system.log.client.hset("{fleet}:webhooks:progress", "w", b"{}")
    drain(system)
    before, projections = beside(system), system.everything_kept()
    manifest, location = taken(system, tmp_path / "b")
    bring_back(system, manifest, location)
    assert beside(system) == before
    drain(system)
    assert system.everything_kept() == projections
    assert_rebuilt(system)
    assert vault.opened.reveal(msgspec.to_builtins(secret.primary_key)) == "MDEyMzQ1Njc4OTAxMjM0NQ=="
    system.do(PatchTags("d1", {"on": True}))
    drain(system)
    assert system.status("a")["actual"] > 0


def test_events_after_the_last_assignment_change_are_applied_on_from_there(system: System, tmp_path: Path) -> None:
    system.do(PatchTags("d1", {"n": 15}), deploy("c", base("o"), "tags.n = 15", priority=9))
    manifest, location = taken(system, tmp_path)
    drain(system)
    expected = system.status("c")
    bring_back(system, manifest, location)
    drain(system)
    assert system.status("c") == expected
    assert_rebuilt(system)


def test_a_second_backup_copies_what_is_new_and_an_equal_one_nothing(system: System, tmp_path: Path) -> None:
    names = (f"more{number}" for number in range(50_000))
    alike = itertools.islice((one for one in names if partition_of(one, PARTITIONS) == 1), ENTRIES_MAX)
    system.do(*(RegisterDevice(one) for one in alike))
    drain(system)
    first, location = taken(system, tmp_path)
    assert sum(block.full for stream in first.streams for block in stream.blocks) == 1
    again = BackupLocation(str(tmp_path))
    second = take(system.log, again, at=1_800_000_000_001)
    assert (again.written_files, location.written_files > 0) == (0, True)
    assert [stream.blocks for stream in second.streams] == [stream.blocks for stream in first.streams]
    system.do(PatchTags("d1", {"third": True}))
    third = take(system.log, again, at=1_800_000_000_002)
    # The end of the stream of d1; entries that fill a block are not read again.
    assert again.written_files == 1
    assert location.ids() == (first.id, second.id, third.id)
    assert location.prune(system.log.epoch, keep=1, at=1_800_000_000_003).ids == (first.id, second.id)
    bring_back(system, third, again)
    drain(system)
    assert_rebuilt(system)


@contextlib.contextmanager
def once_at(point: FailPoint, do: Callable[[], None]) -> Iterator[None]:
    """Do something the first time that a place is reached."""
    left = itertools.count()

    def observe(reached: FailPoint) -> None:
        if reached is point and next(left) == 0:
            do()

    observers.append(observe)
    try:
        yield
    finally:
        observers.remove(observe)


@pytest.mark.parametrize("point", [FailPoint.BACKUP_FILE_PUT, FailPoint.BACKUP_BEFORE_LIST])
def test_deleting_older_backups_leaves_the_files_of_one_that_is_under_way(
    system: System, tmp_path: Path, point: FailPoint
) -> None:
    pruned = list[Pruned]()

    def delete_older() -> None:
        pruned.append(BackupLocation(str(tmp_path)).prune("another log", keep=1, at=1_800_000_000_001))

    with once_at(point, delete_older):
        manifest, location = taken(system, tmp_path)
    (first,) = pruned
    assert (first.files, [manifest.id in mark for mark in first.under_way]) == (0, [True])
    verify(manifest, location, keys=None)
    assert location.prune(system.log.epoch, keep=1, at=1_800_000_000_002) == Pruned((), 0, ())
    verify(manifest, location, keys=None)


@pytest.mark.full
def test_deleting_older_backups_ends_where_another_begins_and_keeps_keys_that_lie_at_the_same_place(
    system: System, tmp_path: Path
) -> None:
    same = BackupLocation(str(tmp_path / "." / "b"))
    private = {"master.key": b"a key"}
    manifest = take(system.log, BackupLocation(str(tmp_path / "b")), private=private, keys=same, at=1_800_000_000_000)
    for number in range(3):
        same.put(b"nobody needs %d" % number)
    assert same.prune("another log", keep=1, at=1_800_000_000_001) == Pruned((), 3, ())
    verify(manifest, same, keys=same)
    same.put(b"nobody needs that either")
    with same.under_way("of another", at=1_800_000_000_002):
        (mark,) = same.prune("another log", keep=1, at=1_800_000_000_003).under_way
    assert mark == "backups/of another.under-way"
    assert same.prune("another log", keep=1, at=1_800_000_000_004) == Pruned((), 1, ())


@pytest.mark.full
def test_a_backup_whose_file_goes_away_before_it_ends_is_none(system: System, tmp_path: Path) -> None:
    def delete() -> None:
        next(path for path in sorted((tmp_path / "files").rglob("*")) if path.is_file()).unlink()

    with once_at(FailPoint.BACKUP_BEFORE_LIST, delete), pytest.raises(FileDeleted, match="run the backup again"):
        taken(system, tmp_path)
    assert BackupLocation(str(tmp_path)).ids() == ()
    assert list((tmp_path / "backups").iterdir()) == []
    manifest, location = taken(system, tmp_path)
    verify(manifest, location, keys=None)


@pytest.mark.parametrize("alike", shortened([0, ENTRIES_MAX + 5]))
def test_a_log_that_went_on_otherwise_from_an_older_backup_takes_over_what_it_has_in_common_alone(
    system: System, tmp_path: Path, alike: int
) -> None:
    client, stream = system.log.client, "{fleet}:seals"

    def write(value: str) -> None:
        pipe = client.pipeline(transaction=False)
        for position in range(1, 2 * ENTRIES_MAX + 1):
            pipe.xadd(stream, {"seal": value if position > alike else "alike"}, id=f"{position}-0")
        pipe.execute()

    write("before")
    first, _ = taken(system, tmp_path)
    client.delete(stream)
    write("after")
    there = client.xrange(stream)
    second, location = taken(system, tmp_path, at=1_800_000_000_001)
    bring_back(system, second, location)
    assert client.xrange(stream) == there
    common = [a == b for a, b in zip(first.streams[0].blocks, second.streams[0].blocks, strict=True)]
    assert common == [alike >= ENTRIES_MAX, False]


@pytest.mark.parametrize("times", shortened([1, 2]))
def test_what_is_in_the_archive_alone_comes_back_into_an_archive(system: System, tmp_path: Path, times: int) -> None:
    before = {one: all_entries(system, one) for one in stream_names(PARTITIONS)}
    heads, projections = beside_streams(system), system.everything_kept()
    if times == 2:
        taken(system, tmp_path / "b")
    moved = mover(system.log, tmp_path / "archive", segment_entries=4)
    for one in stream_names(PARTITIONS):
        moved.write(one)
        moved.trim(one, before_at=FAR)
    assert len(system.log.client.xrange(key(1, "log"))) < len(before["p01"])
    manifest, location = taken(system, tmp_path / "b", at=1_800_000_000_009)
    shutil.rmtree(tmp_path / "archive")
    bring_back(system, manifest, location, ObjectStore(str(tmp_path / "elsewhere")))
    assert {one: all_entries(system, one) for one in stream_names(PARTITIONS)} == before
    assert beside_streams(system) == heads
    assert len(system.log.client.xrange(key(1, "log"))) < len(before["p01"])
    drain(system)
    assert system.everything_kept()[:PARTITIONS] == projections[:PARTITIONS]
    system.do(PatchTags("d1", {"on": True}))
    drain(system)


@pytest.mark.parametrize("size", [2, pytest.param(1, marks=pytest.mark.long), pytest.param(3, marks=pytest.mark.long)])
@pytest.mark.parametrize("point", shortened([FailPoint.BACKUP_HEAD_READ, FailPoint.BACKUP_FILE_PUT]))
def test_what_is_archived_past_the_heads_of_a_backup_comes_back_whole_once_and_goes_on_being_archived(
    system: System, tmp_path: Path, point: FailPoint, size: int
) -> None:
    """All heads are read when the first file is put; entries up to a head may fill a segment, and be gone from Redis by then."""
    before = {one: all_entries(system, one) for one in stream_names(PARTITIONS)}
    left = itertools.count(-len(before) + 1 if point is FailPoint.BACKUP_HEAD_READ else 0)

    def overtake(reached: FailPoint) -> None:
        if reached is point and next(left) == 0:
            for number in range(3):
                grow(system, number)
            archive_all(system, tmp_path / "archive", size)

    observers.append(overtake)
    try:
        manifest, location = taken(system, tmp_path / "b")
    finally:
        observers.remove(overtake)
    assert any(stream.segments and stream.segments[-1].last == stream.head for stream in manifest.streams)
    bring_back(system, manifest, location, ObjectStore(str(tmp_path / "elsewhere")))
    for one, entries in before.items():
        assert all_entries(system, one) == entries, one
        assert RawStreams(system.log.client).head(one) == len(entries)
    for number in range(3):
        grow(system, number)
    after = {one: all_entries(system, one) for one in stream_names(PARTITIONS)}
    assert archive_all(system, tmp_path / "elsewhere", size) > 0
    assert {one: all_entries(system, one) for one in stream_names(PARTITIONS)} == after
    assert_rebuilt(system)


@pytest.mark.full
def test_full_blocks_of_what_is_in_the_archive_alone_by_now_are_not_needed_any_more(
    system: System, tmp_path: Path
) -> None:
    (stored,) = system.log.load(["d1"])
    for number in range(1, 11):
        large = Proposed(
            "d1", stored.head.version + number - 1, TwinPatched(tags={"n": 1, "large": chr(96 + number) * 900_000})
        )
        system.log.append([large], command_id=str(number), by=Principal.parse("user:ada"), at=7)
    drain(system)
    stream = name(partition_of("d1", PARTITIONS))
    first, _ = taken(system, tmp_path / "b")
    assert [block.full for one in first.streams if one.name == stream for block in one.blocks] == [True]
    grow(system, 0)
    archive_all(system, tmp_path / "archive", 2)
    before = {one: all_entries(system, one) for one in stream_names(PARTITIONS)}
    second, location = taken(system, tmp_path / "b", at=1_800_000_000_001)
    (copied,) = (one for one in second.streams if one.name == stream)
    assert copied.blocks[0].first == copied.trimmed + 1
    bring_back(system, second, location, ObjectStore(str(tmp_path / "elsewhere")))
    assert {one: all_entries(system, one) for one in stream_names(PARTITIONS)} == before
    drain(system)
    assert_rebuilt(system)


def grow(system: System, number: int) -> None:
    system.do(*(PatchTags(f"d{one}", {"n": 9 + number % 2 * 9}) for one in range(20) if one not in {4, 7}))
    system.do(deploy(f"x{system.log.head(FLEET)}", base("x"), "tags.n = 1"))
    drain(system)


def archive_all(system: System, location: Path, size: int) -> int:
    """Move everything that may be moved; answers how many entries left Redis."""
    moving = mover(system.log, location, segment_entries=size)
    for one in stream_names(PARTITIONS):
        moving.write(one)
    return sum(moving.trim(one, before_at=FAR).trimmed for one in stream_names(PARTITIONS))


def all_entries(system: System, stream: str) -> list[Any]:
    return list(RawStreams(system.log.client).entries(stream))


def beside_streams(system: System) -> dict[str, Any]:
    return {key(number, "subjects"): subjects_in(system.log.client, number) for number in range(PARTITIONS)}


def test_what_other_parts_keep_about_the_log_in_streams_of_their_own_comes_along(
    system: System, tmp_path: Path
) -> None:
    system.log.client.xadd("{fleet}:seals", {"chain": b"\xff\x00"}, id="1-0")
    system.log.client.xadd("{fleet}:series:a", {"at": "5", "data": "{}"}, id="5-3")
    manifest, location = taken(system, tmp_path)
    assert manifest.streams[0].name == "fleet:seals"
    bring_back(system, manifest, location)
    assert system.log.client.xrange("{fleet}:seals") == [(b"1-0", {b"chain": b"\xff\x00"})]
    assert system.log.client.xrange("{fleet}:series:a") == [(b"5-3", {b"at": b"5", b"data": b"{}"})]


def test_what_the_log_says_is_erased_is_erased_again_by_a_restore(system: System, tmp_path: Path) -> None:
    store = RedisSecretStore(system.log.client)
    store.put_many({"s1": Sealed(b"k", b"c", "id"), "s2": Sealed(b"k", b"c", "id")})
    system.producer.record_erasure("device:d1", ["s1"], reason="it broke off before the deed")
    manifest, location = taken(system, tmp_path)
    bring_back(system, manifest, location)
    assert list(store.ids()) == ["s2"]
    with pytest.raises(SecretErased):
        store.sealed(["s1"])


@pytest.mark.parametrize("data", shortened([b"{", b'{"type":"BlockResolved","stream":1,"position":900,"reason":""}']))
def test_an_erasure_that_nobody_can_read_is_told_by_a_restore_which_erases_the_others_again(
    system: System, tmp_path: Path, data: bytes
) -> None:
    store = RedisSecretStore(system.log.client)
    store.put_many({"s1": Sealed(b"k", b"c", "id"), "s2": Sealed(b"k", b"c", "id")})
    bad = damage(system, FLEET, data, kind="SecretsErased")
    system.producer.skip(FLEET, bad, reason="nobody can read it")
    system.producer.record_erasure("device:d1", ["s1"], reason="it broke off before the deed")
    drain(system)
    taken(system, tmp_path / "b")
    system.log.client.flushall()
    words = ["restore", "--from", str(tmp_path / "b"), "--redis-url", system.url, "--data", str(tmp_path / "d")]
    command = [sys.executable, "-m", "services.cli", *words]
    done = waiting.run(command, env=system.environment())
    assert done.returncode == 0, done.stderr
    assert f"NOT ERASED AGAIN: fleet:{bad} records an erasure" in done.stdout
    assert list(store.ids()) == ["s2"]
    drain(system)
    assert system.fleet_projection.blocked() == {}


def test_a_system_that_is_stopped_at_a_bad_entry_and_lost_another_is_backed_up_as_it_is(
    system: System, tmp_path: Path
) -> None:
    bad = damage(system, 1)
    lost = damage(system, 2)
    system.do(*(PatchTags(f"d{number}", {"n": 1}) for number in range(20) if number not in {4, 7}))
    system.log.client.xdel(key(2, "log"), f"{lost}-0")
    before = {name(number): system.log.client.xrange(key(number, "log")) for number in range(PARTITIONS)}
    manifest, location = taken(system, tmp_path)
    assert {stream.name: stream.gaps for stream in manifest.streams if stream.gaps} == {"p02": ((lost, lost),)}
    system.log.client.flushall()
    claim(manifest, system.log.client)
    restored = restore(manifest, location, system.log.client)
    assert restored.unapplied == (f"p01:{bad}",)
    rebuild_projections(system)
    finish(system.log.client)
    assert {name(number): system.log.client.xrange(key(number, "log")) for number in range(PARTITIONS)} == before
    drain(system)
    stopped = system.fleet_projection.blocked()
    assert {number: one.position for number, one in stopped.items()} == {1: bad, 2: lost}
    for number, one in stopped.items():
        system.producer.skip(number, one.position, reason="it is lost")
    drain(system)
    assert system.fleet_projection.blocked() == {}
    assert system.is_settled()


@pytest.mark.parametrize("how", shortened(["an assignment change that was changed", "an event that is gone"]))
def test_a_partition_that_no_longer_applies_to_where_it_was_is_restored_as_stopped_and_all_others_are_whole(
    system: System, tmp_path: Path, how: str
) -> None:
    client: Any = system.log.client
    number = partition_of("d1", PARTITIONS)
    if how == "an event that is gone":
        events = client.xrange(key(number, "log"))
        bad = next(one for one, fields in events if fields[b"type"] == b"TwinPatched" and fields[b"subject"] == b"d1")
        client.xdel(key(number, "log"), bad)
        gap = f"{name(number)}:{bad.split(b'-')[0].decode()}"
    else:
        assignment_changes = client.xrange(key(number, "assignments"))
        client.delete(key(number, "assignments"))
        for turn, (one, fields) in enumerate(assignment_changes):
            data = fields[b"data"] if turn else fields[b"data"].replace(b'"count":', b'"count":1')
            client.xadd(key(number, "assignments"), {**fields, b"data": data}, id=one)
    system.do(PatchTags("d1", {"n": 52}))
    drain(system)
    assert system.is_settled()
    projections = system.everything_kept()
    backup = cli(system, "backup", "--to", str(tmp_path / "b"), "--redis-url", system.url)
    assert (backup.returncode, "MISSING in the log" in backup.stdout) == ((4, True) if "gone" in how else (0, False))
    client.flushall()
    words = ["--from", str(tmp_path / "b"), "--redis-url", system.url, "--data", str(tmp_path / "d")]
    done = cli(system, "restore", *words)
    assert done.returncode == 4, done.stderr
    why = (
        f"expected position {gap.partition(':')[2]}"
        if "gone" in how
        else "assignment change 1 differs from what the events give"
    )
    assert f"STOPPED: {name(number)}: {why}" in done.stdout
    open_log(system.url)
    drain(system)
    assert [why in one.error for one in system.fleet_projection.blocked().values()] == [True]
    kept = system.everything_kept()
    assert [one for one in range(PARTITIONS) if kept[one] != projections[one]] == [number]
    assert client.keys(key(number, "projection:[^b]*")) == []
    if "gone" in how:
        system.producer.skip(number, int(gap.partition(":")[2]), reason="it is lost")
        drain(system)
        assert "twinfold rebuild" in system.fleet_projection.blocked()[number].error


def cli(system: System, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "services.cli", *words]
    return waiting.run(command, env=system.environment())


@pytest.mark.parametrize("how", ["changed", "missing", "cut", "list"])
def test_a_damaged_backup_is_refused_by_the_name_of_the_file_before_anything_is_written(
    system: System, tmp_path: Path, how: str
) -> None:
    manifest, location = taken(system, tmp_path)
    block = next(stream for stream in manifest.streams if stream.name == "p01").blocks[0]
    path = tmp_path / block.file.name
    match how:
        case "changed":
            path.write_bytes(path.read_bytes()[:-1] + b"x")
        case "missing":
            path.unlink()
        case "cut":
            path.write_bytes(path.read_bytes()[:50])
        case _:
            path = tmp_path / "backups" / f"{manifest.id}.json"
            path.write_bytes(path.read_bytes().replace(b'"partitions":4', b'"partitions":5'))
    with pytest.raises(BackupDamaged) as refused:
        verify(location.manifest(), location, keys=None)
    assert path.name.removesuffix(".json") in str(refused.value)
    assert ("p01:1-" in str(refused.value)) is (how != "list")


@pytest.mark.parametrize("where", ["local", "private", "archive"])
@pytest.mark.parametrize("named", ["../outside", "/outside", "a/../../outside", ""])
def test_a_list_that_names_files_elsewhere_is_refused_before_anything_is_written(
    system: System, tmp_path: Path, where: str, named: str
) -> None:
    manifest, location = taken(system, tmp_path)
    file = location.put(b"whatever")
    location.finish(msgspec.structs.replace(manifest, **{where: {named: file}}))
    with pytest.raises(BackupDamaged, match="has the invalid file name"):
        verify(location.manifest(), location, keys=None)


def test_a_list_that_leaves_out_entries_up_to_the_head_is_refused(system: System, tmp_path: Path) -> None:
    archive_all(system, tmp_path / "archive", 4)
    grow(system, 0)
    lost = int(system.log.client.xrange(key(2, "log"))[1][0].split(b"-")[0])
    system.log.client.xdel(key(2, "log"), f"{lost}-0")
    manifest, location = taken(system, tmp_path / "b")
    verify(manifest, location, keys=None)
    (stream,) = (one for one in manifest.streams if one.name == "p01")
    (gapped,) = (one for one in manifest.streams if one.name == "p02")
    assert stream.trimmed
    for lame, missing in (
        (msgspec.structs.replace(stream, trimmed=0), f"p01:1 to p01:{stream.trimmed}"),
        (msgspec.structs.replace(stream, segments=stream.segments[1:]), f"p01:1 to p01:{stream.segments[0].last}"),
        (msgspec.structs.replace(stream, blocks=()), f"p01:{stream.trimmed + 1} to p01:{stream.head}"),
        (msgspec.structs.replace(gapped, gaps=()), f"p02:{lost} to p02:{lost}"),
    ):
        streams = tuple(lame if one.name == lame.name else one for one in manifest.streams)
        with pytest.raises(BackupDamaged, match=f"has no entries {missing};"):
            verify(msgspec.structs.replace(manifest, streams=streams), location, keys=None)


def test_a_list_that_names_no_digest_is_refused(system: System, tmp_path: Path) -> None:
    manifest, location = taken(system, tmp_path)
    location.finish(msgspec.structs.replace(manifest, beside=(File("../../etc/passwd", 1),)))
    with pytest.raises(BackupDamaged, match="has the invalid digest"):
        verify(location.manifest(), location, keys=None)


def test_what_does_not_unpack_beside_the_log_is_refused_before_anything_is_written(
    system: System, tmp_path: Path
) -> None:
    manifest, location = taken(system, tmp_path)
    location.finish(msgspec.structs.replace(manifest, beside=(location.put(b"whatever"),)))
    with pytest.raises(BackupDamaged, match="cannot be unpacked"):
        verify(location.manifest(), location, keys=None)


def test_a_password_in_a_place_is_neither_shown_nor_written_down(system: System, tmp_path: Path) -> None:
    keys = BackupLocation("memory://ada:hunter2@host/keys")
    assert "hunter2" not in keys.url
    with pytest.raises(NoBackup) as missing:
        keys.manifest()
    assert "hunter2" not in str(missing.value)
    manifest = take(system.log, BackupLocation(str(tmp_path)), keys=keys, at=1_800_000_000_000)
    assert "hunter2" not in manifest.private_at


def test_a_place_without_a_whole_backup_says_so(tmp_path: Path, system: System) -> None:
    with pytest.raises(NoBackup, match="complete backups: none"):
        BackupLocation(str(tmp_path)).manifest()
    manifest, location = taken(system, tmp_path)
    with pytest.raises(NoBackup, match=manifest.id):
        location.manifest("other")


def test_a_log_that_is_there_is_never_restored_over(system: System, tmp_path: Path) -> None:
    manifest, _ = taken(system, tmp_path)
    with pytest.raises(TargetNotEmpty, match="not empty"):
        claim(manifest, system.log.client)


def test_a_restore_that_broke_off_is_no_log_for_anybody_and_begins_anew(system: System, tmp_path: Path) -> None:
    before = beside(system)
    manifest, location = taken(system, tmp_path)
    client: Any = system.log.client
    client.flushall()
    claim(manifest, client)
    with pytest.raises(_BrokeOff):
        restore(manifest, location, client, tell=_break_off)
    with pytest.raises(LogRestoring, match="restore"):
        open_log(system.url)
    with pytest.raises(LogRestoring):
        initialise(system.url, partitions=PARTITIONS)
    claim(manifest, client)
    restore(manifest, location, client)
    rebuild_projections(system)
    finish(client)
    assert beside(system) == before
    drain(system)
    assert_rebuilt(system)


class _BrokeOff(Exception):
    pass


def _break_off(what: str, _done: int, _total: int) -> None:
    if what == "p02":
        raise _BrokeOff


def test_a_backup_of_a_system_that_moves_holds_whatever_its_entries_name(system: System, tmp_path: Path) -> None:
    """Between any two looks at a head something is written in every stream, and projected."""
    moves = itertools.count()

    def move(point: FailPoint) -> None:
        if point is FailPoint.BACKUP_HEAD_READ:
            number = next(moves)
            system.do(*(PatchTags(f"d{one}", {"n": 100 + number}) for one in range(4)))
            system.do(deploy(f"x{number}", base("x"), f"tags.n = {100 + number}", priority=10 + number))
            drain(system)

    observers.append(move)
    try:
        manifest, location = taken(system, tmp_path)
    finally:
        observers.remove(move)
    heads = {stream.name: stream.head for stream in manifest.streams}
    assert next(moves) == len(heads)
    for number in range(PARTITIONS):
        last = system.projections.assignment_changes(number, after=heads[f"{name(number)}:assignments"] - 1, limit=1)
        vector = msgspec.json.decode(last[0].data, type=AssignmentChange).after
        assert vector.partition <= heads[name(number)]
        assert vector.fleet <= heads["fleet"]
    bring_back(system, manifest, location)
    drain(system)
    assert_rebuilt(system)


@pytest.mark.full
def test_a_backup_while_processes_write_is_restored(system: System, tmp_path: Path) -> None:
    stopping = threading.Event()

    def write() -> None:
        for number in itertools.takewhile(lambda _: not stopping.is_set(), itertools.count()):
            system.do(PatchTags(f"d{number % 4}", {"on": number % 2 == 0, "n": number % 30}))

    with system.process("-m", "workers.pool"):
        writer = threading.Thread(target=write)
        writer.start()
        try:
            manifest, location = taken(system, tmp_path)
        finally:
            stopping.set()
            writer.join()
        system.settle()
    bring_back(system, manifest, location)
    drain(system)
    assert_rebuilt(system)


_TAKE = """
import sys
from events.backup.location import BackupLocation
from events.backup.backup import take
from events.device.events import TwinPatched
from events.envelope import Principal
from events.log.log_factory import open_log
take(open_log(sys.argv[1]), BackupLocation(sys.argv[2]), at=int(sys.argv[3]))
"""


def test_a_full_disk_leaves_no_backup_and_a_clear_word(system: System, tmp_path: Path) -> None:
    # -B: Python would cut off the byte code that it stores of our modules, and fail to read it from then on.
    command = [
        sys.executable,
        "-B",
        "-m",
        "services.cli",
        "backup",
        "--to",
        str(tmp_path / "b"),
        "--redis-url",
        system.url,
    ]
    environment = system.environment(TWINFOLD_DATA_DIR=str(tmp_path / "d"))
    done = waiting.run(command, env=environment, preexec_fn=_little_space)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].startswith(f"twinfold: object store {tmp_path / 'b'}: ")
    assert "Traceback" not in done.stderr
    assert BackupLocation(str(tmp_path / "b")).ids() == ()


def _little_space() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))


@pytest.mark.parametrize("point", shortened(["backup_file_put:3", "backup_before_list"]))
def test_a_backup_that_is_killed_is_none_and_the_next_one_is_whole(system: System, tmp_path: Path, point: str) -> None:
    command = [sys.executable, "-c", _TAKE, system.url, str(tmp_path), "1800000000000"]
    killed = waiting.run(command, env=system.environment(TWINFOLD_FAILPOINT=point))
    assert killed.returncode == -9
    assert BackupLocation(str(tmp_path)).ids() == ()
    # Nobody can tell a killed one from one that is slow, for a day.
    kept = BackupLocation(str(tmp_path)).prune(system.log.epoch, keep=1, at=1_800_000_000_000 + UNDER_WAY_MS - 1)
    assert (kept.files, len(kept.under_way)) == (0, 1)
    forgotten = BackupLocation(str(tmp_path)).prune(system.log.epoch, keep=1, at=1_800_000_000_000 + UNDER_WAY_MS)
    assert (forgotten.files >= 3, forgotten.under_way) == (True, ())
    before = beside(system)
    manifest, location = taken(system, tmp_path)
    bring_back(system, manifest, location)
    assert beside(system) == before


@pytest.mark.long
def test_a_restore_that_is_killed_is_begun_anew_by_the_command(system: System, tmp_path: Path) -> None:
    before, projections = beside(system), system.everything_kept()
    taken(system, tmp_path / "b")
    system.log.client.flushall()
    words = ["restore", "--from", str(tmp_path / "b"), "--redis-url", system.url, "--data", str(tmp_path / "d")]
    command = [sys.executable, "-m", "services.cli", *words]
    for point in ("restore_entries_put:2", "restore_before_finish"):
        killed = waiting.run(command, env=system.environment(TWINFOLD_FAILPOINT=point))
        assert killed.returncode == -9
        with pytest.raises(LogRestoring):
            open_log(system.url)
    done = waiting.run(command, env=system.environment())
    assert done.returncode == 0, done.stderr
    assert beside(system) == before
    drain(system)
    assert system.everything_kept() == projections
    refused = waiting.run(command, env=system.environment())
    assert (refused.returncode, "not empty" in refused.stderr) == (1, True)
