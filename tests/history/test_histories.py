"""Partitions and documents of the past, over random histories; snapshots, and what becomes of damaged ones."""

import itertools
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from events import (
    CreateDeployment,
    CreateModule,
    PatchTags,
    RegisterDevice,
    ReportProperties,
    UpdateDeployment,
    canonical,
)
from events.envelope import Vector
from events.history.errors import SnapshotDamaged
from events.history.log_at import PastDocuments
from events.history.projections_at import PartitionAt, PastPartitions, PastReplay
from events.history.snapshot_taker import SnapshotTaker
from events.history.snapshots import Snapshots
from events.log.documents import encoded
from events.log.entries import RawEntry, number_of
from events.log.keys import FLEET
from events.log.memory import MemoryLog
from events.log.object_store import ObjectStore
from events.log.raw import RawStreams
from events.projection_store.memory import MemoryProjectionStore
from events.stored_projection.stored_partition import ARRAYS, HASHES, Checkpoint, StoredPartition
from tests.producer.logs import producer
from tests.producer.test_replay import commands, snapshots
from tests.workers.system import base, layer
from workers.projector import Projector

_locations = itertools.count()
NAMED = ("tags.p = 1", "tags.q = 'x'", "properties.reported.p = 1", "properties.reported.q.y = 1", "*")
conditions = st.sampled_from(NAMED)
_targeting: st.SearchStrategy[Any] = st.one_of(
    st.builds(RegisterDevice, st.sampled_from(["a", "b", "c"])),
    st.builds(PatchTags, st.sampled_from(["a", "b"]), st.just({"p": 1})),
    st.builds(ReportProperties, st.sampled_from(["a", "b"]), st.just({"p": 1, "q": {"y": 1}})),
    st.builds(CreateDeployment, st.sampled_from(["x", "y"]), st.just(base("m")), conditions, st.integers(1, 3)),
    st.builds(CreateDeployment, st.sampled_from(["l"]), st.just(layer("n", k=1)), conditions, st.integers(4, 5)),
    st.builds(UpdateDeployment, st.sampled_from(["x", "y", "l"]), conditions),
)

more = st.one_of(_targeting, _targeting, commands)


class Stored:
    """The entries of a log and of projections in memory, by what their ports say of them."""

    def __init__(self, log: MemoryLog, projections: MemoryProjectionStore) -> None:
        self._log, self._projections = log, projections

    def read(self, stream: str, *, after: int, limit: int) -> list[RawEntry]:
        number = number_of(stream)
        some: Any = self._log.read(number, after=after, limit=limit) if ":" not in stream else ()
        some = some or self._projections.assignment_changes(number, after=after, limit=limit)
        return [RawEntry(one.position, {b"all": canonical.encode(one)}) for one in some]


class Small:
    """A log, its projections and their worker in memory, with one partition."""

    def __init__(self) -> None:
        self.log, self.projections = MemoryLog(partitions=1), MemoryProjectionStore()
        self.clock = itertools.count()
        self.producer = producer(self.log, clock=lambda: next(self.clock))
        self.projector = Projector(self.log, self.projections, clock=lambda: next(self.clock))
        self.location = f"memory://histories-{next(_locations)}"
        self.object_store = ObjectStore(self.location)
        self.snapshots = Snapshots(self.object_store, Stored(self.log, self.projections), epoch="memory")
        # Whole partitions are read through the log, and single subjects are not asked for here.
        streams: RawStreams = None  # type: ignore[assignment]
        self.documents = PastDocuments(self.log, streams, self.snapshots)
        self.alone = PastDocuments(self.log, streams, None)
        self.taking = SnapshotTaker(self.log, self.projections, self.snapshots, self.documents, every_events=1)

    def do(self, *some: Any) -> None:
        self.producer.submit(some)

    def drain(self) -> Vector:
        self.projector.drain(0, go_on=lambda: True)
        return self.projections.checkpoint(0).vector

    def replay(self, *, quick: bool) -> PastReplay:
        return PastReplay(self.log, self.projections, self.snapshots if quick else None)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    some=st.lists(more, min_size=8, max_size=40),
    steps=st.lists(st.sampled_from(["go on", "go on", "drain", "take"]), min_size=40, max_size=40),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=4),
)
def test_a_recorded_vector_gives_what_stood_then_and_any_vector_the_same_with_and_without_snapshots(
    some: list[Any], steps: list[str], cuts: list[tuple[float, float]]
) -> None:
    small = Small()
    recorded = {}
    for command, step in zip(some, steps, strict=False):
        small.do(command)
        if step != "go on":
            vector = small.drain()
            recorded[vector] = (small.projections.load(0), snapshots(small.log, 0))
        if step == "take":
            small.taking.take(0)
    for quick in (True, False):
        replay, documents = small.replay(quick=quick), small.documents if quick else small.alone
        for vector, (kept, texts) in recorded.items():
            in_effect = replay.in_effect(0, vector)
            assert in_effect.stored_partition == kept
            assert replay.implied(0, vector).stored_partition == kept
            assert encoded(documents.at(0, vector.partition)) == texts
    heads = small.log.heads()
    for own, fleet in cuts:
        vector = Vector(int(own * heads[0]), int(fleet * heads[FLEET]))
        quick_, slow = small.replay(quick=True), small.replay(quick=False)
        assert quick_.in_effect(0, vector) == slow.in_effect(0, vector)
        assert quick_.implied(0, vector) == slow.implied(0, vector)


def _runs(stored_partition: StoredPartition) -> dict[str, bytes]:
    """What each device that has anything runs."""
    numbers = memoryview(stored_partition.arrays["assignment_of"]).cast("I")
    assignments = {
        device: numbers[int(at)] for device, at in stored_partition.hashes["ordinals"].items() if int(at) < len(numbers)
    }
    return {
        device: stored_partition.hashes["assignments"][str(number)] for device, number in assignments.items() if number
    }


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    some=st.lists(more, min_size=8, max_size=40),
    steps=st.lists(st.sampled_from(["go on", "go on", "go on", "drain", "take"]), min_size=40, max_size=40),
)
def test_a_time_gives_what_devices_ran_then_however_late_workers_were_with_what_came_before(
    some: list[Any], steps: list[str]
) -> None:
    small = Small()
    stood: dict[int, tuple[dict[str, bytes], int]] = {}
    for command, step in zip(some, steps, strict=False):
        small.do(command)
        if step != "go on":
            small.drain()
        if step == "take":
            small.taking.take(0)
        stored_partition = small.projections.load(0)
        stood[next(small.clock)] = (_runs(stored_partition), stored_partition.checkpoint.assignment_changes)
    small.drain()
    for quick in (True, False):
        partitions = PastPartitions(small.replay(quick=quick), bytes_max=1 << 24)
        for time, (runs, assignment_changes) in [*stood.items(), *stood.items()]:
            vector = Vector(small.log.position_at(0, time), small.log.position_at(FLEET, time))
            found = partitions.at(0, vector, implied=False, decided_by=time)
            assert (_runs(found.stored_partition), found.assignment_changes) == (runs, assignment_changes)
            assert partitions.at(0, vector, implied=True, decided_by=time).assignment_changes == assignment_changes


def _two_snapshots() -> tuple[Small, list[Vector]]:
    small, vectors = Small(), []
    for number in range(2):
        small.do(RegisterDevice(f"d{number}"), PatchTags(f"d{number}", {"p": 1}))
        vectors.append(small.drain())
        assert small.taking.take(0) is not None
        assert small.taking.take(0) is None, "one of that vector is there"
    return small, vectors


@pytest.mark.parametrize("how", ["changed", "cut short", "another's", "renamed"])
def test_a_damaged_snapshot_is_named_and_the_one_before_it_is_taken(how: str) -> None:
    small, (first, last) = _two_snapshots()
    older, newest = small.snapshots.listed(0).values()
    data = small.object_store.get(newest)
    assert data is not None
    if how == "changed":
        data = data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]
    elif how == "cut short":
        data = data[: len(data) // 2]
    elif how == "another's":
        other = Snapshots(small.object_store, Stored(small.log, small.projections), epoch="other")
        where = other.put(0, small.projections.load(0), {})
        data = small.object_store.get(where)
    else:
        data = small.object_store.get(older)
    assert data is not None
    small.object_store.put(newest, data)
    with pytest.raises(SnapshotDamaged, match=newest):
        small.snapshots.read(0, newest)
    with capture_logs() as told:
        found = small.snapshots.newest(0, last)
        replayed = small.replay(quick=True).in_effect(0, last)
    assert found is not None
    assert found.stored_partition.checkpoint.vector == first
    assert replayed.stored_partition == small.projections.load(0)
    assert {(one["event"], one["snapshot"]) for one in told} == {("snapshot damaged", newest)}


def test_without_snapshots_it_is_applied_from_the_first_event_and_due_are_those_that_applied_enough() -> None:
    small, (_, last) = _two_snapshots()
    assert list(small.taking.due()) == []
    small.do(PatchTags("d0", {"p": 2}))
    small.drain()
    assert list(small.taking.due()) == [0]
    for where in list(small.snapshots.listed(0).values()):
        small.object_store.delete(where)
    assert small.snapshots.listed(0) == {}
    assert small.replay(quick=True).in_effect(0, last) == small.replay(quick=False).in_effect(0, last)


def test_who_asks_for_the_same_at_once_gets_one_replay_and_the_memory_of_it_is_bounded() -> None:
    small, (first, last) = _two_snapshots()
    partitions = PastPartitions(small.replay(quick=False), bytes_max=1 << 20)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: partitions.at(0, last, implied=False), range(8)))
    assert len({id(one) for one in found}) == 1
    tight = PastPartitions(small.replay(quick=False), bytes_max=1)
    once = tight.at(0, first, implied=False)
    assert tight.at(0, first, implied=False) is once
    tight.at(0, last, implied=False)
    assert tight.at(0, first, implied=False) is not once


def test_what_is_kept_of_a_past_partition_is_counted_about_as_it_weighs() -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        ordinals = {f"edge-{number:07}": b"%d" % number for number in range(20_000)}
        hashes: dict[str, dict[str, bytes]] = {**{one: {} for one in HASHES}, "ordinals": ordinals}
        stored_partition = StoredPartition(Checkpoint(), hashes, {one: bytes(80_000) for one in ARRAYS})
        weight = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    counted = PartitionAt(stored_partition, 0, None, is_final=True, since=0, until=None).size_bytes
    assert 0.9 < counted / weight < 1.1


def test_an_answer_that_may_change_yet_is_not_kept() -> None:
    small = Small()
    small.do(RegisterDevice("d0"))
    small.drain()
    small.do(PatchTags("d0", {"p": 1}))
    partitions = PastPartitions(small.replay(quick=False), bytes_max=1 << 20)
    ahead = Vector(small.log.head(0), small.log.head(FLEET))
    assert not partitions.at(0, ahead, implied=False).is_final
    small.drain()
    late = partitions.at(0, ahead, implied=False)
    assert (late.is_final, late.stored_partition) == (True, small.projections.load(0))


def test_what_is_named_after_a_snapshot_is_filled_from_the_documents_of_then() -> None:
    small = Small()
    small.do(RegisterDevice("a"), ReportProperties("a", {"q": {"y": 1}}), CreateModule("a", "m"))
    small.do(ReportProperties("a", {"v": 7}, module_id="m"))
    small.drain()
    assert small.taking.take(0) is not None
    small.do(ReportProperties("a", {"p": 2}), ReportProperties("a", {"w": 1}, module_id="m"))
    small.do(CreateDeployment("x", base("one"), "properties.reported.q.y = 1", 1))
    of_module = "FROM devices.modules WHERE moduleId = 'm' AND properties.reported.v = 7"
    of_every = "FROM devices.modules WHERE properties.reported.w = 1"
    for name, condition in (("y", of_module), ("z", of_every)):
        content = {"moduleContent": {"properties.desired.k": name}}
        small.producer.submit([CreateDeployment(name, content, condition, 1)]).raise_if_refused()
    vector = small.drain()
    live = small.projections.load(0)
    assert sum(len(data) > 0 for field, data in live.hashes["targets"].items()) == 3
    for quick in (True, False):
        assert small.replay(quick=quick).in_effect(0, vector).stored_partition == live
