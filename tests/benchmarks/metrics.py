"""What custom metrics cost the worker that applies the reports they are about."""

import random
import statistics
import time
from collections.abc import Iterator

import msgspec

from events import CreateDeployment, Producer, RegisterDevice, ReportProperties
from events.envelope import Principal
from events.log.log_factory import initialise
from events.projection_store.redis import RedisProjectionStore
from tests.benchmarks import fleets
from tests.benchmarks.measuring import Figure, at_least, seconds_of
from tests.benchmarks.scale import Scale, print_lines
from tests.servers import redis_server
from workers.projector import Projector

PARTITIONS = 16
DEPLOYMENTS = 100
ROUNDS = 5
STATES = ("ok", "warm", "hot", "off")
VERSIONS = [f"1.{minor}.0" for minor in range(20)]
BY = Principal.parse("producer:benchmark")


def run(scale: Scale) -> Iterator[Figure]:
    """Apply the same reports with five metrics on each of a hundred deployments, and with none."""
    ids = fleets.ids_in_partition(scale.partition_devices, partition=0, partitions=PARTITIONS)
    print_lines(f"metrics: {len(ids):,} devices in one partition, {DEPLOYMENTS} deployments, 5 metrics on each")
    with redis_server() as bare, redis_server() as counted:
        sides = [_seeded(bare.url, ids, metrics=False), _seeded(counted.url, ids, metrics=True)]
        turns: dict[int, list[list[_Turn]]] = {1: [[], []], 3: [[], []]}
        for number in range(ROUNDS):
            for properties, sided in turns.items():
                for (producer, projector), side in zip(sides, sided, strict=True):
                    producer.submit(_reports(ids, scale.events, seed=number, properties=properties)).raise_if_refused()
                    side.append(_drain(projector))
    for properties, (without, within) in turns.items():
        rates = [scale.events / statistics.median(turn.seconds for turn in side) for side in (without, within)]
        busy = statistics.median(one.busy / other.busy for one, other in zip(without, within, strict=True))
        yield at_least(
            "report events/s with 500 metrics ÷ without",
            f"{properties} of the metrics' properties in each report",
            statistics.median(one.seconds / other.seconds for one, other in zip(without, within, strict=True)),
            "",
            aim=0.75,
            beside=f"{rates[0]:,.0f} → {rates[1]:,.0f} events/s; by the worker's processor time {busy:.2f}",
        )


class _Turn(msgspec.Struct, frozen=True):
    """How long applying took by the clock, and how long the worker was busy with it: others on the machine change that less."""

    seconds: float
    busy: float


def _drain(projector: Projector) -> _Turn:
    before = time.process_time()
    seconds = seconds_of(lambda: projector.drain(0, go_on=lambda: True))
    return _Turn(seconds, time.process_time() - before)


def _seeded(url: str, ids: list[str], *, metrics: bool) -> tuple[Producer, Projector]:
    log = initialise(url, partitions=PARTITIONS)
    producer = Producer(log, by=BY)
    producer.submit(RegisterDevice(name) for name in ids).raise_if_refused()
    producer.submit(_reports(ids, len(ids), seed=-1)).raise_if_refused()
    for number, (name, content, condition, priority) in enumerate(fleets.deployments(DEPLOYMENTS)):
        queries = _queries(number) if metrics else {}
        producer.submit(
            [CreateDeployment(name, content, target_condition=condition, priority=priority, metrics=queries)]
        ).raise_if_refused()
    projector = Projector(log, RedisProjectionStore(log.client), clock=lambda: 0)
    projector.drain(0, go_on=lambda: True)
    return producer, projector


def _queries(number: int) -> dict[str, str]:
    state, version = STATES[number % len(STATES)], VERSIONS[number % len(VERSIONS)]
    wheres = {
        "state": f"properties.reported.state = '{state}'",
        "load": f"properties.reported.load > {number}",
        "behind": f"properties.reported.firmware != '{version}'",
        "both": f"properties.reported.state = '{state}' AND properties.reported.firmware = '{version}'",
        "known": f"IS_DEFINED(properties.reported.load) AND NOT properties.reported.state = '{state}'",
    }
    return {name: f"SELECT deviceId FROM devices WHERE {where}" for name, where in wheres.items()}


def _reports(ids: list[str], count: int, *, seed: int, properties: int = 3) -> Iterator[ReportProperties]:
    draw = random.Random(seed)
    for number in range(count):
        name = ids[number % len(ids)] if seed < 0 else ids[draw.randrange(len(ids))]
        patch = {"state": draw.choice(STATES), "load": draw.randrange(100), "firmware": draw.choice(VERSIONS)}
        kept = draw.sample(sorted(patch), properties)
        yield ReportProperties(name, {one: patch[one] for one in kept})
