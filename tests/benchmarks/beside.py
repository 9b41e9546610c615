"""The rows of one deployment beside many others: its status, its lists, and the creation of one more over HTTP."""

import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterator

import httpx
from msgspec import Struct

from events import CreateDeployment, PatchTags, RegisterDevice
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import api
from tests.benchmarks import fleets
from tests.benchmarks.measuring import Figure, at_most
from tests.benchmarks.scale import Scale, print_lines
from tests.servers import redis_server
from tests.workers.system import System

PARTITIONS = 16
DEVICES_MAX = 10_000
FEW, ROUNDS = 10, 15


class Reading(Struct, frozen=True):
    """A request about one thing, and how long it may take beside many deployments (milliseconds)."""

    what: str
    send: Callable[[httpx.Client, int], httpx.Response]
    milliseconds_max: float


READINGS = (
    Reading("status of one deployment", lambda http, _: http.get("/v1/deployments/one/status"), 5),
    Reading("a list of one deployment", lambda http, _: http.get("/v1/deployments/one/status/actual?limit=100"), 10),
    Reading("one deployment in the hub's shape", lambda http, _: http.get("/configurations/one"), 10),
    Reading(
        "creation of one more", lambda http, number: http.post(f"/v1/deployments/more-{number}", json=_body(number)), 40
    ),
)


def run(scale: Scale) -> Iterator[Figure]:
    """Measure beside a few other deployments and beside ten for each of the scale's."""
    many = 10 * scale.deployments
    milliseconds: dict[int, dict[str, float]] = {}
    for others in (FEW, many):
        with redis_server(appendfsync="everysec") as server:
            milliseconds[others] = _measured(server, min(scale.devices, DEVICES_MAX), others)
    for reading in READINGS:
        few_milliseconds, many_milliseconds = (milliseconds[others][reading.what] for others in (FEW, many))
        beside = f"{few_milliseconds:.1f} ms beside {FEW}"
        setting = f"beside {many:,} others"
        yield at_most(reading.what, setting, many_milliseconds, "ms", aim=reading.milliseconds_max, beside=beside)


def _measured(server: EmbeddedRedis, devices: int, others: int) -> dict[str, float]:
    """The median of each request, in milliseconds."""
    system, draw = System(server.url, partitions=PARTITIONS), random.Random(1)
    print_lines(f"{devices:,} devices and {others:,} deployments")
    ids = list(itertools.islice(fleets.device_ids(devices), devices))
    system.do(*(RegisterDevice(name) for name in ids))
    system.do(*(PatchTags(name, fleets.tags_of(draw)) for name in ids))
    system.do(CreateDeployment("one", fleets.content("one", layered=False), "tags.site = 'site-001'", 5000))
    system.do(
        *(
            CreateDeployment(name, content, target_condition=condition, priority=priority)
            for name, content, condition, priority in fleets.deployments(others)
        )
    )
    with system.process("-m", "workers.pool", TWINFOLD_LOG_LEVEL="error"), api(system) as client:
        system.settle(seconds_max=600)
        result = {}
        for reading in READINGS:
            reading.send(client, 0).raise_for_status()
            seconds = []
            for number in range(1, 1 + ROUNDS):
                began = time.perf_counter()
                reading.send(client, number).raise_for_status()
                seconds.append(time.perf_counter() - began)
            result[reading.what] = 1000 * statistics.median(seconds)
            print_lines(f"  {reading.what}: {result[reading.what]:.1f} ms")
    system.close()
    return result


def _body(number: int) -> dict[str, object]:
    content = fleets.content(f"more-{number}", layered=True)
    return {"content": content, "targetCondition": f"tags.site = 'site-{number:03d}'", "priority": 3000}
