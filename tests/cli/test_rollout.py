"""`twinfold rollout`, and deployments with times, as an operator types them."""

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from events import RegisterDevice
from events.device.times import time_text
from services.cli.__main__ import main
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.api.serving import served
from tests.servers import eventually
from tests.workers.system import System, answer, base

pytestmark = pytest.mark.redis_server

Run = Callable[..., "Ran"]


@pytest.fixture(scope="module")
def serving(shared_redis: EmbeddedRedis) -> Iterator[tuple[System, httpx.Client]]:
    with served(shared_redis) as (system, http), system.process("-m", "services.scheduler"):
        system.do(*(RegisterDevice(f"d{number}") for number in range(4)))
        system.settle()
        yield system, http


@pytest.fixture
def command(serving: tuple[System, httpx.Client]) -> Callable[..., list[str]]:
    _, http = serving
    return lambda *words: [sys.executable, "-m", "services.cli", *words, "--api-url", str(http.base_url)]


class Ran(NamedTuple):
    """What a command said."""

    stdout: str
    stderr: str


@pytest.fixture
def twinfold(
    command: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """The program, within this process: many commands are given here."""

    def run(*words: str, given: str = "", code: int = 0) -> Ran:
        monkeypatch.setattr(sys, "argv", ["twinfold", *command(*words)[3:]])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
        with pytest.raises(SystemExit) as left:
            main()
        ran = Ran(*capsys.readouterr())
        assert (left.value.code or 0) == code, ran.stderr
        return ran

    return run


def created(twinfold: Run, name: str, *flags: str) -> None:
    content = json.dumps(base("m", image=f"example.com/{name}:1"))
    twinfold("deployment", "create", name, "-", "--condition", "*", *flags, given=content)


def healthy(system: System) -> None:
    system.settle()
    system.do(*(answer(system, f"d{number}", m="running") for number in range(4)))


def test_a_deployment_is_scheduled_moved_started_and_canceled(twinfold: Run) -> None:
    created(twinfold, "timed", "--start", "2099-11-21T08:00", "--zone", "Europe/Berlin")
    assert "2099-11-21T08:00:00+01:00" in twinfold("deployment", "list").stdout
    moved = twinfold("deployment", "schedule", "timed", "--start", "2099-12-01T08:00", "--end", "2099-12-24T00:00")
    assert "timed: starts 2099-12-01T08:00:00+01:00 (Europe/Berlin), in" in moved.stdout
    held = twinfold("deployment", "schedule", "timed", "--start", "none")
    assert "until an operator starts it" in held.stdout
    assert "ends 2099-12-24" in twinfold("deployment", "start", "timed").stdout
    assert twinfold("deployment", "cancel", "timed").stdout == "timed: has ended: it targets no device\n"
    assert "has ended" in twinfold("deployment", "start", "timed", code=1).stderr
    assert "--start" in twinfold("deployment", "schedule", "timed", code=2).stderr
    wrong = twinfold("deployment", "create", "never", "-", "--start", "soon", given=json.dumps(base("m")), code=1)
    assert "--start must be a time" in wrong.stderr


def test_a_rollout_is_created_followed_and_completed(
    serving: tuple[System, httpx.Client], twinfold: Run, command: Callable[..., list[str]]
) -> None:
    system, _ = serving
    created(twinfold, "camera", "--hold", "--priority", "2")
    told = twinfold("rollout", "create", "camera", "--phase", "25%", "--phase", "100%", "--approve-each")
    assert told.stdout.splitlines() == [
        "camera: created; waits to be started",
        "A phase passes when all admitted devices are healthy.",
        (
            "It never fails automatically, as the plan has no failure threshold and no time limit; "
            "a gate that cannot be reached any more only pauses it."
        ),
        "Then it pauses: no further device is admitted until an operator resumes, aborts or rolls back.",
    ]
    assert "camera" in twinfold("rollout", "list").stdout
    assert json.loads(twinfold("rollout", "list", "--json").stdout)[0]["state"] == "created"
    twinfold("rollout", "start", "camera")
    with waiting.started(
        command("rollout", "show", "camera", "--watch"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as watching:
        assert watching.stdout is not None
        lines: list[str] = []
        try:
            for pending in ("1 pending", "3 pending"):
                twinfold("rollout", "approve", "camera")
                while not lines or pending not in lines[-1]:
                    lines.append(watching.stdout.readline())
                    assert lines[-1], lines
                healthy(system)
            lines += watching.stdout
            waiting.exit_code(watching)
        finally:
            watching.kill()
    assert watching.returncode == 0
    assert len(lines) == len(set(lines))
    assert lines[-1] == "camera: completed: 4 of 4 devices have it; a device that is targeted later gets it, too\n"
    told = twinfold("rollout", "devices", "camera", "--state", "healthy").stdout
    assert all(f"d{number}" in told for number in range(4))
    assert twinfold("rollout", "devices", "camera", "--state", "failed", "--json").stdout == "[]\n"
    assert len(json.loads(twinfold("rollout", "devices", "camera", "--json", "--limit", "3").stdout)) == 3
    assert "notApplied" in twinfold("rollout", "devices", "camera", "--state", "fine", code=1).stderr
    assert any("phase 1 of 2: 0 of 1 healthy (0 %), gate 100 % of 1, 1 pending" in line for line in lines)
    table = twinfold("rollout", "show", "camera").stdout
    assert "█" * 20 + " 4 of 4" in table
    last = shown(twinfold, "camera")["history"][-1]
    assert f"{time_text(last['at'])} RolloutCompleted by system:scheduler" in table


def shown(twinfold: Run, name: str) -> Any:
    return json.loads(twinfold("rollout", "show", name, "--json").stdout)


def test_every_act_has_its_command_and_a_refusal_exits_with_1(twinfold: Run) -> None:
    created(twinfold, "acts", "--hold", "--priority", "3")
    twinfold("rollout", "create", "acts", "--phase", "1", "--phase", "100%", "--soak", "1h")
    assert (
        "its rollout is created; the command is possible only while it is running"
        in twinfold("rollout", "pause", "acts", code=1).stderr
    )
    twinfold("deployment", "start", "acts")
    eventually(lambda: shown(twinfold, "acts")["phase"] == 1, what="the first phase is open")
    assert twinfold("rollout", "pause", "acts", "--reason", "lunch").stdout == "acts: paused: lunch\n"
    assert twinfold("rollout", "resume", "acts").stdout.startswith("acts: running; ")
    twinfold("rollout", "retry", "acts")
    twinfold("rollout", "skip", "acts", "--phase", "1")
    assert "aborted: enough" in twinfold("rollout", "abort", "acts", "--reason", "enough").stdout
    followed = twinfold("rollout", "show", "acts", "--watch", code=1)
    assert followed.stdout.startswith("acts: aborted: enough")
    twinfold("rollout", "rollback", "acts", "--reason", "it hurts")
    assert "no deployment" in twinfold("rollout", "show", "nobody", code=1).stderr


def test_all_that_a_plan_can_say_is_said_by_flags_or_by_a_file(twinfold: Run, tmp_path: Path) -> None:
    created(twinfold, "before", "--priority", "1")
    created(twinfold, "flags", "--hold", "--priority", "4")
    twinfold(
        *("rollout", "create", "flags", "--phase", "5%", "--phase", "50", "--success", "95", "--answered", "3"),
        *("--soak", "30m", "--timeout", "2h", "--device-timeout", "90s", "--fail-percent", "5", "--fail-count", "3"),
        *("--on-failure", "rollback", "--rollback-to", "before", "--window", "0 22 * * *", "--zone", "Europe/Berlin"),
        *("--window-minutes", "240", "--rate", "100", "--per-tag", "tags.site=2", "--offline", "exclude"),
        *("--offline-after", "1d", "--approve-each", "--approve-by-another"),
    )
    plan = shown(twinfold, "flags")["plan"]
    gate = {
        "successPercent": 95.0,
        "answeredMin": 3,
        "soakSeconds": 1800,
        "deviceTimeoutSeconds": 90,
        "phaseTimeoutSeconds": 7200,
    }
    assert [(one["percent"], one["count"], one["approval"]) for one in plan["phases"]] == [
        (5.0, None, True),
        (None, 50, True),
    ]
    assert plan["phases"][0]["gate"] == gate
    assert plan["failure"] == {"percent": 5.0, "count": 3, "answeredMin": 0, "then": "roll back"}
    assert (plan["rollbackTo"], plan["restore"]) == ("before", False)
    assert plan["windows"] == [{"cron": "0 22 * * *", "zone": "Europe/Berlin", "minutes": 240}]
    assert (plan["rate"]["perMinute"], plan["spread"]) == (100.0, {"tag": "tags.site", "atMost": 2})
    assert (plan["offline"], plan["offlineSeconds"], plan["approvalByAnother"]) == ("exclude", 86_400, True)
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(plan))
    created(twinfold, "file", "--hold", "--priority", "5")
    twinfold("rollout", "create", "file", "--file", str(file))
    assert shown(twinfold, "file")["plan"] == plan
    approved = twinfold("rollout", "approve", "file", code=1)
    assert "another person than its author" in approved.stderr


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ((), "--phase or --file"),
        (("--phase", "5%", "--file", "-"), "--phase or --file"),
        (("--phase", "some"), "is not a phase"),
        (("--phase", "5%", "--soak", "soon"), "not a duration"),
        (("--phase", "5%", "--per-tag", "tags.site"), "tags.site=2"),
        (("--phase", "5%", "--on-failure", "cry"), "rollback"),
    ],
)
def test_flags_that_are_not_right_are_usage(twinfold: Run, flags: tuple[str, ...], word: str) -> None:
    ran = twinfold("rollout", "create", "never", *flags, code=2)
    assert word in " ".join(ran.stderr.replace("│", " ").split())


@pytest.mark.full
def test_a_terminal_shows_the_table_until_the_rollout_is_over(twinfold: Run, command: Callable[..., list[str]]) -> None:
    created(twinfold, "seen", "--hold", "--priority", "6")
    twinfold("rollout", "create", "seen", "--phase", "100%")
    leader, follower = pty.openpty()
    with waiting.started(command("rollout", "show", "seen", "--watch"), stdout=follower, stderr=follower) as watching:
        os.close(follower)
        try:
            twinfold("rollout", "abort", "seen")
            text = b""
            while watching.poll() is None or b"aborted" not in text:
                try:
                    text += os.read(leader, 4096)
                except OSError:
                    break
            assert waiting.exit_code(watching) == 1
        finally:
            watching.kill()
            os.close(leader)
    assert b"aborted by hand" in text
