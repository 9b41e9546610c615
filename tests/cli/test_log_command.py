"""`twinfold log`, against a real server."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from events import PatchTags
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.workers.system import System, base, deploy, fresh_system, join

pytestmark = pytest.mark.redis_server


@pytest.fixture
def system(shared_redis: EmbeddedRedis) -> Iterator[System]:
    with fresh_system(shared_redis, at=1_767_225_600_123) as system:
        system.do(*join("edge-1", site="nördlich"), *join("edge-2", site="south"), deploy("a", base("m"), "*"))
        yield system


def command(system: System, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "services.cli", "log", "--redis-url", system.url, *arguments]


def shown(system: System, *arguments: str) -> list[str]:
    ran = waiting.run(command(system, *arguments), check=True)
    return ran.stdout.splitlines()


def test_every_event_is_a_line_with_time_place_subject_type_data_and_author(system: System) -> None:
    lines = shown(system)
    assert len(lines) == 6
    tagged = next(line for line in lines if "nördlich" in line)
    assert tagged.startswith("2026-01-01T00:00:00.123Z p")
    assert tagged.endswith("by user:ada")
    assert "edge-1 TwinPatched" in tagged
    created = next(line for line in lines if "DeploymentCreated" in line)
    assert " fleet:2 a DeploymentCreated " in created
    assert len(created) < 250


def test_lines_can_be_chosen_and_are_json_for_programs(system: System) -> None:
    (only,) = (json.loads(line) for line in shown(system, "--stream", "fleet", "--since", "2", "--json"))
    assert (only["stream"], only["position"], only["type"], only["subject"]) == ("fleet", 2, "DeploymentCreated", "a")
    assert only["data"]["target_condition"] == "*"
    assert len(shown(system, "--limit", "3")) == 3
    ran = waiting.run(command(system, "--stream", "p99"))
    assert (ran.returncode, "p99" in ran.stderr) == (2, True)


def test_following_shows_what_comes_and_ends_with_ctrl_c(system: System) -> None:
    with waiting.started(
        command(system, "--follow"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert len([process.stdout.readline() for _ in range(6)]) == 6
        system.do(PatchTags("edge-2", {"late": True}))
        assert "late" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, words = waiting.last_output(process)
    assert (process.returncode, "Traceback" in words) == (130, False)


@pytest.mark.full
def test_a_reader_that_leaves_early_is_no_error(system: System) -> None:
    piped = " ".join(command(system)) + " | head -1"
    ran = waiting.run(["bash", "-c", piped], check=True)
    assert (len(ran.stdout.splitlines()), ran.stderr) == (1, "")
