"""`twinfold device keys`, for devices that a program registered."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from events import KEYS_DECLINED, RegisterDevice
from services.cli.app import app
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import api
from tests.workers.system import System, fresh_system

pytestmark = pytest.mark.redis_server

NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def served(shared_redis: EmbeddedRedis) -> Iterator[tuple[System, httpx.Client]]:
    with fresh_system(shared_redis) as system, system.process("-m", "workers.pool"), api(system) as http:
        lines = [{"command": "RegisterDevice", "device_id": f"d-{number}"} for number in range(3)]
        lines.append({"command": "RegisterDevice", "device_id": "none", "authentication": KEYS_DECLINED})
        result = http.post("/v1/events", content="\n".join(map(json.dumps, lines)), headers=NDJSON).json()
        assert (result["written"], result["refused"]) == (4, [])
        system.do(RegisterDevice("x509", authentication={"type": "certificateAuthority"}))
        system.settle()
        yield system, http


def keys(served: tuple[System, httpx.Client], *words: str, code: int = 0) -> tuple[str, str]:
    system, http = served
    environment = system.environment(TWINFOLD_API_URL=str(http.base_url).rstrip("/"))
    done = CliRunner().invoke(app, ["device", "keys", *words], env=environment)
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout, done.stderr


def test_devices_that_came_over_v1_have_keys_and_they_are_shown_one_device_a_line(
    served: tuple[System, httpx.Client],
) -> None:
    shown, complaints = keys(served, "d-0", "d-2")
    lines = [line.split(" ") for line in shown.splitlines()]
    assert [line[0] for line in lines] == ["d-0", "d-2"]
    assert len({key for line in lines for key in line[1:]}) == 4
    assert complaints == ""
    held = served[1].get("/devices/d-0").json()["authentication"]["symmetricKey"]
    assert lines[0][1:] == [held["primaryKey"], held["secondaryKey"]]


def test_keys_of_many_are_asked_for_by_a_file_or_of_all(served: tuple[System, httpx.Client], tmp_path: Path) -> None:
    file = tmp_path / "ids"
    file.write_text("d-1\n\nx509\n")
    shown, complaints = keys(served, "--file", str(file))
    assert [line.split(" ")[0] for line in shown.splitlines()] == ["d-1"]
    assert complaints.startswith("x509 has no symmetric keys")
    found = json.loads(keys(served, "--all", "--json")[0])
    assert {name for name, one in found.items() if one} >= {"d-0", "d-1", "d-2"}
    assert found["x509"] is None


def test_a_device_without_keys_is_given_some_and_those_that_have_some_keep_them(
    served: tuple[System, httpx.Client],
) -> None:
    before = keys(served, "d-0")[0]
    assert keys(served, "none")[1].startswith("none has no symmetric keys; --give")
    shown, _ = keys(served, "none", "d-0", "--give")
    assert shown.splitlines()[0].startswith("none ")
    assert shown.splitlines()[1] == before.strip()
    assert keys(served, "none")[0] == shown.splitlines()[0] + "\n"


@pytest.mark.parametrize("words", [(), ("d-0", "--all"), ("--file", "x", "--all")])
def test_one_way_to_name_devices_is_given(served: tuple[System, httpx.Client], words: tuple[str, ...]) -> None:
    keys(served, *words, code=2)
