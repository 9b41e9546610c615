"""Devices that are read for several requests at once: what it costs, and that no request has the error of another."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import pytest

from events.log.errors import LogUnavailable
from events.log.keys import partition_of
from events.projection_store.fleet_projection import Effective
from events.projection_store.redis import projection_key
from events.settings import read_settings
from services.api.context.api_context import ApiContext, open_context
from services.api.context.device_reader import BATCH_MAX, DeviceReader
from services.embedded_redis import EmbeddedRedis
from tests.servers import redis_server
from tests.workers.system import System, base, deploy, join

pytestmark = pytest.mark.redis_server

DEVICES = [f"d{number}" for number in range(BATCH_MAX + 1)]
LARGE, ENVIRONMENT = "large", {"TEXT": {"value": "a" * 400}}
FEW = DEVICES[:6]
"""So few that redis-py sends their reads in one packet."""


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    with redis_server() as running:
        yield running


@pytest.fixture(scope="module")
def system(server: EmbeddedRedis) -> Iterator[System]:
    system = System(server.url)
    with system.process("-m", "workers.pool", TWINFOLD_LOG_LEVEL="error"):
        system.do(*(join(device_id) for device_id in DEVICES), deploy("a", base("camera")))
        modules = base(*map("m{}".format, range(40)), image=f"example.com/{'a' * 200}:1.0.0", env=ENVIRONMENT)
        system.do(join(LARGE, has="modules"), deploy("b", modules, "tags.has = 'modules'", priority=2))
        system.settle()
    yield system
    system.close()


def run(system: System, read: Callable[[ApiContext, Callable[[str], Awaitable[Any]]], Awaitable[Any]]) -> Any:
    """What a function makes of an API's context and its reads of devices."""
    context = open_context(read_settings(redis_url=system.url))

    async def body() -> Any:
        reader = DeviceReader(context)
        return await read(context, lambda device_id: reader.answer(context, device_id, lambda effective: effective))

    return asyncio.run(body())


def reads_of(system: System) -> int:
    return int(system.log.client.info("stats")["total_reads_processed"])


def test_devices_of_several_requests_are_read_in_one_round_trip(system: System) -> None:
    async def read(_: ApiContext, effective: Callable[[str], Awaitable[Effective]]) -> tuple[int, list[Effective]]:
        await effective("d0")  # Connects, and sends the script.
        before = reads_of(system)
        answers = await asyncio.gather(*map(effective, FEW))
        return reads_of(system) - before, answers

    count, answers = run(system, read)
    assert answers == [system.fleet_projection.effective(device_id) for device_id in FEW]
    # The batch, and INFO.
    assert count == 2


def test_a_damaged_device_is_an_error_of_its_own_request(system: System) -> None:
    number = partition_of("d1", system.log.partitions)
    key = projection_key(number, "ordinals")
    ordinal = system.log.client.hget(key, "d1")
    system.log.client.hset(key, "d1", "not a number")

    async def read(_: ApiContext, effective: Callable[[str], Awaitable[Effective]]) -> list[Any]:
        return await asyncio.gather(*map(effective, DEVICES), return_exceptions=True)

    try:
        answers = run(system, read)
    finally:
        system.log.client.hset(key, "d1", ordinal)
    assert [device_id for device_id, answer in zip(DEVICES, answers, strict=True) if isinstance(answer, Exception)] == [
        "d1"
    ]
    assert not isinstance(answers[1], LogUnavailable)


def test_a_server_that_lost_its_scripts_answers(system: System) -> None:
    async def read(context: ApiContext, effective: Callable[[str], Awaitable[Effective]]) -> list[Effective | None]:
        await effective("d0")
        context.client.script_flush()
        return await asyncio.gather(*map(effective, [*DEVICES, "unknown"]))

    *answers, unknown = run(system, read)
    assert unknown is None
    assert [answer.device_id for answer in answers] == DEVICES


def test_a_large_configuration_is_read_once(system: System) -> None:
    async def read(_: ApiContext, effective: Callable[[str], Awaitable[Effective]]) -> tuple[int, Effective]:
        await effective("d0")
        before = reads_of(system)
        answer = await effective(LARGE)
        return reads_of(system) - before, answer

    count, answer = run(system, read)
    assert answer == system.fleet_projection.effective(LARGE)
    assert len(msgspec.json.encode(answer.sections)) > 16 * 1024
    # The batch, and INFO.
    assert count == 2


def test_a_device_without_its_cause_requires_another_read(system: System) -> None:
    number = partition_of("d2", system.log.partitions)
    (device,) = system.projections.devices([(number, "d2")])
    assert device is not None
    # As in rebuilt projections, whose last assignment change only the archive has.
    assert msgspec.structs.replace(device, cause="").lacks_its_cause
    assert system.fleet_projection.effective_from(msgspec.structs.replace(device, cause="")) is None
    assert system.fleet_projection.effective_from(device) == system.fleet_projection.effective("d2")


def test_all_reads_fail_if_the_server_does_not_answer() -> None:
    with redis_server() as server:
        system = System(server.url)

        async def read(_: ApiContext, effective: Callable[[str], Awaitable[Effective]]) -> list[Any]:
            await effective("d0")
            server.stop()
            return await asyncio.gather(*map(effective, DEVICES), return_exceptions=True)

        assert {type(answer) for answer in run(system, read)} == {LogUnavailable}
        system.close()
