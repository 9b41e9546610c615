"""The fleet's stream loses its tail and goes on with other events: no partition that had applied the lost ones goes on."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from events import PatchTags, Producer, RegisterDevice
from events.envelope import Principal
from events.log.fleet_events import FleetEventReader
from events.log.keys import FLEET, key
from events.log.redis import RedisLog
from services.embedded_redis import EmbeddedRedis
from tests.servers import eventually
from tests.workers.system import PARTITIONS, System, assert_rebuilt, base, deploy, fresh_system
from tests.workers.turns import Worker, taken_over

pytestmark = pytest.mark.redis_server

NAMES = [f"d{number}" for number in range(40)]
KEYS = [key(FLEET, what) for what in ("log", "subjects", "meta", "commands", "commands:times")]
ADA = Principal.parse("user:ada")


@pytest.fixture
def system(shared_redis: EmbeddedRedis) -> Iterator[System]:
    with fresh_system(shared_redis) as system:
        system.do(*(RegisterDevice(name) for name in NAMES), deploy("a", base("m")))
        Worker(system).turn(0.5)
        assert system.is_settled()
        yield system


Dumped = dict[str, Any]
"""The keys of the fleet's stream, as bytes for RESTORE."""


def dumped(client: Any) -> Dumped:
    return {stream_key: client.dump(stream_key) for stream_key in KEYS}


def restore(client: Any, keys: Dumped) -> None:
    """Replace the fleet's stream in one step, as a failover or a restore does."""
    pipe = client.pipeline(transaction=True)
    for stream_key, data in keys.items():
        if data is None:
            pipe.delete(stream_key)
        else:
            pipe.restore(stream_key, 0, data, replace=True)
    pipe.execute()


def continued(system: System, before: Dumped, events: int) -> Dumped:
    """The fleet's stream as it was before, with other events after it."""
    with contextlib.closing(Redis.from_url(system.url, db=1)) as elsewhere:
        restore(elsewhere, before)
        producer = Producer(RedisLog(elsewhere, partitions=PARTITIONS, epoch="test"), by=ADA)
        for number in range(events):
            producer.do(deploy(f"other{number}", base("n"), priority=9))
        keys = dumped(elsewhere)
        elsewhere.flushdb()
    return keys


def are_all_blocked(system: System) -> bool:
    return len(system.fleet_projection.blocked()) == PARTITIONS


# The log is shorter than what was applied, as long, or longer.
@pytest.mark.parametrize("events", [0, 1, 3])
def test_a_turn_stops_at_once_where_the_fleet_has_other_events_than_it_applied(system: System, events: int) -> None:
    before, worker = dumped(system.log.client), Worker(system)
    with worker.following():
        taken_over(worker, lambda: {FLEET, *range(PARTITIONS)})
        system.do(deploy("lost", base("x"), priority=5))
        system.settle()
        applied, present = system.log.head(FLEET), dumped(system.log.client)
        restore(system.log.client, continued(system, before, events))
        eventually(lambda: are_all_blocked(system), what="every partition stops")
        assert system.log.head(FLEET) == applied - 1 + events
        assert {system.projections.checkpoint(number).vector.fleet for number in range(PARTITIONS)} == {applied}
        assert not any(blocked.decidable for blocked in system.fleet_projection.blocked().values())
        system.do(*(PatchTags(name, {"on": True}) for name in NAMES))
        # The lost events are restored, and the partitions go on.
        restore(system.log.client, present)
        system.settle()
    assert system.fleet_projection.blocked() == {}
    assert system.status("lost")["actual"] == len(NAMES)
    assert_rebuilt(system)


@pytest.mark.parametrize("events", [0, 1, 3])
def test_a_log_that_lost_its_fleet_tail_and_went_on_is_not_taken_for_the_one_that_was_applied(
    system: System, events: int
) -> None:
    before = dumped(system.log.client)
    system.do(deploy("lost", base("x"), priority=5))
    Worker(system).turn(0.5)
    assert system.is_settled()
    applied = system.log.head(FLEET)
    restore(system.log.client, continued(system, before, events))
    system.do(*(PatchTags(name, {"on": True}) for name in NAMES))
    # Every process was restarted: nothing but the projections tells what was applied.
    worker = Worker(system)
    for _ in range(2):
        worker.turn(0.5)
        assert are_all_blocked(system)
        assert {system.projections.checkpoint(number).vector.fleet for number in range(PARTITIONS)} == {applied}


def test_a_partition_that_had_not_applied_the_lost_events_goes_on_with_the_new_ones(system: System) -> None:
    before, worker = dumped(system.log.client), Worker(system)
    system.do(deploy("lost", base("x"), priority=5))
    # Another worker follows all partitions but one, which falls behind.
    worker.claims.leave([0], holder="woken")
    system.log.client.set(key(0, "wake"), "elsewhere:1:0", px=3000)
    worker.turn(0.5)
    vectors = {number: system.projections.checkpoint(number).vector.fleet for number in range(PARTITIONS)}
    assert vectors == {0: system.log.head(FLEET) - 1, **dict.fromkeys(range(1, PARTITIONS), system.log.head(FLEET))}
    system.log.client.delete(key(0, "wake"))
    restore(system.log.client, continued(system, before, 2))
    for _ in range(PARTITIONS):
        worker.turn(0.5)
    assert sorted(system.fleet_projection.blocked()) == [*range(1, PARTITIONS)]
    assert system.projections.checkpoint(0).vector.fleet == system.log.head(FLEET)


def test_a_reader_begins_again_when_its_last_event_is_another_one(system: System) -> None:
    before, reader = dumped(system.log.client), FleetEventReader(system.log)
    system.do(deploy("lost", base("x"), priority=5))
    reader.refresh()
    reader.refresh()
    assert reader.restarts == 0
    restore(system.log.client, continued(system, before, 2))
    reader.refresh()
    assert (reader.restarts, [envelope.subject for envelope in reader.between(0)][-2:]) == (1, ["other0", "other1"])
