"""Turns of workers: what they follow, hand over and leave, and what a change costs them."""

from collections.abc import Iterator
from typing import Any

import pytest
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from events import PatchTags, RegisterDevice
from events.device.events import TwinPatched
from events.envelope import Principal, Vector
from events.fleet.partition import Partition
from events.log.claims import WOKEN
from events.log.keys import FLEET, key, partition_of
from events.log.port import Proposed
from events.log.wake import QUEUE, QueueState
from events.stored_projection.partition_codec import writes_of
from events.stored_projection.stored_partition import StoredPartition, Writes
from services.embedded_redis import EmbeddedRedis
from tests.servers import eventually
from tests.workers.system import PARTITIONS, System, assert_rebuilt, base, deploy, fresh_system
from tests.workers.turns import Worker, counting, taken_over
from workers import projector, turn
from workers.pool.reconciler import Reconciler
from workers.projector import Projector

pytestmark = pytest.mark.redis_server

NAMES = [f"d{number}" for number in range(40)]


@pytest.fixture
def system(shared_redis: EmbeddedRedis) -> Iterator[System]:
    with fresh_system(shared_redis) as system:
        yield system


def registered(system: System, name: str) -> None:
    """A worker that RQ knows, and that takes no job: it is dead, or stopped."""
    system.queue.sadd(WORKERS_BY_QUEUE_KEY % QUEUE, f"rq:worker:{name}")


def test_an_idle_turn_ends_and_leaves_nothing_behind(system: System) -> None:
    worker = Worker(system)
    # A partition per turn, as the shortest one applies one batch; each of these enqueues another.
    for _ in range(PARTITIONS):
        worker.turn(0.0)
    assert system.is_settled()
    assert system.waker.state().waiting == 1
    system.queue.delete(f"rq:queue:{QUEUE}")
    worker.turn(0.0)
    assert (system.waker.state(), worker.claims.holders()) == (QueueState(waiting=0, workers=0), {})


def test_events_of_followed_streams_are_applied_and_enqueue_nothing(system: System) -> None:
    worker = Worker(system)
    with worker.following():
        taken_over(worker, lambda: {FLEET, *range(PARTITIONS)})
        system.do(*(RegisterDevice(name) for name in NAMES), deploy("a", base("m"), "tags.on = true"))
        system.settle()
        system.do(*(PatchTags(name, {"on": True}) for name in NAMES))
        system.settle()
        assert system.waker.state().waiting == 0
    # It was active lately, so another turn follows.
    assert (system.waker.state().waiting, worker.claims.holders()) == (1, {})
    assert system.status("a")["actual"] == len(NAMES)
    assert_rebuilt(system)


def test_a_turn_takes_a_fair_share_and_leaves_the_others_to_another_worker(system: System) -> None:
    registered(system, "one")
    registered(system, "two")
    first, second = Worker(system), Worker(system)
    with first.following():
        taken_over(first, lambda: {FLEET, 0, 1})
        with second.following():
            taken_over(second, lambda: {2, 3})
            system.do(*(RegisterDevice(name) for name in NAMES), deploy("a", base("m")))
            system.settle()
            assert (first.followed(), second.followed()) == ({FLEET, 0, 1}, {2, 3})
    assert system.status("a")["actual"] == len(NAMES)
    assert_rebuilt(system)


def test_what_a_registered_worker_does_not_take_is_taken_over(system: System) -> None:
    for name in ("stopped", "killed", "alive"):
        registered(system, name)
    worker = Worker(system)
    with worker.following():
        eventually(lambda: len(worker.followed()) == 3, what="it follows its share and the fleet")
        system.do(*(RegisterDevice(name) for name in NAMES), deploy("a", base("m")))
        system.settle()
        taken_over(worker, lambda: {FLEET, *range(PARTITIONS)})
    assert system.status("a")["actual"] == len(NAMES)


def test_woken_streams_are_taken_first(system: System) -> None:
    worker = Worker(system)
    _settle_in_turns(system, worker)
    for name in ("a", "b", "c", "d"):
        registered(system, name)
    device = next(name for name in NAMES if partition_of(name, PARTITIONS) == 3)
    system.do(RegisterDevice(device))
    assert worker.claims.holders() == {3: WOKEN}
    with worker.following():
        taken_over(worker, lambda: {FLEET, 3})


def test_what_a_turn_does_not_take_has_a_worker_woken_though_its_mark_expired(system: System) -> None:
    worker = Worker(system)
    for name in ("a", "b", "c", "d"):
        registered(system, name)
    system.do(*(RegisterDevice(name) for name in NAMES))
    # As after a worker that was long in coming.
    worker.claims.leave(worker.claims.streams, holder=WOKEN)
    # Nothing reconciles here: each turn has to wake the next one.
    while system.waker.state().waiting:
        system.queue.delete(f"rq:queue:{QUEUE}")
        worker.turn(0.0)
        worker.claims.leave(worker.claims.streams, holder=WOKEN)
    assert system.is_settled()


def _settle_in_turns(system: System, worker: Worker) -> None:
    """Apply everything, and leave neither a job nor a mark."""
    while not system.is_settled():
        worker.turn(0.0)
    system.queue.delete(f"rq:queue:{QUEUE}")
    worker.claims.leave(worker.claims.streams, holder=WOKEN)


def test_an_event_of_the_fleet_reaches_partitions_that_nobody_follows(system: System) -> None:
    for name in ("a", "b", "c", "d"):
        registered(system, name)
    system.do(*(RegisterDevice(name) for name in NAMES))
    worker = Worker(system)
    for _ in range(PARTITIONS):
        worker.turn(0.0)
    with worker.following():
        eventually(lambda: FLEET in worker.followed(), what="it follows the fleet")
        system.do(deploy("a", base("m")))
        system.settle()
    assert system.status("a")["actual"] == len(NAMES)


def test_an_event_of_the_fleet_that_ends_a_rest_reaches_what_the_first_worker_does_not_take(system: System) -> None:
    registered(system, "a")
    registered(system, "b")
    system.do(*(RegisterDevice(name) for name in NAMES))
    first, second = Worker(system), Worker(system)
    _settle_in_turns(system, first)
    _settle_in_turns(system, second)
    system.do(deploy("a", base("m")))
    system.queue.delete(f"rq:queue:{QUEUE}")
    with first.following():
        followed_or_woken = first.claims.holders
        eventually(lambda: len(followed_or_woken()) == 1 + PARTITIONS, what="each waits for a worker or has one")
        eventually(lambda: system.waker.state().waiting == 1, what="another worker is woken")
        with second.following():
            system.settle()
    assert system.status("a")["actual"] == len(NAMES)


def test_a_claim_that_outlives_its_time_gives_way_when_its_partition_is_behind(system: System) -> None:
    # The clock of the machine was set back after the holder claimed the streams, and it is gone.
    for stream in (FLEET, *range(PARTITIONS)):
        system.log.client.set(key(stream, "wake"), "gone:1:0", px=3_600_000)
    system.do(*(RegisterDevice(name) for name in NAMES))
    reconciler, worker = Reconciler(system.log, system.projections, system.waker), Worker(system)
    assert (reconciler.once(), reconciler.once()) == ([], [*range(PARTITIONS)])
    for _ in range(PARTITIONS):
        worker.turn(0.0)
    assert system.is_settled()
    # A claim within its time stays.
    assert worker.claims.take([0]) == {0: False}
    worker.claims.mark_woken([0])
    assert worker.claims.holders()[0] == worker.claims.holder


def test_a_partition_that_fails_does_not_delay_the_others_of_a_turn(system: System) -> None:
    worker, load = Worker(system), system.projections.load

    def at() -> list[int]:
        return [system.projections.checkpoint(number).vector.partition for number in range(PARTITIONS)]

    def failing(number: int) -> StoredPartition:
        if number == 0:
            raise ValueError("damaged")
        return load(number)

    def failing_writes(partition: Partition, *arguments: Any, **how: Any) -> Writes:
        if partition.number == 0:
            raise ValueError("damaged")
        return writes_of(partition, *arguments, **how)

    system.do(*(RegisterDevice(name) for name in NAMES))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker.projections, "load", failing)
        with pytest.raises(ValueError, match="damaged"):
            worker.turn(0.5)
    assert at() == [0, *(system.log.head(number) for number in range(1, PARTITIONS))]
    worker.turn(0.5)
    before = at()
    # Now all partitions are in memory.
    system.do(*(PatchTags(name, {"on": True}) for name in NAMES))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(projector, "writes_of", failing_writes)
        with pytest.raises(ValueError, match="damaged"):
            worker.turn(0.5)
    assert at() == [before[0], *(system.log.head(number) for number in range(1, PARTITIONS))]
    worker.turn(0.5)
    assert system.is_settled()
    assert_rebuilt(system)


def test_a_copy_in_memory_is_not_advanced_past_an_event_that_blocked_the_partition(system: System) -> None:
    system.do(*(RegisterDevice(name) for name in NAMES))
    number = partition_of("nobody", PARTITIONS)
    one, two = (Projector(system.log, system.projections, clock=lambda: 0) for _ in range(2))
    assert two.drain(number, go_on=lambda: True)
    impossible = Proposed("nobody", 0, TwinPatched({"on": True}))
    system.log.append([impossible], command_id="c", by=Principal.parse("user:ada"), at=1)
    assert one.drain(number, go_on=lambda: True)
    position = system.fleet_projection.blocked()[number].position
    assert two.drain(number, go_on=lambda: True)
    # A turn follows what is in memory, and `advance` removes no mark.
    assert two.checkpoint(number) is None
    system.producer.skip(number, position, reason="a faulty disk")
    assert two.drain(number, go_on=lambda: True)
    assert (system.fleet_projection.blocked(), system.projections.checkpoint(number).vector.partition) == ({}, position)


def test_an_event_of_the_fleet_that_is_missing_at_the_end_blocks_what_a_turn_has_in_memory(system: System) -> None:
    system.do(*(RegisterDevice(name) for name in NAMES))
    worker = Worker(system)
    worker.turn(0.5)
    assert system.is_settled()
    system.do(deploy("a", base("m")))
    system.log.client.xdel(key(FLEET, "log"), f"{system.log.head(FLEET)}-0")
    with worker.following():
        eventually(lambda: len(system.fleet_projection.blocked()) == PARTITIONS, what="all are blocked", seconds_max=10)


def test_a_change_of_a_tag_costs_a_worker_the_read_that_wakes_it_and_the_commit(system: System) -> None:
    system.do(*(RegisterDevice(name) for name in NAMES), deploy("a", base("m"), "tags.on = true"))
    client, trips = counting(system.url)
    worker = Worker(system, client)
    with worker.following():
        system.settle()
        taken_over(worker, lambda: {FLEET, *range(PARTITIONS)})
        trips.clear()
        for name in NAMES:
            system.do(PatchTags(name, {"on": True}))
            system.settle()
        counted = list(trips)
    # By the clock and not by the change: looks at the claims, and each second their renewal, the fleet's tail, the heads and the
    # work counts.
    periodic = [{b"GET"}, {b"EVAL"}, {b"XRANGE"}, {b"XREVRANGE"}, {b"HGET"}, {b"HINCRBY"}]
    of_changes = [trip for trip in counted if trip not in periodic]
    assert set(of_changes) == {frozenset({b"XREAD"}), frozenset({b"EVALSHA"})}
    assert of_changes.count(frozenset({b"EVALSHA"})) == len(NAMES)
    assert system.status("a")["actual"] == len(NAMES)


def test_a_partition_of_an_import_rests_between_two_commits_and_the_others_are_projected_at_once(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    system.do(*(RegisterDevice(name) for name in NAMES))
    worker = Worker(system)
    imported, other = (next(name for name in NAMES if partition_of(name, PARTITIONS) == number) for number in (1, 2))

    def behind() -> set[int]:
        vectors = {number: system.projections.checkpoint(number).vector for number in range(PARTITIONS)}
        return {
            number for number, at in vectors.items() if at != Vector(system.log.head(number), system.log.head(FLEET))
        }

    monkeypatch.setattr(turn, "_REST_SECONDS", 1e6)
    with worker.following():
        system.settle()
        system.do(*(PatchTags(imported, {"note": number}) for number in range(30)))
        system.settle()
        system.do(PatchTags(imported, {"on": True}), PatchTags(other, {"on": True}))
        eventually(lambda: behind() == {1}, what="the partition rests")
        # What concerns the whole fleet does not wait.
        system.do(deploy("a", base("m"), "tags.note = 29"))
        eventually(lambda: system.fleet_projection.status("a").get("a", {}).get("actual") == 1, what="it is deployed")
        eventually(lambda: behind() == {1}, what="the others have applied it, too")
    # The next turn goes on.
    assert system.waker.state().waiting == 1
    worker.turn(0.5)
    assert behind() == set()
    assert_rebuilt(system)


def test_a_deployment_is_committed_for_all_partitions_of_a_worker_in_one_round_trip(system: System) -> None:
    system.do(*(RegisterDevice(name) for name in NAMES))
    client, trips = counting(system.url)
    worker = Worker(system, client)
    with worker.following():
        system.settle()
        taken_over(worker, lambda: {FLEET, *range(PARTITIONS)})
        trips.clear()
        system.do(deploy("a", base("m")))
        system.settle()
        commits = trips.count(frozenset({b"EVALSHA"}))
    # A commit waits 5 ms for the next one, which on a slow machine takes longer.
    assert 1 <= commits <= PARTITIONS
    assert system.status("a")["actual"] == len(NAMES)


def test_a_busy_worker_hands_what_exceeds_its_share_over_to_an_idle_one(system: System) -> None:
    busy, idle = Worker(system), Worker(system)
    system.do(*(RegisterDevice(name) for name in NAMES))
    _settle_in_turns(system, busy)
    registered(system, "busy")
    registered(system, "idle")
    # To apply them to one partition takes longer than from one look to the next.
    system.do(*(deploy(f"n{number}", base(f"m{number}"), priority=number) for number in range(3000)))
    system.queue.delete(f"rq:queue:{QUEUE}")
    with busy.following():
        # Nobody else comes, so it takes all partitions; it gives up what exceeds its share after the next one that it applies.
        taken_over(busy, lambda: {FLEET, *range(PARTITIONS)})
        with idle.serving():
            # It takes one after the other.
            taken_over(idle, lambda: {2, 3})
            assert busy.followed() == {FLEET, 0, 1}
            system.do(deploy("a", base("m"), priority=10_000))
            system.settle()
    assert system.status("a")["actual"] == len(NAMES)
    assert_rebuilt(system)
