"""`twinfold up`: everything on one machine."""

import contextlib
import os
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.api.serving import free_port
from tests.servers import eventually
from tests.workers.system import base

pytestmark = pytest.mark.redis_server


@pytest.fixture
def data() -> Iterator[Path]:
    """A directory with a short path, as a socket's must be."""
    with tempfile.TemporaryDirectory(prefix="t-") as directory:
        yield Path(directory) / "data"


def command(data: Path, port: int, *flags: str) -> list[str]:
    words = [sys.executable, "-m", "services.cli", "up", "--data", str(data), "--port", str(port), "--workers", "1"]
    return [*words, *flags]


def client(data: Path, port: int) -> httpx.Client:
    """A client that trusts the directory's authority and shows its administrator's token."""
    trusted = ssl.create_default_context(cafile=data / "tls" / "ca.pem")
    shown = {"Authorization": f"Bearer {(data / 'admin.token').read_text()}"}
    return httpx.Client(base_url=f"https://127.0.0.1:{port}", headers=shown, verify=trusted, timeout=30)


@contextlib.contextmanager
def up(data: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client, list[str]]]:
    """`twinfold up` until the end of the block, with what it said until it was ready."""
    port, said = free_port(), []
    environment = {**os.environ, "TWINFOLD_LOG_LEVEL": "error"}
    with subprocess.Popen(
        command(data, port, *flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        try:
            while not said or not said[-1].startswith("workers"):
                line = process.stdout.readline()
                assert line, process.stderr.read() if process.stderr else ""
                said.append(line)
            with client(data, port) as http:
                yield process, http, said
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(60)


def ready(http: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return http.get("/readyz").is_success
    return False


def test_one_command_runs_everything_and_what_was_written_is_there_after_a_restart(data: Path) -> None:
    with up(data) as (process, http, said):
        assert said[0] == f"data   {data}\n"
        assert said[2].startswith("api    https://localhost:")
        ca = data / "tls" / "ca.pem"
        assert said[3] == f"trust  export REQUESTS_CA_BUNDLE={ca} SSL_CERT_FILE={ca}\n"
        http.put("/devices/edge-1", json={"deviceId": "edge-1", "capabilities": {"iotEdge": True}}).raise_for_status()
        http.post("/v1/deployments/a", json={"content": base("m"), "targetCondition": "*"}).raise_for_status()
        eventually(
            lambda: http.get("/v1/devices/edge-1/effective").json().get("layers") == ["a"], what="it is deployed"
        )
        process.send_signal(signal.SIGINT)
        rest, words = process.communicate(timeout=60)
        assert (process.returncode, rest, words) == (0, "stopped\n", "")
    with up(data) as (_, http, _):
        assert http.get("/v1/devices/edge-1/effective").json()["layers"] == ["a"]
        assert (data / "layout").read_text() == "1\n"


def test_a_role_that_dies_is_started_again_and_it_is_said(data: Path) -> None:
    with up(data) as (process, http, _):
        for module in ("services.api", "workers.pool"):
            (child,) = children(process.pid, module)
            os.kill(child, signal.SIGKILL)
            assert process.stdout is not None
            assert "ended with -9; again in" in process.stdout.readline()
            eventually(lambda: ready(http) and children(process.pid, module), what="the role is back")  # noqa: B023
        http.put("/devices/edge-1", json={"deviceId": "edge-1", "capabilities": {"iotEdge": True}}).raise_for_status()
        eventually(lambda: http.get("/v1/devices/edge-1/effective").is_success, what="it is folded")


def children(parent: int, module: str) -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdigit() and module.encode() in (path / "cmdline").read_bytes().split(b"\0"):
                stat = (path / "stat").read_text().rpartition(")")[2].split()
                if int(stat[1]) == parent and stat[0] != "Z":
                    found.append(int(path.name))
    return found


def test_a_second_one_on_the_directory_says_who_holds_it(data: Path) -> None:
    with up(data) as (process, _, _):
        second = subprocess.run(command(data, free_port()), capture_output=True, text=True, check=False, timeout=60)
    assert (second.returncode, second.stdout) == (3, "")
    assert f"held by process {process.pid}" in second.stderr


def test_a_directory_of_a_newer_layout_is_refused(data: Path) -> None:
    data.mkdir()
    (data / "layout").write_text("2\n")
    ran = subprocess.run(command(data, free_port()), capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "layout '2'" in ran.stderr


def test_a_directory_too_deep_for_a_socket_is_said(data: Path) -> None:
    ran = subprocess.run(
        command(data / ("x" * 120), free_port()), capture_output=True, text=True, check=False, timeout=60
    )
    assert (ran.returncode, ran.stdout, "shorter" in ran.stderr) == (3, "", True)


def test_only_this_machine_is_listened_on() -> None:
    environment = {**os.environ, "TWINFOLD_HOST": "0.0.0.0"}  # noqa: S104 - refused
    arguments = [sys.executable, "-m", "services.cli", "api"]
    ran = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert (ran.returncode, "TWINFOLD_HOST" in ran.stderr) == (2, True)
