"""A partition that is damaged, blocked or fails: the others of the same worker go on as if it were not there."""

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from events import PatchTags, RegisterDevice
from events.log.keys import FLEET, key, partition_of
from events.projection_store.port import CheckpointDamaged
from events.projection_store.redis import projection_key
from events.projection_store.stopped import details, stops
from services.embedded_redis import EmbeddedRedis
from tests.servers import eventually
from tests.workers.system import PARTITIONS, System, assert_rebuilt, base, deploy, fresh_system
from tests.workers.turns import Trips, Worker, counting, taken_over
from workers.pool.reconciler import Reconciler
from workers.pool.tail_watch import TailWatch
from workers.replay.rebuild import Rebuilder

pytestmark = pytest.mark.redis_server

NAMES = [f"d{number}" for number in range(40)]
RENEWALS = 4
"""How often the claims are renewed before a test counts; each time, a turn examines what is blocked."""


@pytest.fixture
def system(shared_redis: EmbeddedRedis) -> Iterator[System]:
    with fresh_system(shared_redis) as system:
        system.do(*(RegisterDevice(name) for name in NAMES), deploy("a", base("m"), "tags.on = true"))
        Worker(system).turn(0.5)
        assert system.is_settled()
        yield system


def are_others_settled(system: System) -> bool:
    heads = system.log.heads()
    vectors = [(number, system.projections.checkpoint(number).vector) for number in range(1, PARTITIONS)]
    return all((at.partition, at.fleet) == (heads[number], heads[FLEET]) for number, at in vectors)


def patch(system: System) -> None:
    system.do(*(PatchTags(name, {"on": True}) for name in NAMES))


@pytest.mark.parametrize("where", ["in memory", "stored"])
def test_a_checkpoint_that_cannot_be_decoded_blocks_its_partition_alone(system: System, where: str) -> None:
    worker = Worker(system)
    if where == "in memory":
        patch(system)
        worker.turn(0.5)
    system.log.client.set(projection_key(0, "checkpoint"), b"{")
    patch(system)
    system.do(deploy("b", base("n"), priority=2))
    worker.turn(0.5)
    assert are_others_settled(system)
    with pytest.raises(CheckpointDamaged, match="rebuild --partition p00"):
        system.projections.checkpoint(0)
    (stop,) = stops(system.log, system.projections)
    assert (stop.waiting.keys(), stop.decidable) == ({"p00"}, False)
    assert details(system.log.client, system.projections, stop).devices == 0
    # What runs beside the workers goes on as well.
    reconciler = Reconciler(system.log, system.projections, system.waker)
    assert (reconciler.once(), reconciler.once()) == ([], [0])
    assert TailWatch(system.log, system.projections).once() == []
    Rebuilder(system.log).partition(0)
    for _ in range(2):
        worker.turn(0.5)
    assert (system.is_settled(), system.fleet_projection.blocked()) == (True, {})
    assert_rebuilt(system)


@pytest.mark.parametrize("how", ["lost tail", "damaged"])
def test_a_partition_that_cannot_go_on_is_not_loaded_again_and_again(system: System, how: str) -> None:
    of_others = [name for name in NAMES if partition_of(name, PARTITIONS)]
    taken = lose_tail(system) if how == "lost tail" else damage(system)
    client, trips = counting(system.url)
    worker = Worker(system, client)
    raises = pytest.raises(msgspec.DecodeError) if how == "damaged" else contextlib.nullcontext()
    with raises, worker.following():
        taken_over(worker, lambda: {FLEET, *range(PARTITIONS)})
        system.do(*(PatchTags(name, {"on": True}) for name in of_others))
        eventually(lambda: are_others_settled(system), what="the others are projected")
        if how == "lost tail":
            eventually(lambda: list(system.fleet_projection.blocked()) == [0], what="the partition is blocked")
        # Each of the others once; of the damaged one the first attempt, while a lost tail is seen without loading anything.
        loaded = PARTITIONS - (how == "lost tail")
        eventually(lambda: loads(trips) == loaded, what="each is loaded")
        renewals = trips.count(frozenset({b"EVAL"})) + RENEWALS
        eventually(lambda: trips.count(frozenset({b"EVAL"})) > renewals, what="the claims are renewed")
        system.do(deploy("b", base("n"), priority=2))
        eventually(lambda: are_others_settled(system), what="the others are projected")
        assert loads(trips) == loaded
    mend(system, how, taken)
    for _ in range(2):
        worker.turn(0.5)
    assert (system.is_settled(), system.fleet_projection.blocked()) == (True, {})
    assert_rebuilt(system)


def loads(trips: Trips) -> int:
    """How often a partition was loaded."""
    return sum(b"HGETALL" in trip for trip in trips)


def lose_tail(system: System) -> Any:
    """Partition 0 loses its newest event; returns its entry."""
    client: Any = system.log.client
    *entries, newest = client.xrange(key(0, "log"))
    # A new stream, as Redis would accept no entry at the position of one that was deleted.
    client.delete(key(0, "log"))
    for entry_id, fields in entries:
        client.xadd(key(0, "log"), fields, id=entry_id)
    client.hset(key(0, "meta"), "position", len(entries))
    return newest


def damage(system: System) -> Any:
    """A page of device ids of partition 0 is damaged; returns the page. The partition has news, so it will be loaded."""
    client: Any = system.log.client
    (page,) = client.hgetall(projection_key(0, "ids")).items()
    client.hset(projection_key(0, "ids"), page[0], b"{")
    system.do(PatchTags(next(name for name in NAMES if not partition_of(name, PARTITIONS)), {"on": True}))
    return page


def mend(system: System, how: str, taken: Any) -> None:
    client: Any = system.log.client
    if how == "damaged":
        client.hset(projection_key(0, "ids"), *taken)
    else:
        client.xadd(key(0, "log"), taken[1], id=taken[0])
        client.hset(key(0, "meta"), "position", system.log.head(0) + 1)


def test_a_partition_whose_lost_tail_was_written_anew_is_not_taken_for_the_one_that_was_applied(system: System) -> None:
    lose_tail(system)
    head, others = system.log.head(0), [name for name in NAMES if not partition_of(name, PARTITIONS)]
    system.do(*(PatchTags(name, {"on": True}) for name in others))
    assert system.log.head(0) > head + 1
    Worker(system).turn(0.5)
    assert list(system.fleet_projection.blocked()) == [0]
    assert "is not the event that was applied" in system.fleet_projection.blocked()[0].error
