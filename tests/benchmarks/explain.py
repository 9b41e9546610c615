"""The rows of explanations: one device against many deployments, over real HTTP, beside a no-op of the same process."""

import random
import statistics
import time
from collections.abc import Iterator

import httpx

from events import CreateDeployment, PatchTags, RegisterDevice
from tests.api.serving import api
from tests.benchmarks import fleets
from tests.benchmarks.measuring import Figure, at_most, quantile
from tests.benchmarks.scale import Scale, say
from tests.servers import redis_server
from tests.workers.system import System

DEVICES = 2000
ASKED = 60
PATHS = ("/healthz", "/v1/devices/{}/explain", "/v1/devices/{}/explain?deployment=base-00007")


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
            say("explanations")
            first = _seconds(client, "/v1/devices/{}/explain", names[0])
            asked = draw.sample(names, min(ASKED, len(names)))
            # In turns, so that whatever else the machine does falls on all alike.
            turns = [[_seconds(client, path, name) for path in PATHS] for name in asked]
        system.close()
    setting = f"{scale.deployments:,} deployments"
    none, whole, single = (list(some) for some in zip(*turns, strict=True))
    base = statistics.median(none)
    for what, some in (("all deployments", whole), ("one deployment", single)):
        told = statistics.median(some)
        ratio = statistics.median(mine / no_op for mine, no_op in zip(some, none, strict=True))
        beside = f"{ratio:.0f} times the no-op of {1000 * base:.1f} ms; p95 {1000 * quantile(some, 0.95):.0f} ms"
        if some is whole:
            beside += f"; the first of a process {1000 * first:.0f} ms"
        yield at_most(f"explain, {what}", setting, told, "s", aim=0.5, beside=beside)


def _seconds(client: httpx.Client, path: str, name: str) -> float:
    start = time.perf_counter()
    client.get(path.format(name)).raise_for_status()
    return time.perf_counter() - start
