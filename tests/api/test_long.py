"""What takes minutes: `pytest -m long tests/api`."""

import asyncio
import contextlib
import json
import os
import random
import signal
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from events import RegisterDevice
from events.log.keys import key
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.api.serving import API_VERSION, free_port, served
from tests.benchmarks.http import VERSION, connect, exchange, request
from tests.servers import eventually, redis_server
from tests.workers.system import PARTITIONS, System, assert_rebuilt, base, deploy

pytestmark = [pytest.mark.long, pytest.mark.redis_server]

WAITING = 2000
DEPLOYMENTS = 100
SECONDS = 120
RATE = 200
ACKNOWLEDGED = SECONDS * RATE // 4


def test_two_thousand_devices_that_wait_each_see_each_change_once(shared_redis: EmbeddedRedis) -> None:
    with served(shared_redis) as (system, http):
        system.do(*(RegisterDevice(f"d{number}") for number in range(WAITING)))
        system.settle()
        seen = asyncio.run(_watch_all(system, urlsplit(str(http.base_url)).netloc))
    expected = [f"n{number:03}" for number in range(DEPLOYMENTS)]
    for layers in seen:
        assert layers == expected


async def _watch_all(system: System, address: str) -> list[list[str]]:
    async def watch(number: int) -> list[str]:
        layers: list[str] = []
        version = 0
        reader, writer = await connect(address)
        while len(layers) < DEPLOYMENTS:
            path = f"/v1/devices/d{number}/desired?version={version}&wait=60"
            status, body = await exchange(reader, writer, request(address, "GET", path))
            if status == httpx.codes.OK:
                answer = json.loads(body)
                version = answer["version"]
                layers += [change["layers"][0] for change in answer["changes"]]
        writer.close()
        return layers

    watching = [asyncio.create_task(watch(number)) for number in range(WAITING)]
    for number in range(DEPLOYMENTS):
        await asyncio.to_thread(system.do, deploy(f"n{number:03}", base("m", f"m{number}"), "*", number))
        await asyncio.to_thread(system.settle)
    return await asyncio.gather(*watching)


@contextlib.contextmanager
def restarting(system: System, port: int) -> Iterator[dict[str, Any]]:
    """Roles by name, each to be killed and started again."""
    with contextlib.ExitStack() as stack:
        roles: dict[str, Any] = {}

        def start(name: str) -> None:
            module = {"api": "services.api", "workers": "workers.pool"}[name]
            environment = {"TWINFOLD_PORT": str(port), "TWINFOLD_LOG_LEVEL": "error", "TWINFOLD_OPEN_ACCESS": "true"}
            roles[name] = stack.enter_context(system.process("-m", module, **environment))

        roles["start"] = start
        start("api")
        start("workers")
        yield roles


def test_api_and_workers_killed_in_turn_under_load_lose_no_acknowledged_write() -> None:
    draw = random.Random(22)  # noqa: S311 - chance with a seed
    with redis_server(appendfsync="everysec") as server:
        system, port = System(server.url), free_port()
        names = [f"d{number}" for number in range(200)]
        system.do(*map(RegisterDevice, names))
        system.do(*(deploy(f"odd{number}", base(f"m{number}"), f"tags.n = {number}", number) for number in range(10)))
        with restarting(system, port) as roles:
            acknowledged = asyncio.run(_load(names, f"127.0.0.1:{port}", roles, draw))
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}", timeout=waiting.seconds(), params=API_VERSION
            ) as http:
                eventually(lambda: _reaches(http), what="the API is back")
                system.settle()
                for name, versions in acknowledged.items():
                    twin = http.get(f"/twins/{name}").json()
                    # The last acknowledged write stands, unless a later one that was not acknowledged does.
                    assert twin["tags"]["seq"] >= max(versions), name
                    layers = http.get(f"/v1/devices/{name}/effective").json()["layers"]
                    assert layers == [f"odd{twin['tags']['n']}"]
        assert_rebuilt(system)
        client: Any = system.log.client
        assert all(client.exists(key(number, "log")) for number in range(PARTITIONS))
        system.close()


def _reaches(http: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return http.get("/healthz").is_success
    return False


async def _load(names: list[str], address: str, roles: dict[str, Any], draw: random.Random) -> dict[str, list[int]]:
    acknowledged: dict[str, list[int]] = {name: [] for name in names}
    loop = asyncio.get_running_loop()
    until = loop.time() + SECONDS

    def goes_on() -> bool:
        # On a busy machine, longer: fewer writes are answered in the time.
        return loop.time() < until or sum(map(len, acknowledged.values())) < ACKNOWLEDGED

    async def write(own: list[str]) -> None:
        number = 0
        while goes_on():
            name = own[number % len(own)]
            number += 1
            body = json.dumps({"tags": {"n": draw.randrange(10), "seq": number}}).encode()
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await connect(address)
                with contextlib.closing(writer):
                    status, _ = await exchange(
                        reader, writer, request(address, "PATCH", f"/twins/{name}?{VERSION}", body)
                    )
                if status == httpx.codes.OK:
                    acknowledged[name].append(number)
            await asyncio.sleep(8 / RATE)

    async def kill() -> None:
        while loop.time() < until - 5:
            await asyncio.sleep(5)
            name = draw.choice(["api", "workers"])
            os.kill(roles[name].pid, signal.SIGKILL)
            roles[name].wait()
            roles["start"](name)

    await asyncio.gather(kill(), *(write(names[first::8]) for first in range(8)))
    return acknowledged
