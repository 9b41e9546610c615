"""The rows of explanations: one device against many deployments, over real HTTP, beside a no-op of the same process."""

import contextlib
import os
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from events import CreateDeployment, PatchTags, RegisterDevice
from tests.api.serving import api
from tests.benchmarks import fleets
from tests.benchmarks.measuring import Figure, at_most, quantile
from tests.benchmarks.scale import Scale, print_lines
from tests.servers import redis_server
from tests.workers.system import System

DEVICES = 2000
ASKED = 30
ASKS: tuple[tuple[str, dict[str, str]], ...] = (
    ("/healthz", {}),
    ("/v1/devices/{}/explain", {}),
    ("/v1/devices/{}/explain", {"deployment": "base-00007"}),
)


def run(scale: Scale) -> Iterator[Figure]:
    """Measure on a small fleet with all deployments: what an explanation looks at are these, and the device."""
    draw = random.Random(11)
    with redis_server(appendfsync="everysec") as server:
        system = System(server.url)
        with system.process("-m", "workers.pool", TWINFOLD_LOG_LEVEL="error"), api(system) as client:
            names = list(fleets.device_ids(min(scale.devices, DEVICES)))
            system.do(*map(RegisterDevice, names))
            system.do(*(PatchTags(name, fleets.tags_of(draw)) for name in names))
            system.do(*(CreateDeployment(*one) for one in fleets.deployments(scale.deployments)))
            system.settle(120)
            print_lines("explanations")
            first = _seconds(client, *ASKS[1], names[0])
            asked = draw.sample(names, min(ASKED, len(names)))
            # In turns, so that whatever else the machine does falls on all alike.
            turns = [[_seconds(client, *ask, name) for ask in ASKS] for name in asked]
            busy = [_busy_of(client, *ask, asked) for ask in ASKS]
        system.close()
    setting = f"{scale.deployments:,} deployments"
    none, whole, single = (list(some) for some in zip(*turns, strict=True))
    base = statistics.median(none)
    for what, some, processor in (("all deployments", whole, busy[1]), ("one deployment", single, busy[2])):
        told = statistics.median(some)
        ratio = statistics.median(mine / no_op for mine, no_op in zip(some, none, strict=True))
        beside = f"{ratio:.0f} times the no-op of {1000 * base:.1f} ms; p95 {1000 * quantile(some, 0.95):.0f} ms"
        beside += f"; processor time of the API {1000 * processor:.0f} ms, the no-op {1000 * busy[0]:.1f} ms"
        if some is whole:
            beside += f"; the first of a process {1000 * first:.0f} ms"
        yield at_most(f"explain, {what}", setting, told, "s", aim=0.5, beside=beside)


def _seconds(client: httpx.Client, path: str, params: dict[str, str], name: str) -> float:
    start = time.perf_counter()
    client.get(path.format(name), params=params).raise_for_status()
    return time.perf_counter() - start


def _busy_of(client: httpx.Client, path: str, params: dict[str, str], names: list[str]) -> float:
    """The processor time of the API for one request, in seconds: whatever else the machine does changes that less."""
    before = _processor_seconds()
    for name in names:
        client.get(path.format(name), params=params).raise_for_status()
    return (_processor_seconds() - before) / len(names)


def _processor_seconds() -> float:
    """Of the API process that this one started."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            is_ours = int(fields[1]) == os.getpid() and b"services.api" in (stat.parent / "cmdline").read_bytes()
            if is_ours:
                return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    raise AssertionError
