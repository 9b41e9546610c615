"""`twinfold device` and `twinfold deployment`, as an operator types them."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import httpx
import pytest

from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.api.serving import free_port, served
from tests.workers.system import System, answer, base, deploy, join, layer

pytestmark = [pytest.mark.redis_server, pytest.mark.full]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def serving(shared_redis: EmbeddedRedis) -> Iterator[tuple[System, httpx.Client]]:
    with served(shared_redis) as both:
        yield both


@pytest.fixture
def twinfold(serving: tuple[System, httpx.Client]) -> Run:
    _, http = serving

    def run(*arguments: str, given: str = "", code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "services.cli", *arguments, "--api-url", str(http.base_url)]
        ran = waiting.run(command, input=given)
        assert ran.returncode == code, ran.stderr
        assert "Traceback" not in ran.stderr
        return ran

    return run


def test_an_operator_registers_tags_deploys_and_looks(serving: tuple[System, httpx.Client], twinfold: Run) -> None:
    system, _ = serving
    assert twinfold("device", "list").stdout == "no devices\n"
    assert twinfold("device", "create", "edge-1", "--tag", "site=north").stdout == "edge-1 is registered\n"
    twinfold("device", "create", "edge-2", "--no-edge")
    twinfold("device", "tag", "edge-1", "floor=2", "on=true", "site=south")
    shown = twinfold("device", "show", "edge-1", "--json")
    assert json.loads(shown.stdout)["tags"] == {"site": "south", "floor": 2, "on": True}
    shown_to_people = twinfold("device", "show", "edge-1").stdout
    assert "tags.site" in shown_to_people
    assert "deviceId" in shown_to_people.splitlines()[1], "a table without headers has no empty head"
    created = twinfold(
        "deployment",
        "create",
        "base",
        "-",
        "--condition",
        "tags.floor = 2",
        "--label",
        "team=1",
        given=json.dumps(base("temp")),
    )
    assert created.stdout.startswith("base is created; it targets ")
    noted = twinfold("deployment", "create", "over", "-", "--condition", "*", given=json.dumps({"content": layer("x")}))
    assert "note: layer over (priority 0) is not applied on devices of base" in noted.stdout
    twinfold("deployment", "update", "over", "--priority", "5")
    system.settle()
    listed = json.loads(twinfold("deployment", "list", "--label", "team=1", "--json").stdout)
    assert [(one["id"], one["counts"]["actual"]) for one in listed] == [("base", 1)]
    assert "over (layer)" in twinfold("deployment", "list").stdout
    runs = twinfold("device", "effective", "edge-1").stdout
    assert "edge-1 is managed; it runs base + over" in runs
    assert "temp" in runs
    system.do(answer(system, "edge-1", temp="failed", x="running"))
    system.settle()
    assert twinfold("deployment", "status", "base", "--devices", "unhealthy").stdout == "edge-1\n"
    counts = json.loads(twinfold("deployment", "status", "base", "--json").stdout)["counts"]
    assert (counts["target"], counts["unhealthy"], counts["healthy"]) == (1, 1, 0)
    assert json.loads(twinfold("deployment", "show", "base").stdout)["priority"] == 0
    twinfold("deployment", "delete", "over")
    twinfold("device", "update", "edge-1", "--no-enabled", "--status-reason", "stolen")
    assert json.loads(twinfold("device", "show", "edge-1", "--json").stdout)["statusReason"] == "stolen"
    twinfold("device", "delete", "edge-2")
    assert json.loads(twinfold("device", "list", "--json").stdout) == ["edge-1"]


def test_whoever_watches_sees_changes_until_ctrl_c(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(*join("d"), deploy("a", base("m"), "*"))
    command = [
        sys.executable,
        "-m",
        "services.cli",
        "device",
        "effective",
        "d",
        "--watch",
        "--api-url",
        str(http.base_url),
    ]
    screen, terminal = pty.openpty()
    with waiting.started(command, stdout=terminal, stderr=terminal, env={**os.environ, "TERM": "xterm"}) as process:
        os.close(terminal)
        seen = ""
        for words in ("it runs a", "it runs b"):
            while words not in seen:
                seen += os.read(screen, 4096).decode()
            system.do(deploy("b", base("m"), "*", 9)) if words.endswith("a") else None
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):
            while os.read(screen, 4096):
                pass
        assert waiting.exit_code(process) == 130
    os.close(screen)
    assert "Traceback" not in seen


def test_what_is_refused_is_one_line_and_code_1(twinfold: Run) -> None:
    for arguments in (
        ("device", "show", "nobody"),
        ("deployment", "delete", "nothing"),
        ("device", "create", "not an id"),
    ):
        ran = twinfold(*arguments, code=1)
        assert (ran.stdout, len(ran.stderr.splitlines())) == ("", 1)
    bad = twinfold("deployment", "create", "a", "-", "--condition", "tags.a ==", given=json.dumps(base("m")), code=1)
    assert "column" in bad.stderr
    refused = twinfold("device", "create", "tagged", "--tag", "a b=1", code=1)
    assert refused.stderr.startswith("twinfold: tagged: tags.a b: a key has no")
    assert "no device" in twinfold("device", "show", "tagged", code=1).stderr


def test_a_refusal_names_the_flags_that_were_typed(twinfold: Run) -> None:
    times = ("--start", "2099-06-01T00:00", "--end", "2099-05-01T00:00", "--zone", "Europe/Berlin")
    manifest = json.dumps(base("m"))
    early = twinfold("deployment", "create", "early", "-", *times, given=manifest, code=1)
    assert early.stderr == "twinfold: early: --end must be after --start (2099-06-01 00:00 Europe/Berlin)\n"
    twinfold("deployment", "create", "phased", "-", "--hold", given=manifest)
    falling = twinfold("rollout", "create", "phased", "--phase", "50%", "--phase", "10%", code=1)
    assert "--phase number 2 must not be less than in an earlier phase" in falling.stderr
    plan = json.dumps({"phases": ["50%", "10%"]})
    assert (
        "`phases[1].percent` must not be"
        in twinfold("rollout", "create", "phased", "--file", "-", given=plan, code=1).stderr
    )
    assert "--soak" in twinfold("rollout", "create", "phased", "--phase", "5%", "--soak", "long", code=2).stderr
    assert "--tag" in twinfold("device", "create", "x", "--tag", "nonsense", code=2).stderr


def test_a_wrong_file_or_pair_is_code_2_and_an_api_that_is_away_is_code_3(twinfold: Run) -> None:
    assert "nothing.json" in twinfold("deployment", "create", "a", "nothing.json", code=2).stderr
    assert twinfold("deployment", "create", "a", "-", given="{", code=2).stdout == ""
    twinfold("device", "tag", "edge-1", "nonsense", code=2)
    command = [sys.executable, "-m", "services.cli", "device", "list", "--api-url", f"http://127.0.0.1:{free_port()}"]
    away = waiting.run(command)
    assert (away.returncode, len(away.stderr.splitlines())) == (3, 1)
    assert "twinfold up" in away.stderr
