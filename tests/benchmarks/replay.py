"""Applying the whole history again and comparing, beside reading and decoding it alone; with one and with two processes."""

import random
import statistics
import time
from collections.abc import Callable, Iterator

import msgspec
from redis import Redis

from events import CreateDeployment, PatchTags, Producer, RegisterDevice, ReportProperties
from events.envelope import Principal
from events.log.log_factory import initialise
from events.log.port import Event
from events.log.redis import RedisLog
from events.projection_store.redis import RedisProjectionStore
from events.settings import environment_of, read_settings
from services.embedded_redis import EmbeddedRedis
from tests.benchmarks import fleets
from tests.benchmarks.measuring import Figure, at_least
from tests.benchmarks.scale import Scale, print_lines
from tests.servers import redis_server
from workers.projector import Projector
from workers.replay.pool import replay_streams
from workers.replay.rebuild import Rebuilder
from workers.replay.report import Done, ReplayRequest
from workers.replay.streams import Replay

PARTITIONS = 2
BY = Principal.parse("producer:benchmark")
ROUNDS = 3
_REPORTS_OF = 10
"""One event in ten is an agent's report of 2 KB."""


def run(scale: Scale) -> Iterator[Figure]:
    """Measure on one server: a history of registrations, tags and reports, applied as it came."""
    with redis_server() as server:
        log, ids = _seed(server, scale)
        projector = Projector(log, RedisProjectionStore(log.client), clock=lambda: 0)
        draw = random.Random(2)
        lengths = []
        for turn in range(3):
            print_lines(f"  history of turn {turn + 1}")
            _write(log, projector, ids, len(ids) * (2, 2, 4)[turn], draw)
            lengths.append(_peak(server, sum(log.heads().values())))
        yield from _ratio(log)
        yield from _processes(server, log)
        yield _rebuilt(log)
        (first, _), *_, (last, _) = lengths
        beside = "; ".join(f"{events:,} events {peak >> 20:,} MB" for events, peak in lengths)
        factor = lengths[-1][1] / lengths[0][1]
        setting = f"{last / first:.1f} times the history"
        yield Figure("memory of a replaying process, at its highest", setting, factor, "apply", "", None, beside)


def _seed(server: EmbeddedRedis, scale: Scale) -> tuple[RedisLog, list[str]]:
    log = initialise(server.url, partitions=PARTITIONS)
    producer = Producer(log, by=BY)
    ids = [f"edge-{number:07d}" for number in range(scale.partition_devices)]
    print_lines(f"replay: {len(ids):,} devices in {PARTITIONS} partitions, {scale.deployments:,} deployments")
    producer.submit(RegisterDevice(name) for name in ids).raise_if_refused()
    producer.submit(
        CreateDeployment(name, content, target_condition=condition, priority=priority)
        for name, content, condition, priority in fleets.deployments(scale.deployments)
    ).raise_if_refused()
    return log, ids


def _write(log: RedisLog, projector: Projector, ids: list[str], count: int, draw: random.Random) -> None:
    producer = Producer(log, by=BY)
    written = 0
    while written < count:
        some = min(20_000, count - written)
        producer.submit(_command(draw.choice(ids), number, draw) for number in range(some)).raise_if_refused()
        written += some
        for number in range(PARTITIONS):
            projector.drain(number, go_on=lambda: True)


def _command(name: str, number: int, draw: random.Random) -> PatchTags | ReportProperties:
    if number % _REPORTS_OF == 0:
        return ReportProperties(name, fleets.agent_report(draw.randrange(2, 5)), module_id="$edgeAgent")
    if number % _REPORTS_OF == 1:
        return PatchTags(name, {"site": draw.choice(fleets.SITES)})
    return PatchTags(name, {"note": f"note-{draw.randrange(500)}"})


def _read_raw(client: Redis, number: int) -> int:
    decoder, after = msgspec.json.Decoder(Event), 0
    while entries := client.xrange(f"{{p{number:02d}}}:log", min=f"{after + 1}-0", count=8192):
        for _, fields in entries:  # type: ignore[union-attr]
            decoder.decode(fields[b"data"])
        after += len(entries)  # type: ignore[arg-type]
    return after


def _ratio(log: RedisLog) -> Iterator[Figure]:
    """Of processor time, as both are read by one process from one server."""
    ratios, raws, own = [], [], []
    events = log.head(0)
    projections = RedisProjectionStore(log.client)
    for _ in range(ROUNDS):
        raws.append(events / cpu_seconds_of(lambda: _read_raw(log.client, 0)))  # type: ignore[arg-type]
        own.append(events / cpu_seconds_of(lambda: _same(Replay(log, projections, projections))))
        ratios.append(own[-1] / raws[-1])
    beside = (
        f"{statistics.median(own):,.0f} events a CPU second, raw {statistics.median(raws):,.0f};"
        f" assignment changes, projections, twins and heads of {events:,} events"
    )
    yield at_least(
        "replay ÷ raw read+decode", "8 events a device", statistics.median(ratios), "", aim=0.35, beside=beside
    )


def cpu_seconds_of(work: Callable[[], object]) -> float:
    """How much processor time of this process something takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def _same(replay: Replay) -> None:
    assert replay.stream(0).differences == []


def _processes(server: EmbeddedRedis, log: RedisLog) -> Iterator[Figure]:
    """What each process applies in a second of its own processor time, alone and beside another."""
    rates = {}
    for processes in (1, 2):
        rates[processes] = statistics.median(_rate(server, processes) for _ in range(ROUNDS))
    factor = rates[2] / rates[1]
    beside = (
        f"{rates[1]:,.0f} → {rates[2]:,.0f} events a CPU second of each process; {sum(log.heads().values()):,} events"
    )
    yield at_least("two processes ÷ twice one", "two partitions", factor, "", aim=0.8, beside=beside)


def _rate(server: EmbeddedRedis, processes: int) -> float:
    environment = environment_of(read_settings(redis_url=server.url))
    events, seconds = 0, 0.0
    for replay_stream in replay_streams(
        ReplayRequest(), tuple(range(PARTITIONS)), processes=processes, environment=environment
    ):
        if isinstance(replay_stream, Done):
            assert replay_stream.compared.differences == []
            events += replay_stream.compared.events
            seconds += replay_stream.compared.cpu_seconds
    return events / seconds


def _peak(server: EmbeddedRedis, events: int) -> tuple[int, int]:
    environment = environment_of(read_settings(redis_url=server.url))
    for replay_stream in replay_streams(ReplayRequest(), (0,), processes=1, environment=environment):
        if isinstance(replay_stream, Done):
            assert replay_stream.compared.differences == []
            return events, replay_stream.compared.memory_bytes_max
    raise AssertionError


def _rebuilt(log: RedisLog) -> Figure:
    events = log.head(0)
    rates = [events / cpu_seconds_of(lambda: Rebuilder(log).partition(0)) for _ in range(ROUNDS)]
    beside = f"{events:,} events, nobody writing"
    return Figure(
        "rebuild of a partition's projections",
        "one process",
        statistics.median(rates),
        "events a CPU second",
        "",
        None,
        beside,
    )
