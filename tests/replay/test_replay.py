import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import override

from events import PatchTags, RegisterDevice, UpdateDeployment
from events.bitmaps import from_bytes, to_bytes
from events.deployment.commands import DeleteDeployment
from events.device.commands import CreateModule, DeleteModule, PatchTwin, RetireDevice
from events.device.events import TwinPatched
from events.envelope import Principal
from events.history.log_at import PastDocuments
from events.history.snapshot_taker import SnapshotTaker
from events.history.snapshots import Snapshots
from events.log.archive.mover import Mover
from events.log.documents import DeviceDocuments
from events.log.entries import number_of
from events.log.errors import LogUnavailable, ManifestDamaged
from events.log.events import LogInitialised
from events.log.keys import FLEET, key, partition_of
from events.log.memory import MemoryLog
from events.log.object_store import ObjectStore
from events.log.port import Head, Proposed, Stored
from events.log.raw import RawStreams
from events.projection_store.memory import MemoryProjectionStore
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.fleet.histories import History, histories
from tests.fleet.test_laws import run, steps
from tests.shortening import shortened
from tests.stored_subjects import store, subjects_in
from tests.workers.system import PARTITIONS, System, answer, base, deploy, fresh_system, join, layer
from workers.projector import Projector
from workers.replay.archived import ArchivedLog
from workers.replay.pool import replay_streams
from workers.replay.report import Compared, ReplayDifference, ReplayRequest
from workers.replay.streams import Replay

pytestmark = pytest.mark.redis_server

DEVICES = [f"d{number}" for number in range(24)]


def drain(system: System) -> None:
    projector = Projector(system.log, system.projections, clock=lambda: 5)
    for number in range(PARTITIONS):
        assert projector.drain(number, go_on=lambda: True)


def live(system: System, then: Callable[[], object] = lambda: None) -> None:
    """A history with a little of everything, replayed as it came."""
    system.do(*(command for number, name in enumerate(DEVICES) for command in join(name, site=number % 5, on=True)))
    system.do(deploy("a", base("m"), "tags.on = true"), deploy("l", layer("x", k=1), "tags.site = 3", 9))
    drain(system)
    then()
    system.do(*(answer(system, name, m="running") for name in DEVICES[:12]), CreateModule("d1", "x"))
    system.do(PatchTwin("d1", module_id="x", desired={"y": 1}), CreateModule("d2", "x"), DeleteModule("d2", "x"))
    drain(system)
    then()
    system.do(*(PatchTags(name, {"on": None}) for name in DEVICES[:6]), RetireDevice("d7"), RegisterDevice("d7"))
    drain(system)
    then()
    system.do(UpdateDeployment("l", priority=11, target_condition="tags.site = 4"), deploy("b", base("n"), "*", 3))
    drain(system)
    then()
    system.do(DeleteDeployment("a"), PatchTags("d8", {"site": 77}))
    drain(system)
    then()


@pytest.fixture
def system(shared_redis: EmbeddedRedis) -> Iterator[System]:
    with fresh_system(shared_redis, waking=False, at=1_700_000_000_000) as system:
        live(system)
        yield system


def replayed(system: System) -> list[Compared]:
    replay = Replay(system.log, system.projections, system.projections)
    return [replay.stream(stream) for stream in (FLEET, *range(PARTITIONS))]


def differences(system: System) -> list[ReplayDifference]:
    return [difference for one in replayed(system) for difference in one.differences]


def test_all_that_a_life_left_behind_is_found_again_from_its_events(system: System) -> None:
    streams = replayed(system)
    assert [difference for stream in streams for difference in stream.differences] == []
    heads = system.log.heads()
    assert {stream.stream: stream.events for stream in streams} == dict(heads)
    recorded = sum(system.projections.checkpoint(number).assignment_changes for number in range(PARTITIONS))
    assert sum(stream.assignment_changes for stream in streams) == recorded > 8
    subjects = [{name for name, _ in system.log.all_stored(stream)} for stream in heads]
    assert sum(stream.documents for stream in streams) == sum(map(len, subjects))


def edit(
    system: System, stream: str, number: int, change: Callable[[dict[bytes, bytes]], dict[bytes, bytes] | None]
) -> None:
    """Write a stream anew with one entry changed, as whoever has the files of the server can."""
    client: Any = system.log.client
    entries = client.xrange(stream)
    client.delete(stream)
    for entry_position, (entry_id, fields) in enumerate(entries, 1):
        put = change(dict(fields)) if entry_position == number else fields
        if put is not None:
            client.xadd(stream, put, id=entry_id)


def position_of(system: System, subject: str, kind: type) -> tuple[int, int]:
    """Stream and position of the last event of a kind and subject."""
    number = partition_of(subject, PARTITIONS)
    events = system.log.read(number, after=0, limit=1000)
    return number, max(
        envelope.position for envelope in events if envelope.subject == subject and isinstance(envelope.event, kind)
    )


def test_an_entry_that_was_altered_is_named_by_its_twin_and_by_the_assignment_change_it_led_to(system: System) -> None:
    number, position = position_of(system, "d8", TwinPatched)
    edit(system, key(number, "log"), position, lambda fields: {**fields, b"data": fields[b"data"].replace(b"77", b"4")})
    found = differences(system)
    (twin,) = [one for one in found if one.kind == "twin"]
    assert (twin.location, twin.path) == (f"{key(number, 'subjects')} d8", "$.tags.site")
    assert (twin.stored, twin.replayed, twin.first_event) == ("77", "4", f"p{number:02d}:{position}")
    assignment_change = next(difference for difference in found if difference.kind == "assignment_change")
    assert assignment_change.devices == ("d8",)
    assert assignment_change.first_event == f"p{number:02d}:{position}"
    assert any(difference.kind == "projection" and "d8" in difference.devices for difference in found)


def test_a_twin_that_was_altered_is_named_with_the_place_inside(system: System) -> None:
    number = partition_of("d1", PARTITIONS)
    client: Any = system.log.client
    document = subjects_in(client, number)["d1"].snapshot or b""
    store(client, number, "d1", document=document.replace(b'"site":1', b'"site":"x"'))
    (twin,) = differences(system)
    assert (twin.kind, twin.location) == ("twin", f"{key(number, 'subjects')} d1")
    assert (twin.path, twin.stored, twin.replayed) == ("$.tags.site", '"x"', "1")


@pytest.mark.parametrize("subject", shortened(["d3", "nobody"]))
def test_a_head_that_was_altered_or_put_there_is_named(system: System, subject: str) -> None:
    number = partition_of(subject, PARTITIONS)
    store(system.log.client, number, subject, Head(9, 1))
    (head,) = differences(system)
    assert (head.kind, head.location, head.stored) == ("head", f"{key(number, 'subjects')} {subject}", "9:1")


@pytest.mark.full
def test_a_document_of_the_fleet_that_went_is_named(system: System) -> None:
    system.log.client.hset(key(FLEET, "subjects"), "b", "1:0")
    (document,) = differences(system)
    assert (document.kind, document.location, document.stored) == ("document", "{fleet}:subjects b", "")


@pytest.mark.parametrize(
    "name",
    shortened(["configurations", "deployments", "ids", "index", "ordinals", "assignments", "sets", "targets"], keep=2),
)
def test_a_field_of_a_projection_that_was_altered_or_went_is_named(system: System, name: str) -> None:
    client: Any = system.log.client
    redis_key = key(1, f"projection:{name}")
    field, data = min(client.hgetall(redis_key).items())
    client.hset(redis_key, field, data + b" ")
    (altered,) = differences(system)
    assert (altered.kind, altered.location) == ("projection", f"{redis_key} {field.decode()}")
    client.hdel(redis_key, field)
    (gone,) = differences(system)
    assert (gone.kind, gone.location, gone.stored) == ("projection", f"{redis_key} {field.decode()}", "")


@pytest.mark.full
def test_a_device_too_many_in_a_set_is_named(system: System) -> None:
    client: Any = system.log.client
    field, data = next(iter(client.hgetall(key(1, "projection:targets")).items()))
    first = system.projections.load(1).hashes["ids"]["0"]
    members = from_bytes(data)
    members ^= type(members)([0])
    client.hset(key(1, "projection:targets"), field, to_bytes(members))
    (found,) = differences(system)
    assert found.devices == (msgspec.json.decode(first)[0],)


@pytest.mark.full
def test_a_number_of_an_array_and_one_of_the_checkpoint_are_named(system: System) -> None:
    client: Any = system.log.client
    client.setrange(key(2, "projection:assignment_of"), 4, b"\x63\0\0\0")
    checkpoint = client.get(key(2, "projection:checkpoint"))
    client.set(key(2, "projection:checkpoint"), checkpoint.replace(b'"next_assignment":', b'"next_assignment":7'))
    found = {one.kind: one for one in differences(system)}
    assert found["projection"].location == "{p02}:projection:assignment_of [1]"
    assert found["projection"].stored == "99"
    assert (found["checkpoint"].location, found["checkpoint"].path) == (
        "{p02}:projection:checkpoint",
        "$.next_assignment",
    )


def assignment_changes_of(system: System) -> tuple[int, int]:
    """A partition and how many assignment changes it has."""
    return max(
        ((number, system.projections.checkpoint(number).assignment_changes) for number in range(PARTITIONS)),
        key=lambda two: two[1],
    )


def test_an_assignment_change_that_was_altered_is_named_with_the_events_it_can_come_from(system: System) -> None:
    number, _ = assignment_changes_of(system)
    edit(
        system,
        key(number, "assignments"),
        2,
        lambda fields: {**fields, b"data": fields[b"data"].replace(b'"status":"managed"', b'"status":"by hand"')},
    )
    (found,) = differences(system)
    recorded = system.projections.assignment_changes(number, after=1, limit=1)[0]
    assert (found.kind, found.location) == ("assignment_change", f"p{number:02d}:assignments:2")
    assert (found.events, found.path.startswith("$.moves[0]")) == (recorded.cause, True)
    assert found.devices
    assert found.first_event


@pytest.mark.parametrize("field", shortened([b"at", b"cause"]))
def test_the_time_and_the_cause_of_an_assignment_change_are_compared_as_well(system: System, field: bytes) -> None:
    number, _ = assignment_changes_of(system)
    edit(system, key(number, "assignments"), 2, lambda fields: {**fields, field: b"17"})
    (found,) = differences(system)
    assert (found.kind, found.location, found.path) == (
        "assignment_change",
        f"p{number:02d}:assignments:2",
        f"$.{field.decode()}",
    )


@pytest.mark.parametrize("which", shortened([1, 2, 0]))
def test_an_assignment_change_that_went_is_named_first_in_the_middle_or_last(system: System, which: int) -> None:
    number, count = assignment_changes_of(system)
    position = which or count
    edit(system, key(number, "assignments"), position, lambda _fields: None)
    found = differences(system)
    assert found[0].location == f"p{number:02d}:assignments:{position}"
    assert (found[0].stored, found[0].replayed) == ("", "an assignment change that is not recorded")


@pytest.mark.full
def test_an_assignment_change_too_many_is_named(system: System) -> None:
    number, count = assignment_changes_of(system)
    client: Any = system.log.client
    fields = dict(client.xrevrange(key(number, "assignments"), count=1)[0][1])
    client.xadd(key(number, "assignments"), fields, id=f"{count + 1}-0")
    checkpoint = client.get(key(number, "projection:checkpoint"))
    client.set(
        key(number, "projection:checkpoint"),
        checkpoint.replace(b'"assignment_changes":%d' % count, b'"assignment_changes":%d' % (count + 1)),
    )
    found = differences(system)
    assert found[0].location == f"p{number:02d}:assignments:{count + 1}"
    assert found[0].replayed == "no assignment change"


@pytest.mark.full
def test_events_that_were_skipped_by_decision_are_skipped_again(system: System) -> None:
    bad = Proposed("d11", system.log.load(["d11"])[0].head.version, TwinPatched({"site": 3}))
    number = partition_of("d11", PARTITIONS)
    client: Any = system.log.client
    by = Principal.parse("user:ada")
    (chunk,) = system.log.append([bad], command_id="c", by=by, at=1)
    position = system.log.head(number) + 1
    unread = {"type": "X", "subject": "d12", "version": 9, "at": 1, "by": "user:ada", "cause": "", "data": "{"}
    client.xadd(key(number, "log"), unread, id=f"{position}-0")
    client.hset(key(number, "meta"), "position", position)
    system.producer.skip(number, position - 1, reason="an experiment")
    system.producer.skip(number, position, reason="a faulty disk")
    drain(system)
    assert system.fleet_projection.blocked() == {}
    assert chunk.stream == number
    assert differences(system) == []
    (found,) = [one for one in replayed(system) if one.stream == number]
    assert (found.skipped, found.apart) == (2, 2)


def test_a_partition_that_is_stopped_is_compared_as_far_as_it_came(system: System) -> None:
    number = partition_of("nobody5", PARTITIONS)
    by = Principal.parse("user:ada")
    system.log.append([Proposed("nobody5", 0, TwinPatched({"on": True}))], command_id="c", by=by, at=1)
    Projector(system.log, system.projections, clock=lambda: 5).drain(number, go_on=lambda: True)
    assert number in system.fleet_projection.blocked()
    assert differences(system) == []


def archived(system: System, location: Path, *, keep: bool) -> None:
    """Write the log to an archive, and take what is there out of Redis unless it is to stay."""
    initialisation = LogInitialised(system.log.epoch, system.log.partitions)
    mover = Mover(system.log.client, ObjectStore(str(location)), initialisation=initialisation, segment_entries=2)
    mover.settle()
    for stream in mover.streams:
        mover.write(stream)
        if not keep:
            mover.trim(stream, before_at=2**53)


def test_a_log_of_which_redis_has_the_newest_entries_alone_is_replayed_across_its_archive(
    system: System, tmp_path: Path
) -> None:
    before = [(stream.events, stream.assignment_changes, stream.documents) for stream in replayed(system)]
    archived(system, tmp_path, keep=False)
    client: Any = system.log.client
    assert client.xlen("{p01}:log") < system.log.head(1)
    assert differences(system) == []
    assert [(stream.events, stream.assignment_changes, stream.documents) for stream in replayed(system)] == before


def test_an_archive_alone_is_replayed_and_its_assignment_changes_compared(system: System, tmp_path: Path) -> None:
    archived(system, tmp_path, keep=True)
    command = [sys.executable, "-m", "services.cli", "replay", "--archive", str(tmp_path), "--json", "--workers", "1"]
    ran = waiting.run(command, seconds_max=100)
    found = json.loads(ran.stdout)
    assert (ran.returncode, found["differences"], found["failed"]) == (0, 0, [])
    assert found["events"] > 40
    assert found["assignmentChanges"] >= 4


@pytest.mark.full
def test_a_file_of_the_archive_that_is_damaged_is_named_and_every_other_stream_is_replayed(
    system: System, tmp_path: Path
) -> None:
    archived(system, tmp_path, keep=True)
    segment = min((tmp_path / "events" / "p01").glob("*.parquet"))
    segment.write_bytes(segment.read_bytes()[:-1] + b"x")
    command = [sys.executable, "-m", "services.cli", "replay", "--archive", str(tmp_path), "--json", "--workers", "1"]
    ran = waiting.run(command, seconds_max=100)
    found = json.loads(ran.stdout)
    assert (ran.returncode, found["differences"], found["events"] > 20) == (2, 0, True)
    (failed,) = found["failed"]
    assert segment.name in str(failed)


def _without_a_segment(manifest: dict[str, Any]) -> None:
    del manifest["segments"][1]


def _with_another_order(manifest: dict[str, Any]) -> None:
    manifest["segments"][1:3] = manifest["segments"][2:0:-1]


def _of_another_log(manifest: dict[str, Any]) -> None:
    manifest["epoch"] = "another"


def _with_no_segment_left(manifest: dict[str, Any]) -> None:
    manifest["segments"][0]["last"] = 0


@pytest.mark.parametrize(
    "harm", shortened([_without_a_segment, _with_another_order, _of_another_log, _with_no_segment_left])
)
def test_a_manifest_that_was_altered_is_named_before_anything_is_replayed(
    system: System, tmp_path: Path, harm: Callable[[dict[str, Any]], None]
) -> None:
    archived(system, tmp_path, keep=True)
    file = tmp_path / "manifests" / "events" / "p01.json"
    manifest = json.loads(file.read_bytes())
    harm(manifest)
    file.write_text(json.dumps(manifest))
    with pytest.raises(ManifestDamaged, match=r"manifests/events/p01\.json"):
        ArchivedLog(str(tmp_path))


def test_an_archive_that_does_not_answer_is_told_once_as_that(system: System, tmp_path: Path) -> None:
    location, words = tmp_path / "archive", ["replay", "--workers", "1", "--partition", "p01"]
    archived(system, location, keep=False)
    location.rename(tmp_path / "away")
    location.write_text("no directory")
    for more in (["--redis-url", system.url], ["--archive", str(location)]):
        ran = waiting.run([sys.executable, "-m", "services.cli", *words, *more], seconds_max=100)
        # A line of progress may come before it.
        told = [line for line in ran.stderr.splitlines() if line.startswith("twinfold")]
        assert (ran.returncode, told) == (3, [f"twinfold replay: object store {location}: Not a directory"])


def test_the_command_names_what_differs_and_exits_with_1_or_with_2_if_it_cannot_be_done(system: System) -> None:
    command = [sys.executable, "-m", "services.cli", "replay", "--redis-url", system.url, "--workers", "2"]
    system.log.client.hset("{p01}:subjects", "nobody", "9:1")
    assert partition_of("nobody", PARTITIONS) != 1
    ran = waiting.run(command, seconds_max=100)
    assert ran.returncode == 1
    assert (
        ran.stdout.splitlines()[0] == "head {p01}:subjects nobody: stored what another partition has, replayed nothing"
    )
    assert ran.stdout.splitlines()[-1] == "1 difference"
    system.log.client.xdel("{p02}:log", "2-0")
    ran = waiting.run([*command, "--partition", "p02"], seconds_max=100)
    assert ran.returncode == 2
    assert "p02 cannot be replayed: p02: expected position 2" in ran.stdout


@pytest.mark.full
def test_processes_that_end_because_redis_went_away_are_told_as_that(system: System, tmp_path: Path) -> None:
    environment = system.environment(TWINFOLD_REDIS_URL=f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(LogUnavailable, match="retrying is safe"):
        list(replay_streams(ReplayRequest(), [0, 1], processes=2, environment=environment))


@pytest.mark.parametrize("upto", shortened(["fleet:3", "p01:4,fleet:2"]))
def test_a_part_of_the_history_is_replayed_to_positions(system: System, upto: str) -> None:
    replay = Replay(
        system.log, system.projections, system.projections, upto=lambda stream: _positions(upto).get(str(stream))
    )
    found = [replay.stream(stream) for stream in (FLEET, *range(PARTITIONS))]
    assert [difference for one in found for difference in one.differences] == []
    assert all(one.vector.fleet <= 3 for one in found if one.vector is not None)


@pytest.mark.full
def test_a_part_of_the_history_is_replayed_to_a_time(system: System) -> None:
    asked = msgspec.json.encode({"until": 0, "workers": 1}).decode()
    command = [sys.executable, "-m", "workers.replay", asked]
    ran = waiting.run(command, env=system.environment(), seconds_max=100)
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (0, "no difference")
    assert ran.stdout.startswith("1 event, 0 assignment changes")


def _positions(text: str) -> dict[str, int]:
    return {str(number_of(one.split(":")[0])): int(one.split(":")[1]) for one in text.split(",")}


@settings(max_examples=40)
@given(data=st.data(), history=histories(events=25, by_hand=True))
def test_any_history_is_replayed_without_a_difference(data: st.DataObject, history: History) -> None:
    """In memory: events as their rules allow them, assignment changes at whatever vectors they were decided."""
    log, projections = RecordedLog(history), MemoryProjectionStore()
    run(history, data.draw(steps(history)), store=projections)
    replayed_stream = Replay(log, projections, projections).stream(0)
    assert (replayed_stream.differences, replayed_stream.assignment_changes) == (
        [],
        projections.checkpoint(0).assignment_changes,
    )
    assert replayed_stream.events == len(history.partition)


class RecordedLog(MemoryLog):
    """A drawn history as a log of one partition."""

    def __init__(self, history: History) -> None:
        super().__init__(partitions=1)
        self._history = {0: history.partition, FLEET: history.fleet}

    @override
    def head(self, stream: int) -> int:
        return len(self._history[stream])

    @override
    def read(self, stream: int, *, after: int, limit: int) -> list[Any]:
        return list(self._history[stream][after : after + limit])

    @override
    def all_stored(self, stream: int) -> list[tuple[str, Stored]]:
        return []

    @override
    def load(self, subjects: Sequence[str], *, fleet: bool = False) -> list[Stored]:
        """What the producer would have left beside the log: the documents that its rules make."""
        replayed = DeviceDocuments()
        for envelope in self._history[0]:
            replayed.apply(envelope)
        return [Stored(replayed.head(name), replayed.document(name)) for name in subjects]


def test_snapshots_of_the_history_are_compared_on_the_way_past_them_and_a_wrong_one_is_named(
    shared_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    with fresh_system(shared_redis, waking=False, at=1_700_000_000_000) as system:
        snapshots = Snapshots(ObjectStore(str(tmp_path)), RawStreams(system.log.client), epoch=system.log.epoch)
        past = PastDocuments(system.log, RawStreams(system.log.client), None)
        taking = SnapshotTaker(system.log, system.projections, snapshots, past, every_events=1)
        live(system, then=lambda: [taking.take(number) for number in range(PARTITIONS)])
        replay = Replay(system.log, system.projections, system.projections, snapshots=snapshots)
        found = [replay.stream(number) for number in range(PARTITIONS)]
        assert [one.differences for one in found] == [[]] * PARTITIONS
        assert sum(one.snapshots for one in found) == sum(len(snapshots.listed(n)) for n in range(PARTITIONS)) > 8
        (first, second, *_), number = list(snapshots.listed(1).values()), 1
        good = snapshots.read(number, first)
        documents = good.documents
        subject = min(documents)
        documents[subject] = documents[subject].replace(b'"site":', b'"side":')
        assignment_of = b"\x07" + good.stored_partition.arrays["assignment_of"][1:]
        stored_partition = msgspec.structs.replace(
            good.stored_partition, arrays={**good.stored_partition.arrays, "assignment_of": assignment_of}
        )
        snapshots.put(number, stored_partition, documents)
        (tmp_path / second).write_bytes(b"x")
        wrong = replay.stream(number).differences
        assert {one.kind for one in wrong} == {"snapshot"}
        locations = [difference.location for difference in wrong]
        assert f"{first} {{p01}}:projection:assignment_of [0]" in locations
        assert f"{first} {subject}" in locations
        assert locations[-1] == second
