"""twinfold beside PostgreSQL, raw Redis Streams and the package `eventsourcing`: the same fleet, in one run.

Each figure is a ratio of ours to theirs. Beside the clock is the processor time of all processes: this one with the producer and
the worker, the server, and the server's processes.
"""

import importlib.util
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from redis import Redis

from events import CreateDeployment, PatchTags, Producer, RegisterDevice
from events.envelope import Principal
from events.log.keys import partition_of
from events.log.log_factory import initialise, open_log
from events.projection_store.fleet_projection import FleetProjection
from events.projection_store.redis import RedisProjectionStore
from services.embedded_redis import EmbeddedRedis
from tests.benchmarks import fleets
from tests.benchmarks.measuring import Figure, quantile
from tests.benchmarks.postgres import CannotCompare, PostgresServer, postgres_server, sql_of
from tests.benchmarks.scale import Scale, print_lines
from tests.servers import redis_server
from workers.projector import Projector

PARTITIONS = 16
BY = Principal.parse("producer:benchmark")
ROUNDS = 3
BATCH = 1000
_WIDE = fleets.ENVIRONMENTS[:6]
_RINGS = ("canary", "stable")
"""Values of a tag; each is the condition of a deployment above all others."""


class Measured(NamedTuple):
    """Seconds of work by the clock and in processor time of all processes."""

    clock: float
    cpu: float


class Side:
    """One system that has the fleet."""

    name: str

    def cpu_seconds(self) -> float:
        """Processor time of all processes of this side so far."""
        raise NotImplementedError

    def measured(self, work: Callable[[], object]) -> Measured:
        """Do something and say what it took."""
        clock, cpu = time.perf_counter(), self.cpu_seconds()
        work()
        return Measured(time.perf_counter() - clock, self.cpu_seconds() - cpu)

    def import_devices(self, devices: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Register devices with their tags, until a reader sees them."""
        raise NotImplementedError

    def move(self, device_id: str, ring: str) -> None:
        """Change one tag, which gives the device another configuration, until a reader sees it."""
        raise NotImplementedError

    def deploy(self, number: int) -> None:
        """Create a deployment for 60 % of the fleet, until a reader sees it for all."""
        raise NotImplementedError

    def bytes_stored(self) -> int:
        """The bytes of everything that is stored."""
        raise NotImplementedError


class Twinfold(Side):
    """The producer and the worker in this process, on a Redis of their own that syncs every append."""

    name = "twinfold"

    def __init__(self, server: EmbeddedRedis, scale: Scale) -> None:
        self._redis = Redis.from_url(server.url)
        self.log = initialise(server.url, partitions=PARTITIONS)
        self.producer = Producer(self.log, by=BY)
        projections = RedisProjectionStore(self.log.client)
        self._projector = Projector(self.log, projections, clock=lambda: 0)
        self._readable = FleetProjection(projections, partitions=PARTITIONS)
        self._empty = self.bytes_stored()
        self.producer.submit(
            CreateDeployment(name, content, target_condition=condition, priority=priority)
            for name, content, condition, priority in _deployments(scale)
        ).raise_if_refused()

    def cpu_seconds(self) -> float:
        info: Any = self._redis.info("cpu")
        return time.process_time() + float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    def import_devices(self, devices: Sequence[tuple[str, dict[str, Any]]]) -> None:
        self.producer.submit(RegisterDevice(device_id) for device_id, _ in devices).raise_if_refused()
        self.producer.submit(PatchTags(device_id, tags) for device_id, tags in devices).raise_if_refused()
        self.drain()

    def drain(self) -> None:
        """Bring the projections of all partitions up to the log."""
        for number in range(PARTITIONS):
            self._projector.drain(number, go_on=lambda: True)

    def move(self, device_id: str, ring: str) -> None:
        self.producer.do(PatchTags(device_id, {"ring": ring}))
        self._projector.drain(partition_of(device_id, PARTITIONS), go_on=lambda: True)
        effective = self._readable.effective(device_id)
        assert effective is not None
        assert effective.assignment.stack[0].id == f"ring-{ring}"

    def deploy(self, number: int) -> None:
        condition = " OR ".join(f"tags.environment = '{name}'" for name in _WIDE)
        content = fleets.content(f"wide{number}", layered=False)
        self.producer.do(
            CreateDeployment(f"wide-{number}", content, target_condition=condition, priority=5000 + number)
        )
        self.drain()
        assert self._readable.status(f"wide-{number}")[f"wide-{number}"]["actual"] > 0

    def bytes_stored(self) -> int:
        info: Any = self._redis.info("memory")
        return int(info["used_memory_dataset"]) - getattr(self, "_empty", 0)


class Postgres(Side):
    """A table of devices with their tags as JSONB, and the deployment and layers that each device gets.

    The conditions are in one prepared statement, which changes a tag and finds the deployment and the layers in one round trip. It
    has no history, no reasons, no versions and no counts: what a table with an index can do at best.
    """

    name = "PostgreSQL"

    def __init__(self, server: PostgresServer, scale: Scale) -> None:
        import psycopg  # noqa: PLC0415 - optional

        self._server = server
        self._connection = psycopg.connect(server.conninfo, autocommit=True, prepare_threshold=0)
        self._do("""CREATE TABLE device (
            id text PRIMARY KEY, version integer NOT NULL, tags jsonb NOT NULL,
            base text, priority integer NOT NULL, layers text[] NOT NULL)""")
        self._do("CREATE INDEX device_tags ON device USING gin (tags jsonb_path_ops)")
        for name in ("environment", "site", "line"):
            self._do(f"CREATE INDEX device_{name} ON device ((tags->>'{name}'))")
        self._do("CREATE INDEX device_base ON device (base)")
        self._empty = self.bytes_stored()
        rows = [(name, condition, priority) for name, _, condition, priority in _deployments(scale)]
        bases = [row for row in rows if not row[0].startswith("layer")]
        layers = [row for row in rows if row[0].startswith("layer")]
        resolved = f"""(SELECT given.tags, best.name, coalesce(best.priority, -1),
                array(SELECT name FROM (VALUES {self._values(layers)}) AS layer(name, priority, holds)
                    WHERE holds AND priority > coalesce(best.priority, -1) ORDER BY priority)
            FROM (SELECT %s AS tags) given LEFT JOIN LATERAL
                (SELECT name, priority FROM (VALUES {self._values(bases)}) AS base(name, priority, holds)
                    WHERE holds ORDER BY priority DESC LIMIT 1) best ON true)"""
        assigned = "(tags, base, priority, layers)"
        self._patch = (
            f"UPDATE device SET version = version + 1, {assigned} = {resolved % 'device.tags || %(tags)s::jsonb'}"
            " WHERE id = %(id)s"
        )
        self._resolve_all = f"UPDATE device SET {assigned} = {resolved % 'device.tags'}"

    @staticmethod
    def _values(rows: Sequence[tuple[str, str, int]]) -> str:
        return ", ".join(f"('{name}', {priority}, {sql_of(rule, 'given.tags')})" for name, rule, priority in rows)

    def _do(self, statement: str, parameters: dict[str, Any] | None = None) -> Any:
        return self._connection.execute(statement, parameters)

    def cpu_seconds(self) -> float:
        return time.process_time() + self._server.cpu_seconds()

    def import_devices(self, devices: Sequence[tuple[str, dict[str, Any]]]) -> None:
        statement = "COPY device (id, version, tags, priority, layers) FROM STDIN"
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            for device_id, tags in devices:
                copy.write_row((device_id, 1, json.dumps(tags), -1, []))
        self._do(self._resolve_all)
        self._connection.execute("VACUUM ANALYZE device")

    def move(self, device_id: str, ring: str) -> None:
        self._do(self._patch, {"id": device_id, "tags": json.dumps({"ring": ring})})
        row = self._do("SELECT base FROM device WHERE id = %(id)s", {"id": device_id}).fetchone()
        assert row[0] == f"ring-{ring}"

    def deploy(self, number: int) -> None:
        names = ", ".join(f"'{name}'" for name in _WIDE)
        self._do(
            f"UPDATE device SET base = 'wide-{number}', priority = {5000 + number}, layers = '{{}}'"
            f" WHERE tags->>'environment' IN ({names}) AND priority < {5000 + number}"
        )
        assert self._do(f"SELECT count(*) FROM device WHERE base = 'wide-{number}'").fetchone()[0] > 0

    def bytes_stored(self) -> int:
        return int(self._do("SELECT pg_total_relation_size('device')").fetchone()[0]) - getattr(self, "_empty", 0)


def run(scale: Scale) -> Iterator[Figure]:
    """Compare with what is installed; what is not is named."""
    try:
        yield from _beside_postgres(scale)
    except CannotCompare as error:
        print_lines(f"compare: {error}")
    with redis_server(appendfsync="always") as server:
        yield from _beside_streams(server, scale)
        if importlib.util.find_spec("eventsourcing") is None:
            print_lines("compare: eventsourcing is not compared: pip install eventsourcing")
        else:
            yield from _beside_eventsourcing(server, scale)


def _deployments(scale: Scale) -> list[tuple[str, dict[str, Any], str, int]]:
    rings = [
        (f"ring-{ring}", fleets.content(ring, layered=False), f"tags.ring = '{ring}'", 9000 + number)
        for number, ring in enumerate(_RINGS)
    ]
    return [*rings, *fleets.deployments(scale.deployments)]


def _beside_postgres(scale: Scale) -> Iterator[Figure]:
    with postgres_server() as server, redis_server(appendfsync="always") as redis:
        theirs, ours = Postgres(server, scale), Twinfold(redis, scale)
        sides: tuple[Side, Side] = (ours, theirs)
        draw = random.Random(5)
        devices = [(device_id, fleets.tags_of(draw)) for device_id in fleets.device_ids(scale.devices)]
        setting = f"{scale.devices:,} devices, {scale.deployments:,} deployments"
        print_lines(f"compare with PostgreSQL: {setting}, each write synced")

        imported = [side.measured(lambda: side.import_devices(devices)) for side in sides]  # noqa: B023
        yield from _ratios("import of all devices, until readable", setting, imported, per=len(devices))
        stored = [side.bytes_stored() / len(devices) for side in sides]
        beside = f"{stored[0]:,.0f} B a device with log and history, {stored[1]:,.0f} B with indexes"
        yield Figure("stored bytes ÷ PostgreSQL's", setting, stored[0] / stored[1], "x", "", None, beside)

        chosen = [draw.choice(devices)[0] for _ in range(scale.probes)]
        seconds: list[list[float]] = []
        cpu = []
        for side in sides:
            # The first statement is planned, and the first job loads the partitions.
            for device_id in chosen[:PARTITIONS]:
                side.move(device_id, _RINGS[0])
            clocks: list[float] = []
            before = side.cpu_seconds()
            for device_id in chosen:
                for ring in reversed(_RINGS):
                    start = time.perf_counter()
                    side.move(device_id, ring)
                    clocks.append(time.perf_counter() - start)
            cpu.append((side.cpu_seconds() - before) / len(clocks))
            seconds.append(clocks)
        for what, share in (("median", 0.5), ("p99", 0.99)):
            each = [1000 * quantile(clocks, share) for clocks in seconds]
            beside = f"{each[0]:.2f} ms, theirs {each[1]:.2f} ms; {len(seconds[0])} changes"
            yield Figure(
                f"one tag → readable, {what} ÷ PostgreSQL's", setting, each[0] / each[1], "x", "", None, beside
            )
        beside = f"{1e3 * cpu[0]:.2f} ms a change, theirs {1e3 * cpu[1]:.2f} ms"
        yield Figure("one tag → readable, CPU ÷ PostgreSQL's", setting, cpu[0] / cpu[1], "x", "", None, beside)

        deployed: list[Measured] = []
        for side in sides:
            rounds = [side.measured(lambda: side.deploy(number)) for number in range(ROUNDS)]  # noqa: B023
            deployed.append(Measured(*(quantile(values, 0.5) for values in zip(*rounds, strict=True))))
        yield from _ratios("new deployment for 60 %, until readable", setting, deployed, per=1)


def _ratios(what: str, setting: str, measured: Sequence[Measured], *, per: int) -> Iterator[Figure]:
    unit, factor = ("s", 1.0) if per == 1 else ("µs a device", 1e6)
    for name, each in (("clock", [m.clock for m in measured]), ("CPU", [m.cpu for m in measured])):
        ours, theirs = (factor * value / per for value in each)
        beside = f"{ours:,.3g} {unit}, theirs {theirs:,.3g}"
        yield Figure(f"{what}, {name} ÷ PostgreSQL's", setting, ours / theirs, "x", "", None, beside)


def _beside_streams(server: EmbeddedRedis, scale: Scale) -> Iterator[Figure]:
    """Appends of tag changes beside XADD of entries with the same fields, one at a time and in batches."""
    client, log = Redis.from_url(server.url), initialise(server.url)
    producer = Producer(log, by=BY)
    ids = list(fleets.device_ids(min(scale.events, 20_000)))
    producer.submit(map(RegisterDevice, ids)).raise_if_refused()
    draw = random.Random(6)
    commands = [PatchTags(device_id, fleets.tags_of(draw)) for device_id in ids]
    singles = commands[: scale.probes]

    def add(stream: Any, command: PatchTags) -> None:
        fields: dict[Any, Any] = {
            "type": "TwinPatched",
            "subject": command.device_id,
            "version": 2,
            "at": 1_700_000_000_000,
            "by": str(BY),
            "cause": "",
            "data": json.dumps({"tags": command.tags, "type": "TwinPatched"}),
        }
        stream.xadd("raw", fields)

    def in_batches() -> None:
        for start in range(0, len(commands), BATCH):
            pipe = client.pipeline(transaction=False)
            for command in commands[start : start + BATCH]:
                add(pipe, command)
            pipe.execute()

    raw = [_rate(len(singles), lambda: [add(client, command) for command in singles]), _rate(len(commands), in_batches)]
    own = [
        _rate(len(singles), lambda: [producer.do(command) for command in singles]),
        _rate(len(commands), lambda: producer.submit(commands).raise_if_refused()),
    ]
    for what, ours, theirs in zip(("one at a time", "in batches"), own, raw, strict=True):
        beside = f"{ours:,.0f} events/s, XADD {theirs:,.0f}"
        yield Figure(f"append ÷ XADD, {what}", "appendfsync always", ours / theirs, "x", "", None, beside)


def _rate(count: int, work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def _beside_eventsourcing(server: EmbeddedRedis, scale: Scale) -> Iterator[Figure]:
    """Appends beside `eventsourcing` on SQLite in a file: an aggregate for each device, saved one by one and a thousand at once."""
    from eventsourcing.application import Application  # noqa: PLC0415 - optional
    from eventsourcing.domain import Aggregate, event  # noqa: PLC0415

    class Device(Aggregate):  # type: ignore[misc]
        @event("Registered")
        def __init__(self) -> None:
            self.tags: dict[str, Any] = {}

        @event("TagsPatched")
        def patch(self, tags: dict[str, Any]) -> None:
            self.tags |= tags

    producer, draw = Producer(open_log(server.url), by=BY), random.Random(7)
    names = [f"es-{uuid4()}" for _ in range(BATCH)]
    producer.submit(map(RegisterDevice, names)).raise_if_refused()
    with tempfile.TemporaryDirectory(prefix="twinfold-eventsourcing-") as directory:
        environment = {
            "PERSISTENCE_MODULE": "eventsourcing.sqlite",
            "SQLITE_DBNAME": str(Path(directory) / "events.sqlite"),
        }
        application: Any = Application(env=environment)
        devices = [Device() for _ in names]
        application.save(*devices)
        singles = min(scale.probes, BATCH)

        def one_at_a_time() -> None:
            for device in devices[:singles]:
                device.patch(fleets.tags_of(draw))
                application.save(device)

        def at_once() -> None:
            for device in devices:
                device.patch(fleets.tags_of(draw))
            application.save(*devices)

        theirs = [_rate(singles, one_at_a_time), _rate(BATCH, at_once)]
        application.close()
    ours = [
        _rate(singles, lambda: [producer.do(PatchTags(name, fleets.tags_of(draw))) for name in names[:singles]]),
        _rate(
            BATCH, lambda: producer.submit(PatchTags(name, fleets.tags_of(draw)) for name in names).raise_if_refused()
        ),
    ]
    for what, own, other in zip(("one at a time", "in batches"), ours, theirs, strict=True):
        beside = f"{own:,.0f} events/s, theirs {other:,.0f}"
        yield Figure(
            f"append ÷ eventsourcing on SQLite, {what}",
            "SQLite as the package sets it",
            own / other,
            "x",
            "",
            None,
            beside,
        )
