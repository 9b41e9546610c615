"""A fleet of ten million devices in one log, with the archive on: whether it is built, and what then takes how long.

Documents are short, and the log leaves Redis for the archive as it grows. `--devices` makes the fleet smaller. It needs about 1 KB of
memory for Redis a device, and the workers' memory beside it.
"""

import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from redis import Redis

from events import CreateDeployment, PatchTags, Producer, RegisterDevice
from events.envelope import Principal
from events.log.keys import FLEET, partition_of
from events.log.log_factory import initialise
from events.log.wake import Waker
from events.projection_store.fleet_projection import FleetProjection
from events.projection_store.query_engine import QueryEngine
from events.projection_store.redis import RedisProjectionStore
from events.query.parse import parse
from events.settings import environment_of, read_settings
from services.embedded_redis import EmbeddedRedis
from tests.benchmarks import fleets
from tests.benchmarks.measuring import Figure, quantile, seconds_of
from tests.benchmarks.scale import Scale, print_lines
from tests.servers import redis_server

DEVICES = 10_000_000
PARTITIONS = 64
WORKERS = 2
CHUNK = 250_000
"""Devices after which the producer waits for the workers, so that the log that waits in Redis stays small."""
PROBES = 100
ROUNDS = 3
BY = Principal.parse("producer:benchmark")
PAGE = "SELECT deviceId FROM devices WHERE tags.site = 'site-007'"
_RINGS = ("canary", "stable")
_MIB = 1 << 20


def run(scale: Scale) -> Iterator[Figure]:
    """Build the fleet, restart the workers, and ask and change what operators do."""
    with redis_server() as server, tempfile.TemporaryDirectory(prefix="twinfold-data-") as directory:
        fleet = LargeFleet(server, scale, directory)
        yield from fleet.build()
        yield from fleet.memory()
        with fleet.pool():
            yield fleet.restarted()
            yield fleet.one_deployment()
            yield from fleet.one_tag()
            yield from fleet.reads()
        yield fleet.workers_memory()


class LargeFleet:
    """A Redis with the fleet, its producer, and the environment of its workers."""

    def __init__(self, server: EmbeddedRedis, scale: Scale, directory: str) -> None:
        self.count = scale.devices
        self.setting = f"{scale.devices:,} devices"
        self.client = Redis.from_url(server.url)
        self.log = initialise(server.url, partitions=PARTITIONS)
        self.projections = RedisProjectionStore(self.log.client)
        self.readable = FleetProjection(self.projections, partitions=PARTITIONS)
        self.producer = Producer(self.log, by=BY, waker=Waker(self.client))
        self.draw = random.Random(13)
        # Partitions that do not fit into the budget are loaded again and again: a worker holds half of the fleet.
        self.segment = min(50_000, max(1000, scale.devices // 200))
        budget = max(512, 2 * scale.devices // 10_000)
        settings = read_settings(
            redis_url=server.url,
            workers=WORKERS,
            memory_budget_mib=budget,
            data_dir=directory,
            seal_every_seconds=2.0,
            archive_keep_days=0.0,
            archive_seconds=2.0,
            archive_segment_events=self.segment,
        )
        self.environment = {**os.environ, **environment_of(settings)}

    def pool(self) -> "_Processes":
        """The workers, and the scheduler, which seals the log: an entry that is not sealed stays in Redis."""
        return _Processes(("workers.pool", "services.scheduler"), self.environment)

    def build(self) -> Iterator[Figure]:
        """Two events of each device, in chunks that the workers apply and the archive takes."""
        self.producer.submit(
            CreateDeployment(
                f"ring-{ring}", fleets.content(ring, layered=False), target_condition=rule, priority=9000 + at
            )
            for at, ring in enumerate(_RINGS)
            for rule in (f"tags.ring = '{ring}'",)
        ).raise_if_refused()
        start, cpu = time.perf_counter(), self._cpu_seconds()
        ids, written = fleets.device_ids(self.count), 0
        with self.pool():
            while chunk := list(islice(ids, CHUNK)):
                self.producer.submit(map(RegisterDevice, chunk)).raise_if_refused()
                tags = ((device_id, self._tags()) for device_id in chunk)
                self.producer.submit(PatchTags(device_id, new) for device_id, new in tags).raise_if_refused()
                self.settle()
                written += len(chunk)
                used = self._memory("used_memory") >> 20
                print_lines(f"  {written:,} devices after {time.perf_counter() - start:,.0f} s, Redis {used:,} MB")
            self._wait(lambda: self._entries_in_redis() < self.count // 10 + self.segment * PARTITIONS)
            seconds = time.perf_counter() - start
        # The workers' time counts once they have ended.
        beside = f"{1e6 * (self._cpu_seconds() - cpu) / self.count:,.0f} CPU µs a device, all processes"
        yield Figure(
            "build: register, tag, apply, archive", self.setting, self.count / seconds, "devices/s", "", None, beside
        )

    def _tags(self) -> dict[str, Any]:
        return {"site": self.draw.choice(fleets.SITES), "environment": self.draw.choice(fleets.ENVIRONMENTS)}

    def _cpu_seconds(self) -> float:
        info: Any = self.client.info("cpu")
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (
            time.process_time()
            + float(info["used_cpu_user"] + info["used_cpu_sys"])
            + children.ru_utime
            + children.ru_stime
        )

    def _memory(self, name: str) -> int:
        info: Any = self.client.info("memory")
        return int(info[name])

    def _entries_in_redis(self) -> int:
        return sum(int(self.client.xlen(f"{{p{number:02d}}}:log")) for number in range(PARTITIONS))

    def settle(self) -> None:
        """Wait until all partitions have what is in the log."""
        self._wait(self._is_settled)

    def _is_settled(self) -> bool:
        heads = self.log.heads()
        vectors = ((number, self.projections.checkpoint(number).vector) for number in range(PARTITIONS))
        return all((at.partition, at.fleet) == (heads[number], heads[FLEET]) for number, at in vectors)

    @staticmethod
    def _wait(reached: Callable[[], bool]) -> None:
        while not reached():
            time.sleep(0.01)

    def memory(self) -> Iterator[Figure]:
        """What Redis needs a device, and how much of the log is still in it."""
        each = self._memory("used_memory") / self.count
        beside = f"{self._entries_in_redis():,} of {sum(self.log.heads().values()):,} events still in Redis"
        yield Figure("Redis bytes per device, all in", self.setting, each, "B", "", None, beside)

    def restarted(self) -> Figure:
        """From the start of the workers until a change in each partition is readable: every partition is loaded."""
        chosen = {partition_of(device_id, PARTITIONS): device_id for device_id in self._some(PARTITIONS * 20)}
        start = time.perf_counter()
        self.producer.submit(
            PatchTags(device_id, {"note": "restarted"}) for device_id in chosen.values()
        ).raise_if_refused()
        self.settle()
        seconds = time.perf_counter() - start
        return Figure("workers started → all partitions applied", self.setting, seconds, "s", "", None)

    def _some(self, count: int) -> list[str]:
        return [f"edge-{self.draw.randrange(self.count):07d}" for _ in range(count)]

    def one_deployment(self) -> Figure:
        """A deployment for 60 % of the fleet, until all partitions have it."""
        condition = " OR ".join(f"tags.environment = '{name}'" for name in fleets.ENVIRONMENTS[:6])
        seconds, covered = [], 0
        for number in range(ROUNDS):
            name = f"wide-{number}"
            content = fleets.content(name, layered=False)
            start = time.perf_counter()
            self.producer.do(CreateDeployment(name, content, target_condition=condition, priority=5000 + number))
            self.settle()
            seconds.append(time.perf_counter() - start)
            covered = self.readable.status(name)[name]["actual"]
        beside = f"covers {covered / self.count:.0%}; worst of {ROUNDS}: {max(seconds):.2f} s"
        return Figure("new deployment → readable for all", self.setting, quantile(seconds, 0.5), "s", "", None, beside)

    def one_tag(self) -> Iterator[Figure]:
        """A tag that gives a device another configuration, until that is readable."""
        milliseconds = []
        for device_id in self._some(PROBES):
            for ring in _RINGS:
                start = time.perf_counter()
                self.producer.do(PatchTags(device_id, {"ring": ring}))
                self._wait_for(device_id, f"ring-{ring}")
                milliseconds.append(1000 * (time.perf_counter() - start))
        for what, share in (("median", 0.5), ("p99", 0.99)):
            beside = f"worst of {len(milliseconds)}: {max(milliseconds):.0f} ms"
            value = quantile(milliseconds, share)
            yield Figure(f"one tag → readable, {what}", self.setting, value, "ms", "", None, beside)

    def _wait_for(self, device_id: str, deployment_id: str) -> None:
        while True:
            effective = self.readable.effective(device_id)
            if effective is not None and any(layer.id == deployment_id for layer in effective.assignment.stack):
                return
            time.sleep(0.0005)

    def reads(self) -> Iterator[Figure]:
        """What lists and the status of a deployment take."""
        query_engine, query = QueryEngine(self.log, self.projections), parse(PAGE)
        name = f"wide-{ROUNDS - 1}"
        works: tuple[tuple[str, Callable[[], object]], ...] = (
            ("status of a deployment", lambda: self.readable.status(name)),
            ("first query page of 100 by a tag", lambda: query_engine.page(query, size=100)),
        )
        for what, work in works:
            first = 1000 * seconds_of(work)
            milliseconds = [1000 * seconds_of(work) for _ in range(ROUNDS)]
            beside = f"the first time {first:,.0f} ms"
            yield Figure(what, self.setting, quantile(milliseconds, 0.5), "ms", "", None, beside)

    def workers_memory(self) -> Figure:
        """The largest process of the pool, over the whole run."""
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        peak = self._memory("used_memory_peak") / _MIB
        beside = f"Redis at its highest {peak:,.0f} MB; processes of the tests' own server are not counted"
        return Figure("largest worker process", self.setting, largest, "MB", "", None, beside)


class _Processes:
    def __init__(self, modules: Sequence[str], environment: dict[str, str]) -> None:
        self._modules, self._environment = modules, environment

    def __enter__(self) -> None:
        commands = ([sys.executable, "-m", module] for module in self._modules)
        self._processes = [subprocess.Popen(command, env=self._environment) for command in commands]

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait()
