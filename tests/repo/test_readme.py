"""The blocks of the README and of the first steps, run one after the other as they are written."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.serving import free_port
from tests.repo.tree import text
from tests.servers import redis_server
from tests.waiting import last_output

pytestmark = [pytest.mark.redis_server, pytest.mark.full]

README, FIRST_STEPS = text(Path("README.md")), text(Path("docs/start/first-steps.md"))
RUNS_ON = re.compile(r"^(twinfold \w+[^#\n]*?) +# runs until Ctrl-C.*$", re.MULTILINE)
INSTALLS = re.compile(r"^pip install ([^#\n]+?) +#.*$", re.MULTILINE)


def blocks(page: str) -> str:
    return "\n".join(re.findall(r"```bash\n(.*?)```", page, re.DOTALL))


def script(page: str, port: int, redis_url: str = "") -> str:
    """All blocks as one script: what runs until Ctrl-C goes to the background, and what pip installs is here already."""
    commands = blocks(page)
    assert len(RUNS_ON.findall(commands)) == (4 if page is FIRST_STEPS else 1)
    commands = RUNS_ON.sub(r"\1 >> roles.log 2>&1 &", commands)
    commands = INSTALLS.sub("", commands)
    up, rest = commands.split("\n", 1)
    ready = "until grep -q Ctrl-C roles.log; do kill -0 $!; sleep 0.2; done"
    # Ports and servers of this machine may be taken.
    rest = rest.replace("8080", str(port)).replace("redis://127.0.0.1:6379/0", redis_url)
    up = up.replace("twinfold up", f"twinfold up --port {port}")
    return f"set -euo pipefail\n{up}\n{ready}\n{rest}\n"


@contextlib.contextmanager
def running(commands: str, directory: Path) -> Iterator[subprocess.Popen[str]]:
    program = directory / "twinfold"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m services.cli "$@"\n')
    program.chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TWINFOLD_")}
    environment = {
        **clean,
        "HOME": str(directory),
        "PATH": f"{directory}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path.cwd()),
    }
    with subprocess.Popen(
        ["bash", "-c", commands],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            yield shell
        finally:
            # The roles that the blocks started.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)


def test_the_blocks_of_the_readme_run_as_they_are_written() -> None:
    with tempfile.TemporaryDirectory(prefix="t-") as name:
        directory = Path(name)
        with running(script(README, free_port()), directory) as shell:
            stdout, stderr = last_output(shell, 180)
        roles = (directory / "roles.log").read_text()
    assert shell.returncode == 0, stdout + stderr + roles
    assert "gateway-1 is managed; it runs camera-2" in stdout
    assert "camera-2 applies as the base, with priority 20" in stdout
    assert "1 device would be left without any deployment" in stdout
    assert "no difference" in stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page uses curl")
def test_the_blocks_of_the_first_steps_run_as_they_are_written() -> None:
    with tempfile.TemporaryDirectory(prefix="t-") as name, redis_server() as server:
        directory = Path(name)
        with running(script(FIRST_STEPS, free_port(), server.url), directory) as shell:
            stdout, stderr = last_output(shell, 180)
        roles = (directory / "roles.log").read_text()
    assert shell.returncode == 0, stdout + stderr + roles
    assert "as user:ada (operate; until " in stdout
    assert '"deviceId":"gateway-1"' in stdout.replace(" ", "")
    assert "{'site': 'north'}" in stdout
    assert "gateway-1" in stdout
    assert "no difference" in stdout
    assert "no partition is stopped" in stdout


def test_what_the_first_steps_install_is_what_the_tests_install() -> None:
    extra = tomllib.loads(text(Path("pyproject.toml")))["project"]["optional-dependencies"]["test"]
    known = {re.split(r"[>=<;\[ ]", requirement)[0] for requirement in extra}
    (packages,) = INSTALLS.findall(blocks(FIRST_STEPS))
    assert set(packages.split()) <= known
