"""The rows of the API: requests over real HTTP, beside plain uvicorn, and devices that wait."""

import asyncio
import contextlib
import itertools
import json
import os
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
from redis.client import PubSub

from events import CreateDeployment, PatchTwin, RegisterDevice
from events.log.keys import key, partition_of
from events.producer.secrecy import LazyVault
from events.projection_store.redis import ASSIGNMENT_CHANGES
from events.secrets.redis import RedisSecretStore
from services.credentials import policy_key
from tests.api.serving import API_VERSION, api, free_port
from tests.api.signing import signed
from tests.benchmarks import fleets
from tests.benchmarks.http_load import load, plain_uvicorn
from tests.benchmarks.measuring import Figure, at_least, at_most, quantile
from tests.benchmarks.scale import Scale, print_lines
from tests.process_tree import children
from tests.servers import eventually, redis_server
from tests.workers.system import System

SECONDS = 3.0
CONNECTIONS = (1, 8, 32)
WAITING = 1000
GUARDED_CONNECTIONS = 8
GUARDED_ROUNDS = 12
GUARDED_SECONDS = 1.0
LATENESS_ROUNDS = 20

VERSION = urlencode(API_VERSION)

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
            location = urlsplit(str(client.base_url)).netloc
            (pid,) = children(os.getpid(), "services.api")
            yield from _requests(location, pid, count)
            yield from _guarded(system, location, count)
            yield _waiting(system, location, count)
            yield _lateness(system, location)
        system.close()


def _requests(location: str, pid: int, count: int) -> Iterator[Figure]:
    """Each beside plain uvicorn in the same round: by rate, and by what a request costs the process."""

    def no_op(_number: int) -> bytes:
        return request(location, "GET", "/healthz")

    def patch(number: int) -> bytes:
        return request(
            location, "PATCH", f"/twins/d{number % count}?{VERSION}", json.dumps({"tags": {"n": number}}).encode()
        )

    def effective(number: int) -> bytes:
        return request(location, "GET", f"/v1/devices/d{number % count}/effective")

    makes = (("no-op", no_op, 0.6), ("GET effective", effective, 0.3), ("PATCH of one tag", patch, 0.25))
    with plain_uvicorn() as (plain, plain_pid):
        for connections in CONNECTIONS:
            print_lines(f"{connections} connections")
            for what, make, aim in makes:
                how: Any = {"connections": connections, "during_seconds": SECONDS}
                base = load(plain, no_op, pid=plain_pid, **how)
                measured = load(location, make, pid=pid, **how)
                beside = (
                    f"{measured.rate:,.0f}/s, {measured.microseconds:,.0f} µs, p99"
                    f" {1000 * quantile(measured.seconds, 0.99):.1f} ms; plain {base.rate:,.0f}/s, {base.microseconds:,.0f} µs"
                )
                yield at_least(
                    f"{what} ÷ plain uvicorn",
                    f"{connections} connections",
                    measured.rate / base.rate,
                    "",
                    aim=aim,
                    beside=beside,
                )


def _guarded(system: System, plain: str, count: int) -> Iterator[Figure]:
    """HTTPS with signatures beside plain HTTP that asks nobody: of each round the ratio, of the rounds the median."""

    def patch(location: str, authorization: Callable[[], str]) -> Make:
        def make(number: int) -> bytes:
            body = json.dumps({"tags": {"n": number}}).encode()
            return request(location, "PATCH", f"/twins/d{number % count}?{VERSION}", body, authorization())

        return make

    print_lines("HTTPS with signatures")
    with _https(system) as (location, trusted, key):
        ends = itertools.count(3600)
        once = signed(key, location, policy="service")
        makes = {
            "the same signature again": patch(location, lambda: once),
            "a signature for each request": patch(
                location, lambda: signed(key, location, policy="service", seconds=next(ends))
            ),
        }
        ratios: dict[str, list[float]] = {what: [] for what in makes}
        rates: dict[str, float] = {}
        for _ in range(GUARDED_ROUNDS):
            base, _ = asyncio.run(_load(plain, patch(plain, str), GUARDED_CONNECTIONS, during_seconds=GUARDED_SECONDS))
            for what, make in makes.items():
                rates[what], _ = asyncio.run(
                    _load(location, make, GUARDED_CONNECTIONS, trusted=trusted, during_seconds=GUARDED_SECONDS)
                )
                ratios[what].append(rates[what] / base)
    for what, some in ratios.items():
        beside = f"{min(some):.2f} to {max(some):.2f} in {len(some)} rounds; last {rates[what]:,.0f}/s of {base:,.0f}/s"
        yield at_least(
            "PATCH over HTTPS with SAS ÷ plain without",
            f"{GUARDED_CONNECTIONS} connections, {what}",
            statistics.median(some),
            "",
            aim=0.7,
            beside=beside,
        )


@contextlib.contextmanager
def _https(system: System) -> Iterator[tuple[str, ssl.SSLContext, str]]:
    """An API process with TLS that asks who calls; its place, what trusts it, and a policy's key."""
    with tempfile.TemporaryDirectory(prefix="twinfold-benchmark-") as directory:
        port = free_port()
        environment = {
            "TWINFOLD_PORT": str(port),
            "TWINFOLD_TLS": "local",
            "TWINFOLD_DATA_DIR": directory,
            "TWINFOLD_LOG_LEVEL": "warning",
        }
        with system.process("-m", "services.api", **environment):
            authority = Path(directory) / "tls" / "ca.pem"

            def answers() -> bool:
                with contextlib.suppress(OSError, httpx.TransportError):
                    return httpx.get(
                        f"https://127.0.0.1:{port}/healthz", verify=ssl.create_default_context(cafile=authority)
                    ).is_success
                return False

            eventually(answers, what="the API answers")
            vault = LazyVault(RedisSecretStore(system.log.client), Path(directory) / "master.key")
            trusted = ssl.create_default_context(cafile=authority)
            yield f"127.0.0.1:{port}", trusted, policy_key(system.log, vault, "service")


def request(location: str, method: str, path: str, body: bytes = b"", authorization: str = "") -> bytes:
    """A request as it goes over the wire."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {location}\r\nContent-Length: {len(body)}\r\n"
    if authorization:
        head += f"Authorization: {authorization}\r\n"
    return f"{head}Content-Type: application/json\r\n\r\n".encode() + body


async def _load(
    location: str,
    make: Make,
    connections: int,
    *,
    trusted: ssl.SSLContext | None = None,
    during_seconds: float = SECONDS,
) -> tuple[float, list[float]]:
    """Requests a second, and how long each took, with so many connections at once; over TLS where there is trust."""
    seconds: list[float] = []
    numbers = itertools.count()
    until = time.perf_counter() + during_seconds

    async def one() -> None:
        reader, writer = await connect(location, trusted)
        while (start := time.perf_counter()) < until:
            status, _ = await exchange(reader, writer, make(next(numbers)))
            assert status == httpx.codes.OK
            seconds.append(time.perf_counter() - start)
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    return len(seconds) / (time.perf_counter() - start), seconds


async def connect(
    location: str, trusted: ssl.SSLContext | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to keep."""
    host, _, port = location.partition(":")
    return await asyncio.open_connection(host, int(port), ssl=trusted)


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bytes) -> tuple[int, bytes]:
    """Send a request, and read the status and the body of its answer."""
    writer.write(sent)
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), 0
    )
    return int(head[9:12]), await reader.readexactly(length)


def _waiting(system: System, location: str, count: int) -> Figure:
    """Devices that wait for a change, from the append of a deployment until the last one is told."""
    waiting = min(WAITING, count)

    async def wait_all() -> float:
        opened = [await connect(location) for _ in range(waiting)]
        now = [
            await exchange(*one, request(location, "GET", f"/v1/devices/d{number}/desired"))
            for number, one in enumerate(opened)
        ]
        versions = [json.loads(body)["version"] for _, body in now]
        asked = [
            asyncio.create_task(
                exchange(
                    *one, request(location, "GET", f"/v1/devices/d{number}/desired?version={versions[number]}&wait=60")
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


def _lateness(system: System, location: str) -> Figure:
    """How much later than the commit a device that waits has its answer: the median of some changes written by hand."""
    number = partition_of("d0", system.log.partitions)

    async def wait_for_each() -> list[float]:
        late: list[float] = []
        wire = await connect(location)
        _, body = await exchange(*wire, request(location, "GET", "/v1/devices/d0/desired"))
        for change in range(LATENESS_ROUNDS):
            version = json.loads(body)["version"]
            path = f"/v1/devices/d0/desired?version={version}&wait=60"
            asked = asyncio.create_task(exchange(*wire, request(location, "GET", path)))
            await asyncio.sleep(0.2)
            with system.log.client.pubsub(ignore_subscribe_messages=True) as commits:
                commits.subscribe(key(number, ASSIGNMENT_CHANGES))
                committed = asyncio.create_task(asyncio.to_thread(_heard_at, commits))
                await asyncio.to_thread(system.do, PatchTwin("d0", desired={"n": change}))
                _, body = await asked
                late.append(time.perf_counter() - await committed)
        return late

    late = sorted(asyncio.run(wait_for_each()))
    beside = f"at most {1000 * late[-1]:.1f} ms in {len(late)} rounds"
    return at_most(
        "a device that waits, later than the commit", "median", 1000 * late[len(late) // 2], "ms", aim=3, beside=beside
    )


def _heard_at(commits: PubSub) -> float:
    while commits.get_message(timeout=60.0) is None:
        pass
    return time.perf_counter()
