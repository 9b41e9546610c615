"""`twinfold audit` against a real API: search, causes, and an export that goes on where it broke off."""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.embedded_redis import EmbeddedRedis
from tests.api.serving import api
from tests.workers.system import System, base, deploy, fresh_system, join

pytestmark = pytest.mark.redis_server


@pytest.fixture(scope="module")
def served(shared_redis: EmbeddedRedis) -> Iterator[tuple[System, httpx.Client]]:
    with fresh_system(shared_redis) as system, system.process("-m", "workers.pool"), api(system) as http:
        system.do(*join("edge-1", site="north"), *join("edge-2", site="south"), deploy("prod", base("m")))
        system.settle()
        yield system, http


def audit(served: tuple[System, httpx.Client], *words: str, code: int = 0) -> str:
    system, http = served
    environment = system.environment(TWINFOLD_API_URL=str(http.base_url).rstrip("/"))
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", "audit", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
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
    place = f"{created['stream']}:{created['position']}"
    assert json.loads(audit(served, "show", place)) == created
    text = audit(served, "causes", place)
    assert "led to" in text
    assert "from unmanaged to prod" in text
    outcome = json.loads(audit(served, "search", "--device", "edge-1", "--kind", "Outcome", "--json"))
    text = audit(served, "causes", f"{outcome['stream']}:{outcome['position']}")
    assert "user:ada created deployment prod" in text
    audit(served, "causes", "nowhere", code=2)


@pytest.mark.parametrize("how", ["ndjson", "csv", "cloudevents"])
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
