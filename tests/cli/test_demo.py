"""`twinfold demo`, as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import waiting
from tests.manifest.contents import agent, content, layer, module
from tests.servers import eventually
from tests.shortening import shortened

pytestmark = [pytest.mark.redis_server, pytest.mark.full]

SECONDS_MAX = 120


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the demo may put what it needs; empty again afterwards. Short, as a socket's path must be."""
    with tempfile.TemporaryDirectory(prefix="t-") as directory:
        monkeypatch.setenv("TMPDIR", directory)
        monkeypatch.setenv("HOME", directory)
        yield Path(directory)
        assert list(Path(directory).iterdir()) == []
        eventually(lambda: not processes_with(directory), what="no process is left")


def processes_with(variable: str) -> list[int]:
    """Processes whose environment names the directory, but for this one."""
    found = []
    for path in Path("/proc").iterdir():
        if not path.name.isdigit() or int(path.name) == os.getpid():
            continue
        try:
            environment = (path / "environ").read_bytes()
        except OSError:
            continue
        if f"TMPDIR={variable}".encode() in environment.split(b"\0"):
            found.append(int(path.name))
    return found


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "services.cli", "demo", *arguments]
    return waiting.run(command, seconds_max=SECONDS_MAX)


def test_the_story_is_told_without_a_terminal_and_leaves_nothing_behind(temporary: Path) -> None:
    ran = demo()
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    (story,) = [index for index, line in enumerate(lines) if line == "What happened:"]
    told = [line for line in lines[story:] if line.startswith(" • ")]
    assert len(told) == 7
    assert "five newcomers got it by themselves: 501 targets became 506" in ran.stdout
    assert "the layer cameras targets 200 devices and applies on 100" in ran.stdout
    assert "10 re-tagged devices keep what they run and are unmanaged now" in ran.stdout
    assert "events were appended and applied" in ran.stdout
    assert temporary.exists()


@pytest.mark.full
def test_a_manifest_and_a_layer_of_ones_own_take_the_parts_of_the_storys(temporary: Path, tmp_path: Path) -> None:
    own, over = tmp_path / "own.json", tmp_path / "over.json"
    credential = {"username": "u", "password": "hunter2", "address": "registry.example.com"}
    runtime = {"type": "docker", "settings": {"registryCredentials": {"r": credential}}}
    own.write_text(json.dumps({"content": content(agent=agent(runtime=runtime))}))
    over.write_text(json.dumps(layer({"modules.extra": module()}, extra={"properties.desired": {"a": 1}})))
    ran = demo("--manifest", str(own), "--layer", str(over))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "applies on 100" in ran.stdout
    assert "hunter2" not in ran.stdout
    assert temporary.exists()


@pytest.mark.parametrize(
    ("text", "flag", "said"),
    [
        ("{", "--manifest", (2, "Expecting property name")),
        (json.dumps(content(agent=agent(modules={"m": {}}))), "--manifest", (1, "modules.m: 'type' is required")),
        (json.dumps(content()), "--layer", (2, "a standard manifest where a layer is required")),
        (
            json.dumps(layer({"modules.x": module()})),
            "--manifest",
            (2, "a layer where a standard manifest is required"),
        ),
        ("[1]", "--manifest", (1, "must be an object, not an array")),
    ],
)
def test_a_file_that_cannot_be_used_is_said_before_anything_starts(
    temporary: Path, tmp_path: Path, text: str, flag: str, said: tuple[int, str]
) -> None:
    own = tmp_path / "own.json"
    own.write_text(text)
    ran = demo(flag, str(own))
    assert (ran.returncode, ran.stdout) == (said[0], "")
    assert said[1] in ran.stderr
    assert "own.json" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert temporary.exists()


@pytest.mark.parametrize("signum", shortened([signal.SIGINT, signal.SIGTERM]))
def test_the_demo_cleans_up_when_it_is_told_to_end(temporary: Path, signum: signal.Signals) -> None:
    command = [sys.executable, "-m", "services.cli", "demo"]
    with waiting.started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        eventually(lambda: list(temporary.glob("*/processes.log")), what="the demo is on its way")
        process.send_signal(signum)
        _, words = waiting.last_output(process, SECONDS_MAX)
    assert process.returncode == 130
    assert b"Traceback" not in words
