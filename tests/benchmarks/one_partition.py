"""The rows that need one partition: append, apply, one worker, and many deployments."""

import random
import statistics
from collections.abc import Iterator
from typing import Any

import msgspec
from redis import Redis

from events import CreateDeployment, PatchTags, Producer, RegisterDevice
from events.envelope import Principal
from events.fleet.partition import Partition
from events.log.log_factory import initialise
from events.log.port import Event
from events.log.redis import RedisLog
from events.projection_store.redis import RedisProjectionStore
from services.embedded_redis import EmbeddedRedis
from tests.benchmarks import fleets
from tests.benchmarks.measuring import Figure, at_least, at_most, seconds_of
from tests.benchmarks.scale import Scale, counted, print_lines
from tests.servers import redis_server
from workers.projector import Projector

PARTITIONS = 16
BATCH = 1000
BY = Principal.parse("producer:benchmark")
ROUNDS = 3


def run(scale: Scale) -> Iterator[Figure]:
    """Measure every row under both durability settings, where it writes."""
    for appendfsync in ("always", "everysec"):
        with redis_server(appendfsync=appendfsync) as server:
            print_lines(f"append and apply, appendfsync {appendfsync}")
            log = initialise(server.url)
            ids = list(fleets.device_ids(scale.events))
            producer = Producer(log, by=BY)
            producer.submit(RegisterDevice(device_id) for device_id in ids).raise_if_refused()
            yield append(server, log, ids, f"appendfsync {appendfsync}")
            if appendfsync == "always":
                yield single_append(server, log, ids[: scale.events // 20], f"appendfsync {appendfsync}")
        with redis_server(appendfsync=appendfsync) as server:
            yield from worker(server, scale, f"appendfsync {appendfsync}")
    yield from many_deployments(scale)


def append(server: EmbeddedRedis, log: RedisLog, ids: list[str], setting: str) -> Figure:
    """Bulk append of validated tag changes from one producer, against pipelined XADD of the same entries."""
    client = Redis.from_url(server.url)
    ratios, ours, raw = [], [], []
    for number in range(ROUNDS):
        draw = random.Random(number)
        commands = [PatchTags(device_id, fleets.tags_of(draw)) for device_id in ids]
        producer = Producer(log, by=BY)
        own_seconds = seconds_of(lambda: producer.submit(commands).raise_if_refused())  # noqa: B023
        raw_seconds = seconds_of(lambda: _raw_append(client, commands, f"raw{number}"))  # noqa: B023
        ours.append(len(ids) / own_seconds)
        raw.append(len(ids) / raw_seconds)
        ratios.append(raw_seconds / own_seconds)
    client.close()
    beside = f"{statistics.median(ours):,.0f} events/s; raw {statistics.median(raw):,.0f} XADD/s"
    return at_least("bulk append ÷ raw XADD", setting, statistics.median(ratios), "", aim=0.25, beside=beside)


def single_append(server: EmbeddedRedis, log: RedisLog, ids: list[str], setting: str) -> Figure:
    """Tag changes that one producer writes one by one, against an XADD of the same entry for each."""
    client = Redis.from_url(server.url)
    ratios, ours, raw = [], [], []
    for number in range(ROUNDS):
        draw = random.Random(number)
        commands = [PatchTags(device_id, {**fleets.tags_of(draw), "round": number}) for device_id in ids]
        producer = Producer(log, by=BY)
        own_seconds = seconds_of(lambda: [producer.do(command) for command in commands])  # noqa: B023
        raw_seconds = seconds_of(lambda: [client.xadd(f"one{number}", _fields(command)) for command in commands])  # noqa: B023
        ours.append(len(ids) / own_seconds)
        raw.append(len(ids) / raw_seconds)
        ratios.append(raw_seconds / own_seconds)
    client.close()
    beside = f"{statistics.median(ours):,.0f} events/s; raw {statistics.median(raw):,.0f} XADD/s"
    return at_least("single append ÷ raw XADD", setting, statistics.median(ratios), "", aim=0.7, beside=beside)


def _fields(command: PatchTags) -> dict[Any, Any]:
    return {
        "type": "TwinPatched",
        "subject": command.device_id,
        "version": 2,
        "at": 1_700_000_000_000,
        "by": "producer:benchmark",
        "cause": "",
        "data": msgspec.json.encode({"tags": command.tags, "type": "TwinPatched"}),
    }


def _raw_append(client: Redis, commands: list[PatchTags], stream: str) -> None:
    for start in range(0, len(commands), BATCH):
        pipe = client.pipeline(transaction=False)
        for command in commands[start : start + BATCH]:
            pipe.xadd(stream, _fields(command))
        pipe.execute()


def _seed(server: EmbeddedRedis, ids: list[str], deployments: int) -> tuple[RedisLog, Producer]:
    log = initialise(server.url, partitions=PARTITIONS)
    producer = Producer(log, by=BY)
    draw = random.Random(1)
    print_lines(f"  {len(ids):,} devices and {deployments:,} deployments in one partition")
    producer.submit(counted("registered", (RegisterDevice(name) for name in ids))).raise_if_refused()
    producer.submit(PatchTags(name, fleets.tags_of(draw)) for name in ids).raise_if_refused()
    producer.submit(
        CreateDeployment(name, content, target_condition=condition, priority=priority)
        for name, content, condition, priority in fleets.deployments(deployments)
    ).raise_if_refused()
    return log, producer


def _changes(ids: list[str], count: int, seed: int) -> Iterator[PatchTags]:
    """Tag changes of which one in ten changes a tag that conditions name; the others are of a kind none names."""
    draw = random.Random(seed)
    for number in range(count):
        name = ids[draw.randrange(len(ids))]
        tags = {"site": draw.choice(fleets.SITES)} if number % 10 == 0 else {"note": f"note-{draw.randrange(500)}"}
        yield PatchTags(name, tags)


def worker(server: EmbeddedRedis, scale: Scale, setting: str) -> Iterator[Figure]:
    """Applying beside raw reading, and a worker from the stream to committed projections."""
    ids = fleets.ids_in_partition(scale.partition_devices, partition=0, partitions=PARTITIONS)
    log, producer = _seed(server, ids, scale.deployments)
    projector = Projector(log, RedisProjectionStore(log.client), clock=lambda: 0)
    first_seconds = seconds_of(lambda: projector.drain(0, go_on=lambda: True))
    print_lines(f"  first drain {first_seconds:.1f} s")
    rates, ratios, raw = [], [], []
    for number in range(ROUNDS):
        after = log.head(0)
        producer.submit(_changes(ids, scale.events, seed=number)).raise_if_refused()
        raw_seconds = seconds_of(lambda: _read_raw(log, after))  # noqa: B023
        partition = _applied_to(log, ids)
        partition.vector = msgspec.structs.replace(partition.vector, partition=after)
        apply_seconds = seconds_of(lambda: _apply(log, partition))  # noqa: B023
        ratios.append(raw_seconds / apply_seconds)
        raw.append(scale.events / raw_seconds)
        rates.append(scale.events / seconds_of(lambda: projector.drain(0, go_on=lambda: True)))
    yield at_least(
        "applying ÷ raw read+decode",
        setting,
        statistics.median(ratios),
        "",
        aim=0.4,
        beside=f"raw {statistics.median(raw):,.0f} events/s",
    )
    beside = f"{scale.deployments:,} deployments, {len(ids):,} devices; 10 % of the events change a targeted tag"
    yield at_least(
        "one worker, stream → projections", setting, statistics.median(rates), "events/s", aim=40_000, beside=beside
    )


def _read_raw(log: RedisLog, after: int) -> None:
    decoder = msgspec.json.Decoder(Event)
    while entries := log.client.xrange("{p00}:log", min=f"{after + 1}-0", count=8192):
        for _, fields in entries:  # type: ignore[union-attr]
            decoder.decode(fields[b"data"])
        after += len(entries)  # type: ignore[arg-type]


def _applied_to(log: RedisLog, ids: list[str]) -> Partition:
    """A partition that knows the devices and the tags they began with."""
    partition = Partition(0)
    while partition.vector.partition < 2 * len(ids):
        partition.apply(log.read(0, after=partition.vector.partition, limit=8192))  # type: ignore[arg-type]
    return partition


def _apply(log: RedisLog, partition: Partition) -> None:
    while events := log.read(0, after=partition.vector.partition, limit=8192):
        partition.apply(events)  # type: ignore[arg-type]


def many_deployments(scale: Scale) -> Iterator[Figure]:
    """What ten times the deployments make of the cost of a changed tag: one by one, and in bulk."""
    one, bulk = {}, {}
    for factor in (1, 10):
        with redis_server() as server:
            ids = fleets.ids_in_partition(scale.partition_devices, partition=0, partitions=PARTITIONS)
            log, producer = _seed(server, ids, factor * scale.deployments)
            projector = Projector(log, RedisProjectionStore(log.client), clock=lambda: 0)
            projector.drain(0, go_on=lambda: True)
            draw = random.Random(3)
            seconds = []
            for _ in range(scale.probes):
                producer.do(PatchTags(draw.choice(ids), {"site": draw.choice(fleets.SITES)}))
                seconds.append(seconds_of(lambda: projector.drain(0, go_on=lambda: True)))  # noqa: B023
            one[factor] = statistics.median(seconds)
            producer.submit(
                PatchTags(draw.choice(ids), {"site": draw.choice(fleets.SITES)}) for _ in range(scale.events // 4)
            ).raise_if_refused()
            bulk[factor] = seconds_of(lambda: projector.drain(0, go_on=lambda: True)) / (scale.events // 4)  # noqa: B023
    setting = f"{10 * scale.deployments:,} instead of {scale.deployments:,}"
    for what, cost in (("one by one", one), ("in bulk", bulk)):
        beside = f"{1e6 * cost[1]:,.0f} µs → {1e6 * cost[10]:,.0f} µs per tag"
        yield at_most(f"cost per changed tag, {what}", setting, cost[10] / cost[1], "apply", aim=4, beside=beside)
