"""Requests that schemathesis makes of the description of the API: each is answered, and as it is described."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.api.serving import served
from tests.workers.system import base, deploy, join

pytestmark = pytest.mark.redis_server

CONFIG = Path(__file__).with_name("schemathesis.toml")
ROOT = CONFIG.parents[2]


@pytest.fixture
def description(shared_redis: EmbeddedRedis) -> Iterator[str]:
    with served(shared_redis) as (system, http):
        system.do(*join("edge-1", site="north"), deploy("north", base("m"), "tags.site = 'north'"))
        system.settle()
        yield f"{http.base_url}/openapi.json"


def run(description: str, directory: Path, *flags: str) -> None:
    """Let schemathesis make requests; what it finds, and how to make it happen again, is in the failure."""
    done = waiting.run(
        [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", description, *flags],
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        cwd=directory,
        seconds_max=600,  # thousands of requests
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.full
def test_every_answer_is_as_described(description: str, tmp_path: Path) -> None:
    phases = "examples,coverage,fuzzing"
    run(description, tmp_path, "--phases", phases, "--max-examples", "10", "--generation-deterministic")


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3))
def test_every_answer_to_many_requests_is_as_described(description: str, tmp_path: Path, seed: int) -> None:
    phases = "examples,coverage,fuzzing,stateful"
    chance = ("--seed", str(seed), "--generation-database", "none")
    run(description, tmp_path, "--phases", phases, "--max-examples", "200", *chance)
