"""The rows of the large fleet, with worker processes and RQ in the path."""

import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from redis import Redis

from events import CreateDeployment, PatchTags, Producer, RegisterDevice, ReportProperties
from events.envelope import Principal
from events.log.archive.notes import SEALER, hold
from events.log.keys import FLEET, key
from events.log.log_factory import initialise
from events.log.redis import RedisLog
from events.log.storage_size import KINDS, sizes_of
from events.log.wake import Waker
from events.notification.archive_mover import open_mover
from events.projection_store.fleet_projection import FleetProjection
from events.projection_store.redis import RedisProjectionStore
from events.settings import environment_of, read_settings
from services.embedded_redis import EmbeddedRedis
from tests.benchmarks import fleets
from tests.benchmarks.measuring import Figure, at_least, at_most, quantile
from tests.benchmarks.scale import Scale, counted, print_lines
from tests.servers import redis_server

PARTITIONS = 16
BY = Principal.parse("producer:benchmark")
WORKERS = 2
ROUNDS = 5
_FAR = 2**53


def run(scale: Scale) -> Iterator[Figure]:
    """Grow the fleet once, then measure under both durability settings."""
    with redis_server() as server:
        fleet = Fleet(server, scale)
        with fleet.pool():
            print_lines(f"growing a fleet of {scale.devices:,} devices and {scale.deployments:,} deployments")
            fleet.grow()
            for appendfsync in ("always", "everysec"):
                fleet.client.config_set("appendfsync", appendfsync)
                yield fleet.new_deployment(f"appendfsync {appendfsync}")
                yield fleet.one_tag(f"appendfsync {appendfsync}")
            yield fleet.nobody_woken()
        yield from fleet.bytes_per_device()
        yield fleet.resident()


SMALL_DEVICES, SMALL_DEPLOYMENTS, IMPORTED = 1000, 20, 200_000


def run_small(scale: Scale) -> Iterator[Figure]:
    """What workers cost a small fleet: a deployment, a tag, an import."""
    small = Scale(SMALL_DEVICES, SMALL_DEPLOYMENTS, SMALL_DEVICES // PARTITIONS, scale.events, probes=200)
    with redis_server() as server:
        fleet = Fleet(server, small)
        with fleet.pool():
            fleet.grow()
            # A device without a deployment keeps what it has: with this one, each change of the tag changes its configuration.
            fleet.producer.do(CreateDeployment("standard", fleets.content("standard", layered=False), "*", 1))
            yield fleet.fixed_costs()
            yield fleet.one_tag("appendfsync everysec")
            yield from fleet.importing()
            yield fleet.idle()


class Fleet:
    """A Redis with a fleet of some scale, and who writes to it."""

    def __init__(self, server: EmbeddedRedis, scale: Scale) -> None:
        self.scale = scale
        self.url = server.url
        self.client = Redis.from_url(server.url)
        self.log: RedisLog = initialise(server.url, partitions=PARTITIONS)
        self.projections = RedisProjectionStore(self.log.client)
        self.fleet_projection = FleetProjection(self.projections, partitions=PARTITIONS)
        self.waker = Waker(self.client)
        self.producer = Producer(self.log, by=BY, waker=self.waker)
        self.draw, self.priority = random.Random(11), 5000

    def environment(self) -> dict[str, str]:
        # Snapshots for time travel are measured by `history`; here they would count as the workers' processor time.
        settings = read_settings(redis_url=self.url, workers=WORKERS, memory_budget_mib=2048, history_snapshot_events=0)
        return environment_of(settings)

    def pool(self) -> "_Process":
        self._pool = _Process([sys.executable, "-m", "workers.pool"], self.environment())
        return self._pool

    def processor_seconds(self) -> tuple[float, float]:
        """Processor time so far of the pool with its workers, and of Redis with the queue."""
        information: dict[str, float] = self.client.info("cpu")  # type: ignore[assignment]
        return self._pool.processor_seconds(), information["used_cpu_user"] + information["used_cpu_sys"]

    def processor_seconds_of(self, work: Callable[[], object]) -> tuple[float, float]:
        """Processor time of the pool and of Redis during some work."""
        pool, redis = self.processor_seconds()
        work()
        pool_after, redis_after = self.processor_seconds()
        return pool_after - pool, redis_after - redis

    def grow(self) -> None:
        """Register everyone, with five tags in one event and one report of the agent; then the deployments."""
        start = time.perf_counter()
        names, draw = list(fleets.device_ids(self.scale.devices)), random.Random(1)
        self.producer.submit(counted("registered", map(RegisterDevice, names))).raise_if_refused()
        self.producer.submit(
            counted("tagged", (PatchTags(name, fleets.tags_of(draw)) for name in names))
        ).raise_if_refused()
        report = fleets.agent_report()
        self.producer.submit(
            counted("reported", (ReportProperties(name, report, module_id="$edgeAgent") for name in names))
        ).raise_if_refused()
        seconds = time.perf_counter() - start
        print_lines(f"  {3 * len(names):,} events in {seconds:.0f} s")
        self.producer.submit(
            CreateDeployment(name, content, target_condition=condition, priority=priority)
            for name, content, condition, priority in fleets.deployments(self.scale.deployments)
        ).raise_if_refused()
        self.settle()
        print_lines("  applied")

    def settle(self) -> None:
        while not self.is_settled():
            time.sleep(0.002)

    def is_settled(self) -> bool:
        heads = self.log.heads()
        vectors = {number: self.projections.checkpoint(number).vector for number in range(PARTITIONS)}
        return all((at.partition, at.fleet) == (heads[number], heads[FLEET]) for number, at in vectors.items())

    def new_deployment(self, setting: str) -> Figure:
        """A deployment that covers 60 % is appended; until all partitions have it."""
        seconds, covered = [], 0
        chosen = " OR ".join(f"tags.environment = '{name}'" for name in fleets.ENVIRONMENTS[:6])
        for number in range(ROUNDS):
            name = f"wide-{setting[-3:]}-{number}"
            # Above those of the other setting, or it would change no assignment.
            self.priority += 1
            command = CreateDeployment(
                name, fleets.content(f"wide{number}", layered=False), target_condition=chosen, priority=self.priority
            )
            start = time.perf_counter()
            self.producer.do(command)
            self.settle()
            seconds.append(time.perf_counter() - start)
            covered = self.fleet_projection.status(name)[name]["actual"]
        beside = f"covers {covered / self.scale.devices:.0%}; worst of {ROUNDS}: {max(seconds):.2f} s"
        what = f"{self.scale.devices:,} x {self.scale.deployments:,}: new deployment → readable for all"
        return at_most(what, setting, quantile(seconds, 0.5), "s", aim=2, beside=beside)

    def one_tag(self, setting: str) -> Figure:
        """A device gets a tag that gives it another configuration; until that is readable."""
        condition = "tags.promoted = true"
        name = f"promoted-{setting[-3:]}"
        self.producer.do(
            CreateDeployment(name, fleets.content("promoted", layered=False), target_condition=condition, priority=9000)
        )
        self.settle()
        seconds: list[float] = []
        before = self.processor_seconds()
        for _ in range(self.scale.probes):
            device = f"edge-{self.draw.randrange(self.scale.devices):07d}"
            promoted = not self._runs(device, name)
            start = time.perf_counter()
            self.producer.do(PatchTags(device, {"promoted": promoted or None}))
            while self._runs(device, name) != promoted:
                time.sleep(0.0005)
            seconds.append(time.perf_counter() - start)
        pool, redis = (
            1000 * (now - then) / len(seconds) for now, then in zip(self.processor_seconds(), before, strict=True)
        )
        milliseconds = [1000 * one for one in seconds]
        beside = (
            f"median {quantile(milliseconds, 0.5):.1f} ms, worst {max(milliseconds):.1f} ms of {len(seconds)}; "
            f"processor time of the workers {pool:.1f} ms, of Redis, which also answers the measurement, {redis:.1f} ms"
        )
        return at_most(
            "same fleet: one tag → readable, p99", setting, quantile(milliseconds, 0.99), "ms", aim=15, beside=beside
        )

    def fixed_costs(self) -> Figure:
        """Processor time of a deployment that targets no device, until all partitions have it."""
        costs: list[tuple[float, float]] = []
        for number in range(10):
            command = CreateDeployment(
                f"none-{number}", fleets.content("none", layered=False), target_condition="tags.none = true", priority=1
            )

            def deploy(command: CreateDeployment = command) -> None:
                self.producer.do(command)
                self.settle()

            costs.append(self.processor_seconds_of(deploy))
        pool, redis = (1000 * sum(seconds) / len(costs) for seconds in zip(*costs, strict=True))
        beside = f"workers {pool:.1f} ms, Redis {redis:.1f} ms; mean of {len(costs)}"
        what = f"processor time of a deployment in a fleet of {self.scale.devices:,}"
        return at_most(what, f"{PARTITIONS} partitions", pool + redis, "ms", aim=50, beside=beside)

    def importing(self) -> Iterator[Figure]:
        """Devices are registered and tagged while the workers run, until all are applied."""
        draw = random.Random(3)
        names = [f"import-{number:07d}" for number in range(IMPORTED // 2)]
        commands = [
            command for name in names for command in (RegisterDevice(name), PatchTags(name, fleets.tags_of(draw)))
        ]

        def bring_in() -> None:
            self.producer.submit(commands).raise_if_refused()
            self.settle()

        start, own = time.perf_counter(), time.process_time()
        pool, redis = self.processor_seconds_of(bring_in)
        seconds, own = time.perf_counter() - start, time.process_time() - own
        each = 1e6 / IMPORTED
        beside = f"workers {pool * each:.0f} µs, Redis {redis * each:.0f} µs, the producer {own * each:.0f} µs an event"
        setting = f"{IMPORTED:,} events, {WORKERS} workers"
        what = "bulk import with workers running"
        yield at_least(what, setting, IMPORTED / seconds, "events/s", aim=25_000, beside=beside)
        yield at_most(f"{what}: workers and Redis", setting, (pool + redis) * each, "µs", aim=60, beside=beside)

    def idle(self) -> Figure:
        """Processor time of a pool and its Redis after the last turn has ended."""
        while self.log.client.exists(*(key(number, "wake") for number in range(PARTITIONS))):
            time.sleep(0.1)
        pool, redis = self.processor_seconds_of(lambda: time.sleep(10.0))
        beside = f"workers {100 * pool:.0f} ms, Redis {100 * redis:.0f} ms a second"
        return Figure("an idle pool: processor time a second", "", 100 * (pool + redis), "ms", "", None, beside)

    def nobody_woken(self) -> Figure:
        """A producer that died between append and wake, with no later append: until the reconciler has found the event."""
        silent = Producer(self.log, by=BY)
        seconds = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            silent.do(PatchTags(f"edge-{self.draw.randrange(self.scale.devices):07d}", {"note": "unheard"}))
            self.settle()
            seconds.append(time.perf_counter() - start)
        beside = f"median {quantile(seconds, 0.5):.2f} s of {len(seconds)}"
        return at_most("appended, nobody woken → readable", "worst", max(seconds), "s", aim=3, beside=beside)

    def _runs(self, device: str, deployment: str) -> bool:
        effective = self.fleet_projection.effective(device)
        return effective is not None and any(layer.id == deployment for layer in effective.assignment.stack)

    def bytes_per_device(self) -> Iterator[Figure]:
        """What Redis says each key takes, by what it is for; again after the archive has all events but the newest ones."""
        setting = f"{self.scale.devices:,} devices"
        each = self._bytes()
        for kind in ("log", "subjects", "assignments", "commands"):
            yield Figure(f"Redis bytes per device: {kind}", setting, each[kind], "B", "", None)
        computed = "Redis bytes per device: projections + index"
        beside = f"projections {each['projections']:.0f} B, index {each['index']:.0f} B"
        yield at_most(computed, setting, each["projections"] + each["index"], "B", aim=300, beside=beside)
        with tempfile.TemporaryDirectory() as location:
            mover = open_mover(self.log, read_settings(redis_url=self.url, archive_url=location))
            mover.settle()
            for stream in mover.streams:
                hold(self.log.client, stream, SEALER, _FAR)  # As if it were sealed.
                mover.write(stream, overdue_at=_FAR)
                mover.trim(stream, before_at=_FAR)
            each = self._bytes()
        total = sum(count for kind, count in each.items() if kind != "archive")
        beside = ", ".join(f"{kind} {count:.0f} B" for kind, count in each.items())
        yield at_most("Redis bytes per device: all, archived", setting, total, "B", aim=1200, beside=beside)

    def _bytes(self) -> dict[str, float]:
        sizes = list(sizes_of(self.client, (FLEET, *range(PARTITIONS)), 0))
        return {kind: sum(size.bytes[kind] for size in sizes) / self.scale.devices for kind in KINDS}

    def resident(self) -> Figure:
        """A process warms four partitions, and says what each took."""
        answer = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.resident", self.url], check=True, capture_output=True, text=True
        )
        empty, *each = (int(number) for number in answer.stdout.split())
        mebibytes = [one / (1 << 20) for one in each]
        beside = f"process without any: {empty >> 20} MB; each of the first 4: " + ", ".join(
            f"{one:.0f}" for one in mebibytes
        )
        setting = f"{self.scale.devices // PARTITIONS:,} devices a partition"
        mean = sum(mebibytes) / len(mebibytes)
        return at_most("resident memory per warm partition", setting, mean, "MB", aim=60, beside=beside)


class _Process:
    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._command, self._environment = command, environment

    def processor_seconds(self) -> float:
        """Processor time of the process and of all its descendants."""
        children: dict[int, list[int]] = {}
        ticks: dict[int, int] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                pid = int(stat.parent.name)
                children.setdefault(int(fields[1]), []).append(pid)
                # With those of children that have ended.
                ticks[pid] = sum(map(int, fields[11:15]))
        total, waiting = 0, [self._process.pid]
        while waiting:
            pid = waiting.pop()
            total += ticks.get(pid, 0)
            waiting += children.get(pid, [])
        return total / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> None:
        self._process = subprocess.Popen(self._command, env={**os.environ, **self._environment})

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait()
