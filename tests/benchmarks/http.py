"""The rows of the API: requests over real HTTP, beside a no-op of the same process, and devices that wait."""

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from events import CreateDeployment, RegisterDevice
from tests.api.serving import api
from tests.benchmarks import fleets
from tests.benchmarks.measuring import Figure, at_least, at_most, quantile
from tests.benchmarks.scale import Scale, say
from tests.servers import redis_server
from tests.workers.system import System

SECONDS = 3.0
CONNECTIONS = (1, 8, 32)
WAITING = 1000

Make = Callable[[int], bytes]


def run(scale: Scale) -> Iterator[Figure]:
    """Measure on a small fleet: what is measured is the way in, not the fleet."""
    with redis_server(appendfsync="everysec") as server:
        system = System(server.url)
        count = min(scale.devices, 2000)
        with system.process("-m", "workers.pool", TWINFOLD_LOG_LEVEL="error"), api(system) as client:
            system.do(*(RegisterDevice(f"d{number}") for number in range(count)))
            system.do(CreateDeployment("a", fleets.content("a", layered=False), "*"))
            system.settle()
            place = urlsplit(str(client.base_url)).netloc
            yield from _requests(place, count)
            yield _waiting(system, place, count)
        system.close()


def _requests(place: str, count: int) -> Iterator[Figure]:
    def no_op(_number: int) -> bytes:
        return request(place, "GET", "/healthz")

    def patch(number: int) -> bytes:
        return request(place, "PATCH", f"/twins/d{number % count}", json.dumps({"tags": {"n": number}}).encode())

    def effective(number: int) -> bytes:
        return request(place, "GET", f"/v1/devices/d{number % count}/effective")

    for connections in CONNECTIONS:
        say(f"{connections} connections")
        base, _ = asyncio.run(_load(place, no_op, connections))
        for what, make, aim in (("PATCH of one tag", patch, 0.35), ("GET effective", effective, 0.6)):
            rate, seconds = asyncio.run(_load(place, make, connections))
            beside = f"{rate:,.0f}/s, p99 {1000 * quantile(seconds, 0.99):.1f} ms; no-op {base:,.0f}/s"
            yield at_least(f"{what} ÷ no-op", f"{connections} connections", rate / base, "", aim=aim, beside=beside)


def request(place: str, method: str, path: str, body: bytes = b"") -> bytes:
    """A request as it goes over the wire."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {place}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Content-Type: application/json\r\n\r\n".encode() + body


async def _load(place: str, make: Make, connections: int) -> tuple[float, list[float]]:
    """Requests a second, and how long each took, with so many connections at once."""
    seconds: list[float] = []
    numbers = itertools.count()
    until = time.perf_counter() + SECONDS

    async def one() -> None:
        reader, writer = await connect(place)
        while (start := time.perf_counter()) < until:
            await exchange(reader, writer, make(next(numbers)))
            seconds.append(time.perf_counter() - start)
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    return len(seconds) / (time.perf_counter() - start), seconds


async def connect(place: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to keep."""
    host, _, port = place.partition(":")
    return await asyncio.open_connection(host, int(port))


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bytes) -> tuple[int, bytes]:
    """Send a request, and read the status and the body of its answer."""
    writer.write(sent)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), 0
    )
    return int(head[9:12]), await reader.readexactly(length)


def _waiting(system: System, place: str, count: int) -> Figure:
    """Devices that wait for a change, from the append of a deployment until the last one is told."""
    waiting = min(WAITING, count)

    async def wait_all() -> float:
        opened = [await connect(place) for _ in range(waiting)]
        now = [
            await exchange(*one, request(place, "GET", f"/v1/devices/d{number}/desired"))
            for number, one in enumerate(opened)
        ]
        versions = [json.loads(body)["version"] for _, body in now]
        asked = [
            asyncio.create_task(
                exchange(
                    *one, request(place, "GET", f"/v1/devices/d{number}/desired?version={versions[number]}&wait=60")
                )
            )
            for number, one in enumerate(opened)
        ]
        await asyncio.sleep(2.0)
        start = time.perf_counter()
        content = fleets.content("b", layered=False)
        await asyncio.to_thread(system.do, CreateDeployment("b", content, "*", priority=9))
        answers = await asyncio.gather(*asked)
        assert {status for status, _ in answers} == {200}
        return time.perf_counter() - start

    return at_most(f"{waiting:,} devices that wait, all told", "one deployment", asyncio.run(wait_all()), "s", aim=1)
