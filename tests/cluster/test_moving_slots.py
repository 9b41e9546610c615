"""What a client of a cluster does at each step of a slot's way from one master to another."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from events.envelope import Principal
from events.log.connect import answering, connect
from events.log.errors import LogUnavailable
from events.log.keys import key, partition_of
from events.log.log_factory import initialise
from events.log.redis import RedisLog
from events.producer.producer import Producer
from events.projection_store.redis import RedisProjectionStore
from events.redis_cluster import SlotsMoved, hash_fields, keys_like
from events.secrets.redis import RedisSecretStore
from tests.redis_cluster import Cluster, Server, cluster, slots_of
from tests.servers import eventually
from tests.workers.system import join

pytestmark = pytest.mark.redis_server

ADA = Principal.parse("user:ada")
PARTITIONS = 2


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    with cluster() as nodes:
        yield nodes


@pytest.fixture
def log(nodes: Cluster) -> Iterator[RedisLog]:
    log = initialise(nodes.url, partitions=PARTITIONS, at=0)
    yield log
    log.client.close()


def begin(nodes: Cluster, slot: int, target: Server, *, keys: int) -> Callable[[], None]:
    """Begin to move a slot, with some of its keys; answers what ends the move."""
    source = nodes.owner(slot)
    assert source is not target
    target.ask("SETSLOT", slot, "IMPORTING", source.id)
    source.ask("SETSLOT", slot, "MIGRATING", target.id)
    names = source.ask("GETKEYSINSLOT", slot, keys)
    if names:
        source.client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 60000, "KEYS", *names)
    return lambda: nodes.move(slot, target)


def other_than(nodes: Cluster, slot: int) -> Server:
    return next(master for master in nodes.masters if master is not nodes.owner(slot))


@pytest.mark.parametrize("keys", [0, 3, 1000], ids=["no key moved", "some keys moved", "all keys moved"])
@pytest.mark.parametrize("target", ["known", "new"])
def test_a_slot_on_its_way_is_unavailable_at_most_and_no_write_is_lost_or_doubled(
    nodes: Cluster, log: RedisLog, keys: int, target: str
) -> None:
    producer = Producer(log, by=ADA, clock=lambda: 1, attempts=1)
    producer.submit(join("edge-1", site="a")).raise_if_refused()
    stream = partition_of("edge-1", PARTITIONS)
    slot = slots_of(PARTITIONS)[stream]
    projections = RedisProjectionStore(log.client)
    end = begin(nodes, slot, nodes.add_master() if target == "new" else other_than(nodes, slot), keys=keys)
    outcomes: list[Any] = []
    attempts: list[Callable[[], Any]] = [
        lambda: producer.submit(join("edge-1", site="b")),
        lambda: log.load(["edge-1"]),
        lambda: log.read(stream, after=0, limit=10),
        log.heads,
        lambda: list(log.subjects(stream)),
        lambda: projections.load(stream),
        lambda: projections.device(stream, "edge-1"),
        lambda: projections.checkpoint(stream),
    ]
    for attempt in attempts:
        # Any other error is one of a caller's, and fails the test.
        with contextlib.suppress(LogUnavailable):
            outcomes.append(attempt())
    end()
    # At the first attempt: what comes after the move does not pay for what was before it.
    producer.submit(join("edge-2", site="c")).raise_if_refused()
    outcome = producer.submit(join("edge-1", site="d"))
    assert [type(refused.error).__name__ for refused in outcome.refused] == ["DeviceExists"]
    assert projections.load(stream) == projections.load(stream)
    sites = [
        envelope.event.tags["site"]
        for envelope in log.read(stream, after=0, limit=100)
        if envelope.subject == "edge-1" and hasattr(envelope.event, "tags") and "site" in envelope.event.tags
    ]
    assert sites in (["a", "d"], ["a", "b", "d"])


def test_a_script_is_sent_to_the_master_that_has_its_keys_even_if_another_master_is_away(
    nodes: Cluster, log: RedisLog
) -> None:
    slot = slots_of(PARTITIONS)[0]
    away = next(master for master in nodes.masters if master is not nodes.owner(slot))
    for master in nodes.masters:
        master.client.script_flush()
    # A script that is loaded into all masters would fail here, for the time until its failover.
    away.stop()
    assert RedisProjectionStore(log.client).device(0, "edge-1") is None


def test_a_scan_of_a_hash_that_moves_misses_no_field(nodes: Cluster, log: RedisLog) -> None:
    hash_key = key(0, "many")
    slot = slots_of(PARTITIONS)[0]
    fields = {f"field-{number}".encode(): b"x" for number in range(5000)}
    log.client.hset(hash_key, mapping=fields)
    scanned = hash_fields(log.client, hash_key)
    seen = {next(scanned)[0]}
    nodes.move(slot, other_than(nodes, slot))
    seen.update(field for field, _ in scanned)
    assert seen == set(fields)


def test_a_scan_of_keys_that_could_miss_one_says_so(nodes: Cluster, log: RedisLog) -> None:
    slot = slots_of(PARTITIONS)[0]
    names = sorted(key(0, f"series:{number}").encode() for number in range(50))
    for name in names:
        log.client.hset(name, "a", "b")
    assert keys_like(log.client, "{p00}:series:*", type_="HASH") == names
    end = begin(nodes, slot, other_than(nodes, slot), keys=25)
    with pytest.raises(SlotsMoved):
        keys_like(log.client, "{p00}:series:*")
    with pytest.raises(LogUnavailable), answering():
        keys_like(log.client, "{p00}:series:*")
    end()
    with contextlib.suppress(SlotsMoved):
        keys_like(log.client, "{p00}:series:*")
    assert keys_like(log.client, "{p00}:series:*") == names


def test_secrets_are_all_named_while_their_slot_moves(nodes: Cluster, log: RedisLog) -> None:
    store = RedisSecretStore(log.client)
    log.client.hset("{fleet}:secrets", mapping={f"s{number}": b"x" for number in range(3000)})
    ids = iter(store.ids())
    seen = {next(ids)}
    slot = slots_of(PARTITIONS)[-1]
    nodes.move(slot, other_than(nodes, slot))
    assert seen | set(ids) == {f"s{number}" for number in range(3000)}


def test_a_command_whose_answer_is_lost_is_not_sent_again(nodes: Cluster, log: RedisLog) -> None:
    client = connect(nodes.url, timeout_seconds=0.5)
    stream_key = key(0, "beside")
    master = nodes.owner(slots_of(PARTITIONS)[0])
    client.xadd(stream_key, {"number": "0"})
    # What is sent to a server that is stopped waits in its socket, and runs when it goes on, whoever waits for the answer.
    master.stop()
    with pytest.raises(LogUnavailable), answering():
        client.xadd(stream_key, {"number": "1"})
    client.close()
    master.go_on()
    eventually(lambda: log.client.xlen(stream_key) == 2, what="the command that waited has run")
    assert [fields for _, fields in log.client.xrange(stream_key)] == [{b"number": b"0"}, {b"number": b"1"}]
