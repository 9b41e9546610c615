"""`twinfold up`: everything on one machine."""

import contextlib
import datetime as dt
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services import certificates
from services.local_api import token_id
from tests import waiting
from tests.api.serving import API_VERSION, free_port
from tests.cli.running import bearer, command, up
from tests.process_tree import EMBEDDED_SERVER, children, descendants, is_there
from tests.servers import eventually
from tests.workers.system import base

pytestmark = pytest.mark.redis_server


@pytest.fixture
def data() -> Iterator[Path]:
    """A directory with a short path, as a socket's must be."""
    with tempfile.TemporaryDirectory(prefix="t-") as directory:
        yield Path(directory) / "data"


def ready(http: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return http.get("/readyz").is_success
    return False


def test_one_command_runs_everything_and_what_was_written_is_there_after_a_restart(data: Path) -> None:
    # Whatever permissions others have in a directory that the user has made.
    (data / "redis").mkdir(mode=0o755, parents=True)
    (data / "notes.txt").touch(mode=0o644)
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
        assert_its_owners_alone(data)
        process.send_signal(signal.SIGINT)
        rest, words = waiting.last_output(process)
        assert (process.returncode, rest, words) == (0, "stopped\n", "")
    with up(data) as (_, http, _):
        assert http.get("/v1/devices/edge-1/effective").json()["layers"] == ["a"]
        assert (data / "layout").read_text() == "1\n"


def until_said(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    with waiting.limited(process):
        while line := process.stdout.readline():
            if text in line:
                return
    raise AssertionError(f"{text!r} was not said")


ROLES = (EMBEDDED_SERVER, "services.scheduler", "workers.pool", "services.api")


def test_a_role_that_dies_or_is_stopped_goes_on_and_it_is_said(data: Path) -> None:
    with up(data) as (process, http, _):
        for name in ROLES:
            (child,) = children(process.pid, name)
            os.kill(child, signal.SIGKILL)
            until_said(process, "ended with -9; starts again in" if name != EMBEDDED_SERVER else "redis is back after")
            eventually(lambda: ready(http) and children(process.pid, name), what="the role is back")  # noqa: B023
            (child,) = children(process.pid, name)
            os.kill(child, signal.SIGSTOP)
            until_said(process, "was stopped and is continued")
            eventually(lambda: ready(http), what="the role goes on")
        http.put("/devices/edge-1", json={"deviceId": "edge-1", "capabilities": {"iotEdge": True}}).raise_for_status()
        eventually(lambda: http.get("/v1/devices/edge-1/effective").is_success, what="it is applied")


def test_all_roles_end_with_an_up_that_is_killed_and_the_next_one_serves_on_the_same_port(data: Path) -> None:
    port = free_port()
    with up(data, port=port) as (process, http, _):
        http.put("/devices/edge-1", json={"deviceId": "edge-1"}).raise_for_status()
        former = descendants(process.pid)
        assert len(former) >= len(ROLES)
        os.kill(children(process.pid, "services.api")[0], signal.SIGSTOP)
        process.kill()
        process.wait()
        with up(data, port=port) as (second, following, _):
            assert [pid for pid in former if is_there(pid)] == []
            (serving,) = children(second.pid, "services.api")
            assert serving not in former
            assert following.get("/devices/edge-1").is_success


def test_a_port_in_use_is_said_at_once_with_its_flag(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ran = waiting.run(command(data, port))
    assert (ran.returncode, ran.stdout, len(ran.stderr.splitlines())) == (3, "", 1)
    assert f"port {port} " in ran.stderr
    assert "--port" in ran.stderr


def test_an_address_of_another_machine_is_said_at_once_with_its_flag(data: Path) -> None:
    ran = waiting.run(command(data, free_port(), "--host", "192.0.2.1"))
    assert (ran.returncode, ran.stdout, len(ran.stderr.splitlines())) == (3, "", 1)
    assert "192.0.2.1 is no address of this machine" in ran.stderr
    assert "--host" in ran.stderr


@pytest.mark.full
def test_a_role_that_cannot_start_is_given_up_with_its_reason(data: Path) -> None:
    # Where the seal's key should be is a directory: the scheduler cannot seal.
    (data / "seal.key").mkdir(parents=True)
    ran = waiting.run(command(data, free_port()))
    assert ran.returncode == 3
    assert "scheduler ended 5 times in a row" in ran.stderr
    assert "seal.key" in ran.stderr.splitlines()[-1]


def assert_its_owners_alone(data: Path) -> None:
    folders = [data, *(path for path in data.rglob("*") if path.is_dir())]
    files = [path for path in data.rglob("*") if path.is_file()]
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in folders} == {"0o700"}
    assert {oct(stat.S_IMODE(path.stat().st_mode)) for path in files} == {"0o600"}


@pytest.mark.full
def test_a_second_one_on_the_directory_says_who_holds_it(data: Path) -> None:
    with up(data) as (process, _, _):
        second = waiting.run(command(data, free_port()))
    assert (second.returncode, second.stdout) == (3, "")
    assert f"in use by process {process.pid}" in second.stderr


def test_a_directory_of_a_newer_layout_is_refused(data: Path) -> None:
    data.mkdir()
    (data / "layout").write_text("2\n")
    ran = waiting.run(command(data, free_port()))
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "layout '2'" in ran.stderr


def test_a_directory_too_deep_for_a_socket_is_said(data: Path) -> None:
    ran = waiting.run(command(data / ("x" * 120), free_port()))
    assert (ran.returncode, ran.stdout, "shorter" in ran.stderr) == (3, "", True)


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({"TWINFOLD_HOST": "0.0.0.0"}, "TWINFOLD_HOST"),  # noqa: S104 - refused
        ({"TWINFOLD_HOST": "0.0.0.0", "TWINFOLD_TLS": "local", "TWINFOLD_OPEN_ACCESS": "true"}, "TWINFOLD_HOST"),  # noqa: S104
        ({"TWINFOLD_TLS_KEY": "/k.pem"}, "TWINFOLD_TLS_CERTIFICATE"),
        ({"TWINFOLD_NAMES": "b\u00fccher.example"}, "TWINFOLD_NAMES"),
    ],
)
def test_what_would_not_be_safe_is_refused_by_its_variable(environment: dict[str, str], variable: str) -> None:
    arguments = [sys.executable, "-m", "services.cli", "api"]
    ran = waiting.run(arguments, env={**os.environ, **environment})
    assert (ran.returncode, variable in ran.stderr, len(ran.stderr.splitlines())) == (2, True, 1)


def test_without_tls_only_this_machine_is_listened_on(data: Path) -> None:
    words = command(data, free_port(), "--no-tls", "--host", "0.0.0.0")  # noqa: S104 - refused
    ran = waiting.run(words)
    assert (ran.returncode, "TWINFOLD_HOST" in ran.stderr, data.exists()) == (2, True, False)


@pytest.mark.full
def test_without_tls_nothing_is_to_be_trusted_and_credentials_are_shown_all_the_same(data: Path) -> None:
    with up(data, "--no-tls") as (_, http, said):
        assert [line.split()[0] for line in said] == ["data", "redis", "api", "workers"]
        assert said[2] == f"api    http://localhost:{http.base_url.port}\n"
        plain = f"http://127.0.0.1:{http.base_url.port}/devices"
        assert httpx.get(plain).status_code == 401
        assert httpx.get(plain, headers=bearer(data), params=API_VERSION).is_success
        ran = waiting.run([sys.executable, "-m", "services.cli", "ca", "--data", str(data)])
        assert (ran.returncode, ran.stdout, "no authority of its own" in ran.stderr) == (1, "", True)


def test_a_certificate_of_ones_own_is_served(data: Path, tmp_path: Path) -> None:
    own = certificates.ensure(tmp_path, [], now=dt.datetime.now(dt.UTC))
    flags = ("--tls-certificate", str(own.certificate), "--tls-key", str(own.key))
    with up(data, *flags, trusting=own.ca) as (_, http, said):
        assert [line.split()[0] for line in said] == ["data", "redis", "api", "workers"]
        assert http.get("/devices").is_success
        assert not (data / "tls").exists()


@pytest.mark.full
def test_a_certificate_that_cannot_be_served_is_said_before_anything_starts(data: Path, tmp_path: Path) -> None:
    one = certificates.ensure(tmp_path / "one", [], now=dt.datetime.now(dt.UTC))
    other = certificates.ensure(tmp_path / "other", [], now=dt.datetime.now(dt.UTC))
    for certificate, key in ((one.certificate, other.key), (tmp_path / "none.pem", one.key)):
        words = command(data, free_port(), "--tls-certificate", str(certificate), "--tls-key", str(key))
        ran = waiting.run(words)
        assert (ran.returncode, ran.stdout, len(ran.stderr.splitlines())) == (3, "", 1)
        assert str(certificate) in ran.stderr
        assert "--tls-certificate" in ran.stderr


@pytest.mark.full
def test_the_token_of_the_directory_stays_until_it_is_revoked(data: Path) -> None:
    with up(data):
        first = bearer(data)
    with up(data) as (_, http, _):
        assert bearer(data) == first
        revoked = waiting.run(
            [sys.executable, "-m", "services.cli", "token", "revoke", token_id(data), "--data", str(data)], text=False
        )
        assert revoked.returncode == 0
        eventually(lambda: http.get("/devices").status_code == 401, what="it is revoked")
    with up(data) as (_, http, _):
        assert bearer(data) != first
        assert http.get("/devices").is_success


@pytest.mark.full
def test_open_access_asks_nobody_and_leaves_no_token(data: Path) -> None:
    with up(data, "--no-tls", TWINFOLD_OPEN_ACCESS="true") as (_, http, _):
        assert httpx.get(f"http://127.0.0.1:{http.base_url.port}/devices", params=API_VERSION).is_success
        assert not (data / "admin.token").exists()


@pytest.mark.full
def test_a_client_that_was_told_goodbye_before_does_not_hold_up_the_end(data: Path) -> None:
    # A line that is idle is closed from this side; the client does not take part in the end of TLS.
    with up(data, TWINFOLD_REQUEST_SECONDS_MAX="0.2", TWINFOLD_LOG_LEVEL="error") as (process, http, _):
        context = ssl.create_default_context(cafile=data / "tls" / "ca.pem")
        address = (http.base_url.host, http.base_url.port)
        with (
            socket.create_connection(address, timeout=waiting.seconds()) as wire,
            context.wrap_socket(wire, server_hostname="localhost") as line,
        ):
            line.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while line.recv(4096):
                pass
            process.terminate()
            _, said = waiting.last_output(process)
    assert "timeout graceful shutdown exceeded" not in said
