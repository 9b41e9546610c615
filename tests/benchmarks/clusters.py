"""The rows of a cluster: processor time for an event, of servers, producer and workers, as masters and workers grow."""

import contextlib
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from events import CreateDeployment, PatchTags, Producer, RegisterDevice
from events.envelope import Principal
from events.log.wake import Waker
from tests.benchmarks import fleets
from tests.benchmarks.measuring import Figure, at_most
from tests.benchmarks.scale import Scale, print_lines
from tests.process_tree import descendants
from tests.redis_cluster import Cluster, cluster
from tests.servers import redis_server
from tests.workers.system import System

PARTITIONS = 16
BY = Principal.parse("producer:benchmark")
SHARE_MAX = 1.15
"""A deployment grows by adding masters and workers if an event costs none of them more than it costs a single one."""
_TICKS = os.sysconf("SC_CLK_TCK")


class Cost(msgspec.Struct, frozen=True):
    """Microseconds of processor time for an event: of the producer, of all masters, and of all worker processes.

    `device_bytes` is the memory of all masters for a device that is registered, tagged and projected, `event_bytes` for each
    later event.
    """

    producer: float
    masters: float
    workers: float
    device_bytes: float
    event_bytes: float

    def share_of(self, single: "Cost", part: str) -> float:
        """A part's cost as a multiple of that of a single master or worker."""
        share: float = getattr(self, part) / getattr(single, part)
        return share


def run(scale: Scale) -> Iterator[Figure]:
    """Measure 1, 2 and 4 masters with two workers, and 1, 2 and 4 workers on two masters."""
    by_masters = {masters: cost(scale, masters=masters, workers=2) for masters in (1, 2, 4)}
    for masters, measured in by_masters.items():
        for part in ("producer", "masters"):
            yield _figure(f"{part}: processor time for an event", f"masters: {masters}", measured, by_masters[1], part)
        beside = f"{measured.event_bytes:,.0f} bytes for each later event"
        yield Figure(
            "memory of all masters", f"masters: {masters}", measured.device_bytes, "bytes a device", "", None, beside
        )
    by_workers = {workers: cost(scale, masters=2, workers=workers) for workers in (1, 2, 4)}
    for workers, measured in by_workers.items():
        for part in ("masters", "workers"):
            yield _figure(f"{part}: processor time for an event", f"workers: {workers}", measured, by_workers[1], part)


def _figure(what: str, setting: str, measured: Cost, single: Cost, part: str) -> Figure:
    beside = f"{getattr(measured, part):,.1f} µs; {getattr(single, part):,.1f} µs with one"
    return at_most(what, setting, measured.share_of(single, part), "times", aim=SHARE_MAX, beside=beside)


def cost(scale: Scale, *, masters: int, workers: int) -> Cost:
    """What an event costs a cluster of so many masters that so many worker processes follow."""
    print_lines(f"{masters} masters, {workers} workers")
    with contextlib.ExitStack() as stack:
        nodes = stack.enter_context(cluster(masters=masters))
        queue = stack.enter_context(redis_server())
        system = stack.enter_context(
            contextlib.closing(System(nodes.url, queue_url=queue.url, partitions=PARTITIONS, waking=False))
        )
        empty = _memory(nodes)
        waker = Waker(system.queue)
        producer = Producer(system.log, by=BY, waker=waker)
        ids = list(fleets.device_ids(max(200, scale.devices // 50)))
        draw = random.Random(1)
        producer.submit(map(RegisterDevice, ids)).raise_if_refused()
        producer.submit(PatchTags(name, fleets.tags_of(draw)) for name in ids).raise_if_refused()
        producer.submit(
            CreateDeployment(name, content, target_condition=condition, priority=priority)
            for name, content, condition, priority in fleets.deployments(max(10, scale.deployments // 10))
        ).raise_if_refused()
        pool = stack.enter_context(
            system.process("-m", "workers.pool", TWINFOLD_WORKERS=str(workers), TWINFOLD_HISTORY_SNAPSHOT_EVENTS="0")
        )
        _settle(system)
        seeded = _memory(nodes)
        # Every worker has every partition in memory before what is measured begins.
        producer.submit(_changes(ids, min(4 * len(ids), 20_000), seed=2)).raise_if_refused()
        _settle(system)
        of_workers = {pid for pid in descendants(pool.pid) if b"twinfold-project" in _command(pid)}
        events, before = scale.events, _memory(nodes)
        used = (time.process_time(), _of_masters(nodes), _of_processes(of_workers))
        producer.submit(_changes(ids, events, seed=3)).raise_if_refused()
        produced = time.process_time() - used[0]
        appended = _of_masters(nodes) - used[1]
        _settle(system)
        projected = _of_processes(of_workers) - used[2]
        total = _of_masters(nodes) - used[1]
        grown = _memory(nodes) - before
    print_lines(f"  of the masters' time, {appended / total:.0%} was used until the last event was appended")
    microseconds = (1e6 * seconds / events for seconds in (produced, total, projected))
    return Cost(*microseconds, (seeded - empty) / len(ids), grown / events)


def _changes(ids: list[str], count: int, seed: int) -> Iterator[PatchTags]:
    """Tag changes of which one in ten changes a tag that conditions name."""
    draw = random.Random(seed)
    for number in range(count):
        tags = {"site": draw.choice(fleets.SITES)} if number % 10 == 0 else {"note": f"note-{draw.randrange(500)}"}
        yield PatchTags(draw.choice(ids), tags)


def _settle(system: System) -> None:
    # Seldom: each look asks every master for the heads and checkpoints of its partitions.
    while not system.is_settled():
        time.sleep(0.5)


def _memory(nodes: Cluster) -> int:
    """The bytes that all masters have in use, without the buffers of their append-only files."""
    usages = [master.client.info("memory") for master in nodes.masters]
    return sum(usage["used_memory"] - usage["mem_not_counted_for_evict"] for usage in usages)


def _of_masters(nodes: Cluster) -> float:
    """The seconds of processor time that all masters have used, by INFO."""
    usages = [master.client.info("cpu") for master in nodes.masters]
    return sum(float(usage["used_cpu_user"]) + float(usage["used_cpu_sys"]) for usage in usages)


def _of_processes(pids: set[int]) -> float:
    """The seconds of processor time that processes have used."""
    fields = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids)
    return sum(int(of_process[11]) + int(of_process[12]) for of_process in fields) / _TICKS


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
