"""The rows of the past: any instant of a long history, with snapshots and without."""

import random
import tempfile
import time
from collections.abc import Iterator

from events import CreateDeployment, RegisterDevice
from events.device.events import PropertiesReported, TwinPatched
from events.envelope import Principal, Vector
from events.history.log_at import LogAt, PastDocuments
from events.history.point_in_time import PointInTime, point_in_time_of
from events.history.projections_at import PastPartitions, PastReplay, ProjectionsAt
from events.history.snapshot_taker import SnapshotTaker
from events.history.snapshots import Snapshots
from events.log.keys import partition_of
from events.log.object_store import ObjectStore
from events.log.port import Proposed
from events.log.raw import RawStreams
from events.projection_store.fleet_projection import FleetProjection
from events.projection_store.twins import TwinProjection
from tests.benchmarks import fleets
from tests.benchmarks.large_fleet import Fleet
from tests.benchmarks.measuring import Figure, at_most, quantile
from tests.benchmarks.scale import Scale, print_lines
from tests.servers import redis_server
from workers.projector import Projector

EVENTS_PER_DEVICE = 100
DEVICE_PARTS = 10
"""A history has one device for so many of `--devices`, and a hundred events of each: 10,000,000 events of a million."""

EVERY_EVENTS = 10_000
INSTANTS = 5
_AUTHOR = Principal.parse("producer:benchmark")
_BATCH = 8192
_SITES = ("north", "south", "east", "west")


def run(scale: Scale) -> Iterator[Figure]:
    """Write the history, apply it, take the snapshots on the way, and look back."""
    with redis_server() as server, tempfile.TemporaryDirectory() as directory:
        fleet = Fleet(server, scale)
        names = list(fleets.device_ids(max(200, scale.devices // DEVICE_PARTS)))
        write(fleet, names)
        snapshots = Snapshots(ObjectStore(directory), RawStreams(fleet.log.client), epoch=fleet.log.epoch)
        apply(fleet, snapshots)
        yield from read_back(fleet, names, snapshots)


def write(fleet: Fleet, names: list[str]) -> None:
    """Register everyone, deploy a base and three layers, and have everyone tagged and reporting again and again."""
    fleet.producer.submit(RegisterDevice(name) for name in names).raise_if_refused()
    for number, site in enumerate(("", *_SITES[:3])):
        content = fleets.content(f"d{number}", layered=bool(number))
        condition = f"tags.site = '{site}'" if site else "*"
        fleet.producer.do(CreateDeployment(f"d{number}", content, condition, number + 1))
    print_lines(f"writing {EVENTS_PER_DEVICE} events of each of {len(names):,} devices")
    draw, versions = random.Random(1), dict.fromkeys(names, 1)
    left = EVENTS_PER_DEVICE * len(names)
    while left > 0:
        batch = []
        for name in draw.sample(names, min(_BATCH, len(names), left)):
            tagged = draw.random() < 0.1
            event = (
                TwinPatched({"site": draw.choice(_SITES)}, None)
                if tagged
                else PropertiesReported({"load": draw.randrange(100)})
            )
            batch.append(Proposed(name, versions[name], event))
            versions[name] += 1
        # What stands as documents beside the log is none of the past's business.
        fleet.log.append(batch, command_id=f"b{left}", by=_AUTHOR, at=time.time_ns() // 1_000_000)
        left -= len(batch)


def apply(fleet: Fleet, snapshots: Snapshots) -> None:
    """Bring the projections up, and take snapshots when they are due, as a pool does."""
    print_lines("applying it, and taking snapshots")
    projector = Projector(fleet.log, fleet.projections, clock=lambda: 0)
    documents = PastDocuments(fleet.log, RawStreams(fleet.log.client), snapshots)
    taking = SnapshotTaker(fleet.log, fleet.projections, snapshots, documents, every_events=EVERY_EVENTS)
    for number in range(fleet.log.partitions):
        while not projector.drain(number, go_on=lambda: False):
            if number in taking.due():
                taking.take(number)


def read_back(fleet: Fleet, names: list[str], snapshots: Snapshots) -> Iterator[Figure]:
    """Ask for the status of a deployment in the whole fleet, and for one device's configuration and twin, at some instants."""
    draw = random.Random(2)
    heads = fleet.log.heads()
    events = sum(heads.values())
    setting = f"{events:,} events, {len(names):,} devices"
    instants = [_instant(fleet, draw.uniform(0.1, 1.0)) for _ in range(INSTANTS)]
    looks = [_whole(fleet, point_in_time, snapshots) for point_in_time in instants]
    whole, cpu = [wall for wall, _ in looks], max(cpu for _, cpu in looks)
    yield at_most(
        "an instant of the past, the whole fleet, slowest of 5",
        setting,
        max(whole),
        "s",
        aim=5,
        beside=f"median {quantile(whole, 0.5):.2f} s; at most {cpu:.2f} s of CPU",
    )
    single = [_single(fleet, point_in_time, draw.choice(names), snapshots) for point_in_time in instants]
    yield at_most("an instant of the past, one device and its twin, slowest of 5", setting, max(single), "s", aim=5)
    point_in_time = instants[0]
    share = sum(point_in_time.positions.values()) / events
    alone, spent = _whole(fleet, point_in_time, None)
    yield Figure(
        "the same without snapshots, the whole fleet",
        f"{share:.0%} of {setting}",
        alone,
        "s",
        "",
        None,
        f"{spent:.2f} s of CPU, {spent / looks[0][1]:.1f} times as much as with snapshots",
    )


def _instant(fleet: Fleet, share: float) -> PointInTime:
    position = max(1, int(share * fleet.log.head(0)))
    return point_in_time_of(f"p00:{position}", fleet.log, now=time.time_ns() // 1_000_000)


def _context(fleet: Fleet, point_in_time: PointInTime, snapshots: Snapshots | None) -> tuple[LogAt, ProjectionsAt]:
    replay = PastReplay(fleet.log, fleet.projections, snapshots)
    partitions = PastPartitions(replay, bytes_max=1 << 30)
    documents = PastDocuments(fleet.log, RawStreams(fleet.log.client), snapshots)
    log = LogAt(fleet.log, point_in_time, documents, replay.fleet_events())
    return log, ProjectionsAt(fleet.projections, point_in_time, partitions, implied=False)


def _whole(fleet: Fleet, point_in_time: PointInTime, snapshots: Snapshots | None) -> tuple[float, float]:
    """Seconds by the wall clock, and of this process's CPU."""
    start, spent = time.perf_counter(), time.process_time()
    _, projections = _context(fleet, point_in_time, snapshots)
    FleetProjection(projections, partitions=fleet.log.partitions).status("d1")
    return time.perf_counter() - start, time.process_time() - spent


def _single(fleet: Fleet, point_in_time: PointInTime, name: str, snapshots: Snapshots) -> float:
    start = time.perf_counter()
    log, projections = _context(fleet, point_in_time, snapshots)
    assert projections.checkpoint(partition_of(name, log.partitions)).vector > Vector()
    assert (
        TwinProjection(log, FleetProjection(projections, partitions=log.partitions)).module(name, "$edgeAgent")
        is not None
    )
    return time.perf_counter() - start
