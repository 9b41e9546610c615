"""The rows of auditing: sealing and verifying beside reading the same entries raw, and what seals take up."""

import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

from redis import Redis

from events import PatchTags, Producer, RegisterDevice
from events.audit.seal_store import SEALS
from events.audit.sealer import Sealer, public_key
from events.audit.verify import verify_log
from events.envelope import Principal
from events.log.archive.notes import holds_key
from events.log.entries import stream_names
from events.log.log_factory import initialise
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from events.settings import Settings, read_settings
from tests.benchmarks.measuring import Figure, at_least, seconds_of
from tests.benchmarks.scale import Scale, print_lines
from tests.servers import redis_server

ROUNDS = 3
BY = Principal.parse("producer:benchmark")


def run(scale: Scale) -> Iterator[Figure]:
    """Measure every row over one log of `scale.events` events and as many more."""
    print_lines("sealing and verifying")
    with redis_server() as server, tempfile.TemporaryDirectory() as directory:
        log = initialise(server.url, allow_volatile=True)
        producer = Producer(log, by=BY)
        devices = [f"device-{number}" for number in range(scale.events)]
        producer.submit(RegisterDevice(one) for one in devices).raise_if_refused()
        producer.submit(PatchTags(one, {"site": one[-1], "line": one[-2:]}) for one in devices).raise_if_refused()
        entries = sum(log.heads().values())
        raw, sealing, verifying, size = [], [], [], 0
        for number in range(ROUNDS):
            settings = read_settings(redis_url=server.url, data_dir=Path(directory) / str(number), seal_every_events=1)
            _unsealed(log)
            raw.append(seconds_of(lambda: _read(log)))
            sealing.append(seconds_of(lambda: _seal(settings, log)))  # noqa: B023
            size = _bytes_of_seals(log)
            verifying.append(seconds_of(lambda: _verify(settings, log)))  # noqa: B023
        beside = f"raw read {entries / statistics.median(raw):,.0f} entries/s"
        for what, seconds in (("sealing", sealing), ("audit verify", verifying)):
            ratio = statistics.median(one / other for one, other in zip(raw, seconds, strict=True))
            rate = f"{entries / statistics.median(seconds):,.0f} entries/s; {beside}"
            yield at_least(f"{what} ÷ raw read", f"{entries:,} entries", ratio, "", aim=0.35, beside=rate)
        yield Figure("seals in Redis per entry", f"{entries:,} entries", size / entries, "B", "", None)


def _unsealed(log: RedisLog) -> None:
    """As if nobody had ever sealed: who seals heeds what stands beside the seals, too."""
    noted = (holds_key(name) for name in stream_names(log.partitions))
    log.client.delete(SEALS, "{fleet}:sealing", *noted)


def _read(log: RedisLog) -> None:
    streams = RawStreams(log.client)
    for name in stream_names(log.partitions):
        for _ in streams.entries(name):
            pass


def _seal(settings: Settings, log: RedisLog) -> None:
    sealer = Sealer(settings, log, clock=lambda: 1)
    while sealer.round(1):
        pass


def _verify(settings: Settings, log: RedisLog) -> None:
    report = verify_log(settings, log, [public_key(settings)])
    assert report.is_fine
    assert not report.unsealed


def _bytes_of_seals(log: RedisLog) -> int:
    client = log.client
    assert isinstance(client, Redis)
    found: int = client.memory_usage(SEALS, samples=0)
    return found
