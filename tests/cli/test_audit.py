"""`twinfold audit` against a real API: search, causes, and an export that goes on where it broke off."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from services.cli import exits
from services.cli.app import app
from services.cli.exits import code_of
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import api
from tests.shortening import shortened
from tests.workers.system import System, base, deploy, fresh_system, join

pytestmark = pytest.mark.redis_server


@pytest.fixture(scope="module")
def served(shared_redis: EmbeddedRedis) -> Iterator[tuple[System, httpx.Client]]:
    with fresh_system(shared_redis) as system, system.process("-m", "workers.pool"), api(system) as http:
        # Workers are faster than a batch: with all in one, the deployment could come to the devices before their tags.
        system.do(*join("edge-1", site="north"), *join("edge-2", site="south"))
        system.do(deploy("prod", base("m")))
        system.settle()
        yield system, http


def audit(served: tuple[System, httpx.Client], *words: str, code: int = 0) -> str:
    system, http = served
    environment = {"TWINFOLD_API_URL": str(http.base_url).rstrip("/"), "TWINFOLD_DATA_DIR": str(system.data_dir)}
    done = CliRunner().invoke(app, ["audit", *words], env=environment)
    error = done.exception
    found = code_of(error) if error and exits.is_any(error, *exits.EXPECTED) else done.exit_code
    assert found == code, (done.output, error)
    return done.stdout


def test_a_search_says_who_did_what_to_whom(served: tuple[System, httpx.Client]) -> None:
    lines = audit(served, "search", "--device", "edge-1", "--oldest").splitlines()
    assert lines[0].endswith("user:ada registered edge device edge-1")
    assert lines[1].endswith("user:ada changed tags of edge-1: site")
    assert "to prod because of" in lines[2]
    (one,) = map(json.loads, audit(served, "search", "--kind", "DeploymentCreated", "--json").splitlines())
    assert one["subject"] == "prod"
    audit(served, "search", "--kind", "Nothing", code=1)


def test_causes_are_shown_as_trees_both_ways(served: tuple[System, httpx.Client]) -> None:
    created = json.loads(audit(served, "search", "--kind", "DeploymentCreated", "--json"))
    location = f"{created['stream']}:{created['position']}"
    assert json.loads(audit(served, "show", location)) == created
    text = audit(served, "causes", location)
    assert "led to" in text
    assert "from unmanaged to prod" in text
    assignment_change = json.loads(
        audit(served, "search", "--device", "edge-1", "--kind", "AssignmentChange", "--json")
    )
    text = audit(served, "causes", f"{assignment_change['stream']}:{assignment_change['position']}")
    assert "user:ada created deployment prod" in text
    audit(served, "causes", "nowhere", code=2)


@pytest.mark.parametrize("how", shortened(["ndjson", "csv", "cloudevents"]))
def test_an_export_that_broke_off_goes_on_and_comes_out_the_same(
    served: tuple[System, httpx.Client], tmp_path: Path, how: str
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    audit(served, "export", "--format", how, "--out", str(whole))
    assert whole.stat().st_mode & 0o077 == 0
    data = whole.read_bytes()
    for length in (len(data) // 2, len(data)):
        cut.write_bytes(data[:length])
        audit(served, "export", "--format", how, "--out", str(cut), "--resume")
        assert cut.read_bytes() == data
    if how == "csv":
        with whole.open(newline="") as file:
            assert len(list(csv.DictReader(file))) == len(data.splitlines()) - 1
