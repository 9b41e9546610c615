"""The rows of the archive: writing and trimming, applying from segments with one and two processes, one device's events."""

import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from events import PatchTags, Producer, RegisterDevice
from events.envelope import Principal
from events.log.archive.mover import Mover
from events.log.events import LogInitialised
from events.log.keys import partition_of
from events.log.log_factory import initialise
from events.log.object_store import ObjectStore
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from events.log.scan import events_of
from services.embedded_redis import EmbeddedRedis
from tests.benchmarks import fleets
from tests.benchmarks.measuring import Figure, at_least, at_most, seconds_of
from tests.benchmarks.scale import Scale, counted, print_lines
from tests.servers import redis_server

PARTITIONS = 2
STREAMS = ("p00", "p01")
CHANGES = 20
"""Events of each device."""
LOOKS = 9


def run(scale: Scale) -> Iterator[Figure]:
    """Write a log, archive it, and read it from there."""
    with redis_server() as server, tempfile.TemporaryDirectory() as location:
        log = initialise(server.url, partitions=PARTITIONS)
        ids = list(fleets.device_ids(max(100, scale.devices // CHANGES)))
        print_lines(f"writing {CHANGES * len(ids):,} events of {len(ids):,} devices")
        _grow(log, ids)
        yield _one_device(log, ids, "Redis alone", 60.0)
        segment = max(1000, min(50_000, scale.devices // 20))
        mover = Mover(
            log.client,
            ObjectStore(location),
            initialisation=LogInitialised(log.epoch, log.partitions),
            segment_entries=segment,
        )
        mover.settle()
        yield from _moving(mover, segment)
        yield _one_device(log, ids, "segments", 1.0)
        yield from _replay(server, log)


def _grow(log: RedisLog, ids: list[str]) -> None:
    draw = random.Random(5)
    producer = Producer(log, by=Principal.parse("producer:benchmark"))
    producer.submit(RegisterDevice(device_id) for device_id in ids).raise_if_refused()
    changes = (PatchTags(device_id, fleets.tags_of(draw)) for _ in range(CHANGES - 1) for device_id in ids)
    producer.submit(counted("written", changes)).raise_if_refused()


def _moving(mover: Mover, segment: int) -> Iterator[Figure]:
    setting = f"segments of {segment:,}"
    moved = []
    wall, processor = _timed(lambda: moved.extend(mover.write(stream) for stream in STREAMS))
    events, size = sum(one.written for one in moved), sum(one.bytes for one in moved)
    beside = f"{events / wall:,.0f} events/s by the clock; {size / events:.1f} bytes an event in files"
    yield Figure(
        "writing segments, read back and verified", setting, events / processor, "events/cpu s", "", None, beside
    )
    trimmed: list[int] = []
    wall, processor = _timed(lambda: trimmed.extend(mover.trim(stream, before_at=2**53).trimmed for stream in STREAMS))
    beside = f"{sum(trimmed) / wall:,.0f} events/s by the clock"
    yield Figure("comparing and trimming", setting, sum(trimmed) / processor, "events/cpu s", "", None, beside)


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    begun = time.process_time()
    wall = seconds_of(work)
    return wall, time.process_time() - begun


def _one_device(log: RedisLog, ids: list[str], setting: str, aim: float) -> Figure:
    draw = random.Random(9)
    seconds = []
    for device_id in draw.sample(ids, LOOKS):
        streams = RawStreams(log.client)
        seconds.append(
            seconds_of(lambda: list(events_of(streams, [device_id], partitions=PARTITIONS)))  # noqa: B023
        )
    # Each device has as many events, in one partition of two.
    head = log.head(partition_of(ids[0], PARTITIONS))
    beside = f"of {head:,} in its stream; worst {max(seconds):.2f} s"
    return at_most(f"{CHANGES} events of one device", setting, statistics.median(seconds), "s", aim=aim, beside=beside)


def _replay(server: EmbeddedRedis, log: RedisLog) -> Iterator[Figure]:
    streams = RawStreams(log.client)
    upto = min(streams.refresh(stream) for stream in STREAMS)
    (alone,) = _readers(server, [0], upto)
    both = _readers(server, [0, 1], upto)
    small = _readers(server, [0], upto // 4)[0]
    one, two = alone.events / alone.applied, sum(each.events for each in both) / sum(each.applied for each in both)
    beside = f"one {one:,.0f}, two {two:,.0f} events a processor second; reading and decoding alone {alone.events / alone.read:,.0f}"
    yield at_least(
        "applying from segments, two processes ÷ one", "per processor second", two / one, "", aim=0.8, beside=beside
    )
    ratio = alone.peak / small.peak
    beside = f"{small.peak:.0f} MB at {small.events:,} events, {alone.peak:.0f} MB at {alone.events:,}"
    yield Figure("peak memory, four times the history ÷ a quarter", "same devices", ratio, "x", "", None, beside)


class _Read:
    def __init__(self, line: str) -> None:
        self.events, self.read, self.applied, self.peak = (float(word) for word in line.split())
        self.events = int(self.events)


def _readers(server: EmbeddedRedis, numbers: list[int], upto: int) -> list[_Read]:
    module = "tests.benchmarks.archived"
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", module, server.url, str(number), str(upto)], stdout=subprocess.PIPE, text=True
        )
        for number in numbers
    ]
    return [_Read(process.communicate()[0]) for process in processes]
