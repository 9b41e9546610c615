"""What every keeper of projections does: memory, fakeredis, a real server, a cluster."""

from collections.abc import Iterator
from typing import Any

import fakeredis
import pytest
from msgspec import UNSET, UnsetType
from redis import Redis

from events import canonical
from events.envelope import Vector
from events.fleet.assignments import NO_ASSIGNMENT, Assignment, AssignmentStatus, Own
from events.log.connect import connect
from events.projection_store.memory import MemoryProjectionStore
from events.projection_store.port import Blocked, ProjectionStore, StoredDevice
from events.projection_store.redis import RedisProjectionStore
from events.stored_projection.stored_partition import ARRAYS, HASHES, AssignmentEntry, Checkpoint, Writes
from services.embedded_redis import EmbeddedRedis
from tests.servers import BACKENDS, CLUSTER, flush

ONE = Checkpoint(Vector(1, 1), at=10, assignment_changes=1, decided=Vector(1, 1), over_budget=(("tags", "a"),))
TWO = Checkpoint(Vector(2, 1), at=20, assignment_changes=1, decided=Vector(1, 1))


@pytest.fixture(params=[*BACKENDS, CLUSTER])
def store(request: pytest.FixtureRequest) -> Iterator[ProjectionStore]:
    match request.param:
        case "memory":
            yield MemoryProjectionStore()
        case "fakeredis":
            yield RedisProjectionStore(fakeredis.FakeRedis())
        case "shared_redis" | "oldest_redis" as name:
            server: EmbeddedRedis = request.getfixturevalue(name)
            client = Redis.from_url(server.url)
            flush(client)
            yield RedisProjectionStore(client)
            client.close()
        case _:
            nodes = connect(request.getfixturevalue("cluster_url"))
            flush(nodes)
            yield RedisProjectionStore(nodes)
            nodes.close()


def writes(
    checkpoint: Checkpoint = ONE,
    *,
    expected: Checkpoint | None = None,
    hashes: dict[str, dict[str, bytes | None]] | None = None,
    arrays: dict[str, tuple[tuple[int, bytes], ...]] | None = None,
    assignment_change: AssignmentEntry | None = None,
) -> Writes:
    return Writes(expected or Checkpoint(), checkpoint, hashes or {}, arrays or {}, assignment_change)


def everything(store: ProjectionStore, partition: int = 0) -> tuple[Any, ...]:
    stored_partition = store.load(partition)
    return stored_partition.checkpoint, stored_partition.hashes, stored_partition.arrays


def test_a_partition_that_was_never_kept_is_empty_and_at_the_beginning(store: ProjectionStore) -> None:
    assert everything(store) == (Checkpoint(), {name: {} for name in HASHES}, dict.fromkeys(ARRAYS, b""))
    assert store.numbers(0, 17, ("assignment_of", "moved_by")) == (0, 0)
    assert list(store.assignment_changes(0, after=0, limit=10)) == []
    assert store.blocked(0) is None


def test_a_commit_writes_fields_ranges_assignment_change_and_checkpoint_together(store: ProjectionStore) -> None:
    entry = AssignmentEntry(1, 10, "p00:1-1 fleet:1-1", b"{}")
    assignments: dict[str, bytes | None] = {"1": b"one", "2": b"\x00\xff"}
    array = ((0, b"\x01\x00\x00\x00"), (8, b"\x02\x00\x00\x00"))
    assert store.commit(
        0, writes(hashes={"assignments": assignments}, arrays={"assignment_of": array}, assignment_change=entry)
    )
    checkpoint, hashes, arrays = everything(store)
    assert (checkpoint, hashes["assignments"]) == (ONE, assignments)
    assert arrays["assignment_of"] == b"\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00"
    assert store.numbers(0, 2, ("assignment_of", "moved_by")) == (2, 0)
    assert list(store.assignment_changes(0, after=0, limit=10)) == [entry]
    assert list(store.assignment_changes(0, after=1, limit=10)) == []
    assert everything(store, 1)[0] == Checkpoint()


def test_a_later_commit_changes_only_what_it_names(store: ProjectionStore) -> None:
    store.commit(
        0, writes(hashes={"assignments": {"1": b"one", "2": b"two"}}, arrays={"assignment_of": ((0, b"\x01" * 8),)})
    )
    later = writes(
        TWO,
        expected=ONE,
        hashes={"assignments": {"1": None, "3": b"three"}},
        arrays={"assignment_of": ((4, b"\x02" * 4),)},
    )
    assert store.commit(0, later)
    checkpoint, hashes, arrays = everything(store)
    assert (checkpoint, hashes["assignments"]) == (TWO, {"2": b"two", "3": b"three"})
    assert arrays["assignment_of"] == b"\x01" * 4 + b"\x02" * 4


def test_a_commit_on_a_checkpoint_that_moved_writes_nothing(store: ProjectionStore) -> None:
    assert store.commit(0, writes(hashes={"assignments": {"1": b"one"}}))
    before = everything(store)
    for expected in (Checkpoint(), TWO):
        late = writes(
            TWO,
            expected=expected,
            hashes={"assignments": {"1": b"late"}},
            assignment_change=AssignmentEntry(2, 20, "", b"{}"),
        )
        assert not store.commit(0, late)
    assert everything(store) == before
    assert list(store.assignment_changes(0, after=0, limit=10)) == []


def test_a_reader_gets_just_what_it_asks_for(store: ProjectionStore) -> None:
    store.commit(0, writes(hashes={"assignments": {"1": b"one", "2": b"two"}, "ids": {"0": b"[]"}}))
    fields = (("assignments", ("2", "9")), ("sets", ()))
    stored_partition = store.read(0, hashes=("ids",), fields=fields, arrays=("moved_by",))
    assert stored_partition.hashes == {"ids": {"0": b"[]"}, "assignments": {"2": b"two"}, "sets": {}}
    assert (stored_partition.arrays, stored_partition.checkpoint) == ({"moved_by": b""}, ONE)


def test_several_partitions_are_read_as_each_is(store: ProjectionStore) -> None:
    for number in (0, 2):
        store.commit(
            number,
            writes(hashes={"assignments": {"1": str(number).encode()}}, arrays={"assignment_of": ((0, b"1234"),)}),
        )
    hashes, fields, arrays = ("ids",), (("assignments", ("1",)), ("sets", ())), ("assignment_of",)
    stored_partitions = store.read_each((2, 1, 0), hashes=hashes, fields=fields, arrays=arrays)
    assert stored_partitions == [
        store.read(number, hashes=hashes, fields=fields, arrays=arrays) for number in (2, 1, 0)
    ]
    assert [stored_partition.hashes["assignments"].get("1") for stored_partition in stored_partitions] == [
        b"2",
        None,
        b"0",
    ]
    assert store.read_each((), hashes=hashes, fields=fields, arrays=arrays) == []


def test_a_commit_of_thousands_of_fields_is_one_commit(store: ProjectionStore) -> None:
    fields: dict[str, bytes | None] = {str(number): b"x" for number in range(5000)}
    assert store.commit(0, writes(hashes={"ordinals": fields}))
    assert store.load(0).hashes["ordinals"] == fields
    assert store.commit(0, writes(TWO, expected=ONE, hashes={"ordinals": dict.fromkeys(fields)}))
    assert store.load(0).hashes["ordinals"] == {}


def test_assignment_changes_are_read_in_pages(store: ProjectionStore) -> None:
    before = Checkpoint()
    for number in range(1, 8):
        after = Checkpoint(Vector(number, 0), assignment_changes=number)
        assert store.commit(
            0, writes(after, expected=before, assignment_change=AssignmentEntry(number, number, "", b"{}"))
        )
        before = after
    assert [assignment_change.position for assignment_change in store.assignment_changes(0, after=2, limit=3)] == [
        3,
        4,
        5,
    ]
    assert list(store.assignment_changes(0, after=2, limit=0)) == []


def test_the_time_at_which_an_assignment_change_was_recorded_never_falls(store: ProjectionStore) -> None:
    before = Checkpoint()
    # As a version wrote it that did not say when, one with a clock that is right, one behind it, and one ahead.
    for number, recorded in enumerate((None, 15, 14, 30), 1):
        after = Checkpoint(Vector(number, 0), assignment_changes=number)
        entry = AssignmentEntry(number, 10 + number, "", b"{}", recorded)
        assert store.commit(0, writes(after, expected=before, assignment_change=entry))
        before = after
    assignment_changes = store.assignment_changes(0, after=0, limit=10)
    assert [assignment_change.recorded for assignment_change in assignment_changes] == [None, 15, 15, 30]
    assert [assignment_change.effective_from for assignment_change in assignment_changes] == [11, 15, 15, 30]
    entry = AssignmentEntry(1, 20, "", b"{}")
    assert store.commit(1, writes(ONE, assignment_change=entry))
    assert store.commit(1, writes(TWO, expected=ONE, assignment_change=AssignmentEntry(2, 20, "", b"{}", 7)))
    assert store.assignment_changes(1, after=1, limit=1)[0].recorded == 20


def test_a_block_stands_until_it_is_lifted(store: ProjectionStore) -> None:
    blocked = Blocked(-1, 17, "p00:17 cannot be read", 1000, decidable=False)
    store.block(3, blocked)
    assert store.blocked(3) == blocked
    assert store.blocked(2) is None
    store.block(3, None)
    assert store.blocked(3) is None


def test_one_device_is_read_as_of_one_point_in_time(store: ProjectionStore) -> None:
    assert store.device(0, "d") is None
    assignment = Assignment(AssignmentStatus.MANAGED, (), "00ff", {}, own=Own("00aa"))
    hashes: dict[str, dict[str, bytes | None]] = {
        "ordinals": {"d": b"2", "new": b"0"},
        "assignments": {"258": canonical.encode(assignment)},
        "configurations": {"00ff": b'{"m":{}}', "00aa": b'{"$device":{}}'},
    }
    arrays = {"assignment_of": ((8, b"\x02\x01\x00\x00"),), "moved_by": ((8, b"\x01\x00\x00\x00"),)}
    store.commit(0, writes(hashes=hashes, arrays=arrays, assignment_change=AssignmentEntry(1, 17, "p00:1-1", b"{}")))
    device = StoredDevice("d", ONE, 2, assignment, b'{"m":{}}', 1, 17, "p00:1-1", b'{"$device":{}}')
    assert store.device(0, "d") == device
    assert store.device(0, "new") == StoredDevice("new", ONE, 0, NO_ASSIGNMENT, b"", 0, 0, "")
    assert store.device(1, "d") is None


@pytest.mark.parametrize("own", [UNSET, Own("00aa")])
def test_a_module_that_is_called_own_is_not_the_own_twin(store: ProjectionStore, own: Own | UnsetType) -> None:
    assignment = Assignment(AssignmentStatus.MANAGED, (), "00ff", {}, own=own, modules={"own": Own("00bb")})
    hashes: dict[str, dict[str, bytes | None]] = {
        "ordinals": {"d": b"0"},
        "assignments": {"1": canonical.encode(assignment)},
        "configurations": {"00ff": b"{}", "00aa": b'{"$device":{}}', "00bb": b'{"$module":{}}'},
    }
    store.commit(0, writes(hashes=hashes, arrays={"assignment_of": ((0, b"\x01\x00\x00\x00"),)}))
    device = store.device(0, "d")
    assert device is not None
    assert device.own == (b"" if own is UNSET else b'{"$device":{}}')
