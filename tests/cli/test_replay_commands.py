"""`twinfold replay`, `rebuild` and `backtest`, as an operator runs them."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.replay.test_replay import live
from tests.workers.system import PARTITIONS, System, fresh_system

pytestmark = pytest.mark.redis_server


@pytest.fixture
def system(shared_redis: EmbeddedRedis) -> Iterator[System]:
    with fresh_system(shared_redis, waking=False, at=1_700_000_000_000) as system:
        live(system)
        yield system


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.cli", *words]
    return waiting.run(command, seconds_max=100)


def test_rebuild_puts_every_partition_in_place_and_says_so(system: System) -> None:
    ran = run("rebuild", "--redis-url", system.url, "--workers", "1")
    lines = ran.stdout.splitlines()
    assert (ran.returncode, len(lines)) == (0, PARTITIONS + 1)
    vector = system.projections.checkpoint(0).vector
    assert lines[0].startswith(f"p00 is rebuilt to p00:{vector.partition}, fleet:{vector.fleet}:")
    assert lines[-1].startswith(f"{PARTITIONS} partitions rebuilt")
    assert {system.projections.checkpoint(number).rebuilt for number in range(PARTITIONS)} == {1}


@pytest.mark.full
def test_a_backtest_without_a_deployment_is_told_as_text_and_as_json(system: System) -> None:
    ran = run("backtest", "--redis-url", system.url, "--without", "b", "--json")
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    (b,) = [one for one in found["deployments"] if one["name"] == "b"]
    assert (b["hadReally"], b["hadInstead"], len(b["spared"])) == (24, 0, 24)
    assert len(found["assignedOtherwise"]) == 24


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["replay", "--partition", "p3x"], "a stream is called"),
        (["replay", "--upto", "yesterday"], "neither a time"),
        (["rebuild", "--partition", "fleet"], "has no projections"),
        (["backtest", "--deployment", "/nowhere.json"], "nowhere.json"),
        (["replay", "--archive", "/nowhere/at/all"], "has no log"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_2(words: list[str], says: str) -> None:
    ran = run(*words)
    assert (ran.returncode, "Traceback" in ran.stderr) == (2, False)
    assert says in " ".join(ran.stderr.replace("│", " ").split())
