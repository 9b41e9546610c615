"""The rows of explanations: one device against many deployments, over real HTTP, beside a no-op of the same process."""

import itertools
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


def run(scale: Scale) -> Iterator[Figure]:
    """Measure on a small fleet with all deployments: what an explanation looks at are these, and the device."""
    draw = random.Random(11)
    with redis_server(appendfsync="everysec") as server:
        system = System(server.url)
        with system.process("-m", "workers.pool", TWINFOLD_LOG_LEVEL="error"), api(system) as client:
            names = list(fleets.device_ids(min(scale.devices, DEVICES)))
            system.do(*map(RegisterDevice, names))
            system.do(*(PatchTags(name, fleets.tags_of(draw)) for name in names))
            made = (CreateDeployment(*one) for one in fleets.deployments(scale.deployments))
            for some in itertools.batched(made, 100) if hasattr(itertools, "batched") else ([*made],):
                system.do(*some)
            system.settle(120)
            say("explanations")
            (first,) = _seconds(client, "/v1/devices/{}/explain", names[:1])
            asked = draw.sample(names, min(ASKED, len(names)))
            none, all_ = _seconds(client, "/healthz", asked), _seconds(client, "/v1/devices/{}/explain", asked)
            one = _seconds(client, "/v1/devices/{}/explain?deployment=base-00007", asked)
        system.close()
    setting = f"{scale.deployments:,} deployments"
    base = statistics.median(none)
    for what, some in (("all deployments", all_), ("one deployment", one)):
        told = statistics.median(some)
        beside = f"{told / base:.0f} times the no-op of {1000 * base:.1f} ms; p95 {1000 * quantile(some, 0.95):.0f} ms"
        if some is all_:
            beside += f"; the first of a process {1000 * first:.0f} ms"
        yield at_most(f"explain, {what}", setting, told, "s", aim=0.5, beside=beside)


def _seconds(client: httpx.Client, path: str, names: list[str]) -> list[float]:
    found = []
    for name in names:
        start = time.perf_counter()
        answer = client.get(path.format(name))
        found.append(time.perf_counter() - start)
        assert answer.status_code in {200, 404}, answer.text
    return found
