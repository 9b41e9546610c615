"""`twinfold connection-string`, `ca`, `token` and `policy`, on a directory that `twinfold up` works in."""

import base64
import contextlib
import hashlib
import hmac
import http.server as http_server
import json
import os
import pwd
import shutil
import ssl
import stat
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import httpx
import msgspec
import pytest

from events import open_producer
from events.device.authentication import KEYS_DECLINED
from services.credentials import issue_token
from tests import waiting
from tests.cli.running import up
from tests.servers import eventually
from tests.shortening import shortened

pytestmark = pytest.mark.redis_server

Run = Callable[..., str]
PLANTED = base64.b64encode(b"a key that is looked for afterwards").decode()


@pytest.fixture(scope="module")
def data() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="t-") as directory:
        yield Path(directory) / "data"


@pytest.fixture(scope="module")
def http(data: Path) -> Iterator[httpx.Client]:
    with up(data, "--name", "edge.example") as (_, client, _):
        yield client


@pytest.fixture
def twinfold(data: Path, http: httpx.Client) -> Run:
    assert http.get("/readyz").is_success

    def run(*arguments: str, code: int = 0, **given: Any) -> str:
        """What a command printed; what it refused is one line."""
        return run_on(data, *arguments, code=code, **given)

    return run


def run_on(data: Path, *arguments: str, code: int = 0, typed: str = "", **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TWINFOLD_")}
    logins = data.parent / "logins" / "logins.json"
    own = {"TWINFOLD_DATA_DIR": str(data), "TWINFOLD_LOGIN_FILE": str(logins), **environment}
    ran = waiting.run([sys.executable, "-m", "services.cli", *arguments], env={**clean, **own}, input=typed)
    assert ran.returncode == code, ran.stderr
    assert "Traceback" not in ran.stderr
    if code == 1:
        assert (ran.stdout, len(ran.stderr.splitlines())) == ("", 1)
    return ran.stderr if code else ran.stdout


def signature(connection_string: str, *, now: float | None = None) -> dict[str, str]:
    """The header that a client makes of a connection string."""
    parts = dict(one.split("=", 1) for one in connection_string.strip().split(";"))
    resource = parts["HostName"]
    if "DeviceId" in parts:
        resource += f"/devices/{parts['DeviceId']}" + (f"/modules/{parts['ModuleId']}" if "ModuleId" in parts else "")
    signed, expiry = quote_plus(resource), int(time.time() if now is None else now) + 600
    text = f"{signed}\n{expiry}".encode()
    digest = hmac.digest(base64.b64decode(parts["SharedAccessKey"]), text, hashlib.sha256)
    header = f"SharedAccessSignature sr={signed}&sig={quote_plus(base64.b64encode(digest))}&se={expiry}"
    if "SharedAccessKeyName" in parts:
        header += f"&skn={parts['SharedAccessKeyName']}"
    return {"Authorization": header, "Host": parts["HostName"]}


def status(http: httpx.Client, path: str, headers: dict[str, str], method: str = "GET", **body: Any) -> int:
    return http.request(method, path, headers=headers, **body).status_code


def token_header(text: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {text.strip()}"}


def test_the_certificate_that_ca_prints_is_all_that_a_client_needs_to_trust(http: httpx.Client, twinfold: Run) -> None:
    trusted = ssl.create_default_context(cafile=twinfold("ca").strip())
    for name in ("127.0.0.1", "localhost"):
        url = http.base_url.copy_with(host=name)
        assert httpx.get(f"{url}/healthz", verify=trusted).text == "ok\n"
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{http.base_url}/healthz")
    # The certificate is for the other name as well.
    extensions = {"sni_hostname": "edge.example"}
    with httpx.Client(verify=trusted) as client:
        assert client.get(f"{http.base_url}/healthz", extensions=extensions).is_success
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.Client(verify=trusted).get(f"{http.base_url}/healthz", extensions={"sni_hostname": "other.example"})


@pytest.mark.full
def test_a_client_of_an_old_tls_is_turned_away(http: httpx.Client, twinfold: Run) -> None:
    def offering(highest: ssl.TLSVersion) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=twinfold("ca").strip())
        context.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = highest
        return context

    assert httpx.get(f"{http.base_url}/healthz", verify=offering(ssl.TLSVersion.TLSv1_2)).is_success
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{http.base_url}/healthz", verify=offering(ssl.TLSVersion.TLSv1_1))


def test_what_lies_in_the_directory_is_for_its_owner_alone(data: Path, http: httpx.Client) -> None:
    assert http.get("/devices").is_success
    for name in ("admin.token", "serving.json", "master.key", "tls/server.key", "tls/ca.key"):
        assert stat.S_IMODE((data / name).stat().st_mode) == 0o600, name


def test_whoever_shows_nothing_gets_nothing(http: httpx.Client) -> None:
    for path in ("/devices", "/metrics", "/v1/devices", "/configurations", "/twins/a", "/nowhere"):
        answer = http.get(path, headers={"Authorization": ""})
        assert answer.status_code == 401, path
        assert answer.headers["iothub-errorcode"] == "IotHubUnauthorizedAccess"
    assert http.get("/healthz", headers={"Authorization": ""}).is_success


def test_the_connection_string_of_a_policy_opens_what_the_policy_does(http: httpx.Client, twinfold: Run) -> None:
    owner, service = twinfold("connection-string"), twinfold("connection-string", "--policy", "service")
    assert owner.startswith(f"HostName=localhost:{http.base_url.port};SharedAccessKeyName=iothubowner;SharedAccessKey=")
    assert status(http, "/devices", signature(owner)) == 200
    assert status(http, "/devices", signature(service)) == 401
    assert status(http, "/devices", signature(owner, now=time.time() - 700)) == 401


def said_with(data: Path, directory: Path, host_name: str) -> tuple[str, str]:
    """What `connection-string` writes to standard output and standard error where the API is reached by this name."""
    for name in ("keys", "master.key"):
        if (data / name).is_dir():
            shutil.copytree(data / name, directory / name)
        elif (data / name).exists():
            shutil.copy(data / name, directory / name)
    told = msgspec.json.decode((data / "serving.json").read_bytes())
    (directory / "serving.json").write_bytes(msgspec.json.encode({**told, "host_name": host_name}))
    command = [sys.executable, "-m", "services.cli", "connection-string", "--data", str(directory)]
    ran = waiting.run(command, env=dict(os.environ), check=True)
    return ran.stdout, ran.stderr


def test_a_connection_string_names_no_port_where_that_is_443(data: Path, http: httpx.Client, tmp_path: Path) -> None:
    assert http.get("/readyz").is_success
    printed, noted = said_with(data, tmp_path, "hub.example:443")
    assert printed.startswith("HostName=hub.example;SharedAccessKeyName=")
    assert noted == ""


def test_a_connection_string_with_another_port_comes_with_a_note_for_clients_that_take_none(
    data: Path, http: httpx.Client, tmp_path: Path
) -> None:
    assert http.get("/readyz").is_success
    printed, noted = said_with(data, tmp_path, "hub.example:8443")
    assert printed.startswith("HostName=hub.example:8443;SharedAccessKeyName=")
    assert len(printed.splitlines()) == len(noted.splitlines()) == 1
    assert "Node and Java" in noted
    assert "twinfold up --port 443" in noted
    assert "SharedAccessKey=" not in noted


@pytest.mark.full
def test_a_key_is_changed_without_cutting_anybody_off(http: httpx.Client, twinfold: Run) -> None:
    assert twinfold("policy", "create", "mine", "RegistryRead") == "mine is created\n"
    first = twinfold("connection-string", "--policy", "mine")
    assert twinfold("policy", "rotate", "mine") == "mine has a new primary key\n"
    second = twinfold("connection-string", "--policy", "mine")
    assert first != second
    eventually(lambda: status(http, "/devices", signature(second)) == 200, what="the new key opens")
    assert status(http, "/devices", signature(first)) == 200
    twinfold("policy", "rotate", "mine")
    eventually(lambda: status(http, "/devices", signature(first)) == 401, what="the key before the last opens no more")
    assert status(http, "/devices", signature(second)) == 200
    assert twinfold("policy", "delete", "mine") == "mine is deleted\n"
    eventually(lambda: status(http, "/devices", signature(second)) == 401, what="the policy is gone")


def test_policies_are_listed_with_their_rights_and_without_their_keys(twinfold: Run) -> None:
    listed = twinfold("policy", "list")
    for name in ("iothubowner", "service", "device", "registryRead", "registryReadWrite"):
        assert name in listed
    assert "RegistryRead, RegistryWrite" in listed
    key = twinfold("connection-string").strip().rpartition("SharedAccessKey=")[2]
    assert key not in listed


def test_a_device_and_a_module_connect_with_their_own_keys_to_their_own_paths(
    http: httpx.Client, twinfold: Run
) -> None:
    twinfold("device", "create", "edge-1")
    http.put("/devices/edge-1/modules/camera", json={}).raise_for_status()
    device = twinfold("connection-string", "--device", "edge-1")
    module = twinfold("connection-string", "--device", "edge-1/camera")
    assert f"HostName=localhost:{http.base_url.port};DeviceId=edge-1;SharedAccessKey=" in device
    assert ";DeviceId=edge-1;ModuleId=camera;SharedAccessKey=" in module
    eventually(lambda: status(http, "/v1/devices/edge-1/desired", signature(device)) == 200, what="it is applied")
    assert status(http, "/v1/devices/edge-1/desired", signature(module)) == 401
    assert status(http, "/v1/devices/edge-2/desired", signature(device)) == 401
    assert status(http, "/devices/edge-1/modules/camera", signature(module)) == 200
    assert status(http, "/devices", signature(device)) == 401
    twinfold("device", "update", "edge-1", "--no-enabled")
    for one, path in ((device, "/v1/devices/edge-1/desired"), (module, "/devices/edge-1/modules/camera")):
        eventually(lambda: status(http, path, signature(one)) == 401, what="it is turned away")  # noqa: B023


@pytest.mark.full
def test_changing_a_device_leaves_its_keys(twinfold: Run) -> None:
    twinfold("device", "create", "kept")
    before = twinfold("connection-string", "--device", "kept")
    twinfold("device", "update", "kept", "--status-reason", "moved")
    assert twinfold("connection-string", "--device", "kept") == before


@pytest.mark.full
def test_a_planted_key_is_nowhere_in_the_log(data: Path, http: httpx.Client, twinfold: Run) -> None:
    keys = {"primaryKey": PLANTED, "secondaryKey": PLANTED}
    body = {"authentication": {"type": "sas", "symmetricKey": keys}}
    made = http.put("/devices/planted", json=body).raise_for_status().json()
    assert made["authentication"]["symmetricKey"] == keys
    http.put("/devices/planted", json={**body, "status": "disabled"}, headers={"If-Match": "*"}).raise_for_status()
    http.put("/devices/planted", json=body, headers={"If-Match": "*"}).raise_for_status()
    http.put("/devices/planted/modules/m", json=body).raise_for_status()
    owned = {**body, "managedBy": "planter"}
    http.put("/devices/planted/modules/m", json=owned, headers={"If-Match": "*"}).raise_for_status()
    http.post("/devices", json=[{"id": "planted-2", "importMode": "create", **body}]).raise_for_status()
    assert PLANTED in twinfold("connection-string", "--device", "planted-2")
    policy = twinfold("connection-string").strip().rpartition("SharedAccessKey=")[2]
    secret = (data / "admin.token").read_text().split("_", 2)[2]
    log = twinfold("log")
    assert "ModuleUpdated" in log
    kept = b"".join(path.read_bytes() for path in (data / "redis").rglob("*") if path.is_file())
    assert b"ModuleUpdated" in kept
    for text in (PLANTED, policy, secret):
        assert text not in log
        assert text.encode() not in kept
    assert base64.b64decode(PLANTED) not in kept


@pytest.mark.full
def test_commands_that_look_at_the_log_find_it_by_the_data_directory(twinfold: Run) -> None:
    assert twinfold("blocked") == "no partition is stopped\n"
    assert "no difference" in twinfold("replay", "--partition", "fleet", "--workers", "1")
    assert "everything is as it was sealed" in twinfold("audit", "verify")
    assert "rebuilt" in twinfold("rebuild", "--partition", "p00", "--workers", "1")


def test_a_token_does_what_its_role_may_until_it_is_revoked(http: httpx.Client, twinfold: Run) -> None:
    issued = twinfold("token", "issue", "ada", "--role", "read", "--expires", "12h").strip()
    shown = token_header(issued)
    assert status(http, "/devices", shown) == 200
    assert status(http, "/devices/other", shown, "PUT", json={}) == 401
    assert status(http, "/v1/events", shown) == 401
    token_id, secret = issued.split("_", 2)[1:]
    listed = twinfold("token", "list")
    assert (token_id in listed, "ada" in listed, secret in listed) == (True, True, False)
    assert twinfold("token", "revoke", token_id) == f"{token_id} is revoked\n"
    assert token_id not in twinfold("token", "list")
    eventually(lambda: status(http, "/devices", shown) == 401, what="it opens nothing")


def test_a_token_opens_nothing_once_its_time_is_over(data: Path, http: httpx.Client) -> None:
    now = int(time.time() * 1000)
    with open_producer(f"unix://{data}/redis/redis.sock") as producer:
        over = issue_token(producer, name="ada", role="read", expires_at=now)
        good = issue_token(producer, name="ada", role="read", expires_at=now + 3_600_000)
    assert status(http, "/devices", token_header(over)) == 401
    assert status(http, "/devices", token_header(good)) == 200


@pytest.mark.full
def test_a_scoped_token_reaches_the_devices_in_its_scope_and_nothing_else(http: httpx.Client, twinfold: Run) -> None:
    twinfold("device", "create", "north-1", "--tag", "site=north")
    twinfold("device", "create", "south-1", "--tag", "site=south")
    issued = twinfold("token", "issue", "bo", "--role", "operate", "--scope", "tags.site = 'north'")
    shown = token_header(issued)
    assert status(http, "/twins/north-1", shown) == 200
    assert status(http, "/twins/north-1", shown, "PATCH", json={"tags": {"floor": 2}}) == 200
    assert status(http, "/devices/north-1/modules", shown) == 200
    for path in ("/twins/south-1", "/devices/south-1", "/v1/devices/south-1/assignments", "/twins/nobody"):
        assert status(http, path, shown) == 404, path
    for path in ("/metrics", "/v1/tokens", "/nowhere"):
        assert status(http, path, shown) == 401, path


@pytest.mark.full
def test_a_line_of_events_needs_the_permission_of_its_command(http: httpx.Client, twinfold: Run) -> None:
    twinfold("device", "create", "lines")
    service = signature(twinfold("connection-string", "--policy", "service"))
    lines = (
        b'{"command": "PatchTags", "device_id": "lines", "tags": {"a": 1}}\n'
        b'{"command": "UpdateDevice", "device_id": "lines", "enabled": false}\n'
        b'{"command": "RegisterDevice", "device_id": "lines-2"}\n'
        b'{"command": "DeleteDeployment", "deployment_id": "a"}\n'
    )
    answer = http.post("/v1/events", headers=service, content=lines).raise_for_status().json()
    assert (answer["written"], [one["line"] for one in answer["refused"]]) == (1, [2, 3, 4])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    shortened(
        [
            (["connection-string", "--policy", "nobody"], 1, "there is no policy 'nobody'"),
            (["connection-string", "--device", "nobody"], 1, "no device 'nobody'"),
            (["policy", "create", "service", "ServiceConnect"], 1, "already"),
            (["policy", "create", "x", "Admin"], 1, "one or more of the permissions"),
            (["policy", "rotate", "nobody"], 1, "there is no policy 'nobody'"),
            (["policy", "delete", "nobody"], 1, "there is no policy 'nobody'"),
            (["policy", "delete", "service"], 1, "built in"),
            (["token", "issue", "a b"], 1, "1 to 64 ASCII"),
            (["token", "issue", "ada", "--role", "owner"], 1, "read, operate, admin"),
            (["token", "issue", "ada", "--role", "admin", "--scope", "*"], 1, "an admin cannot be scoped"),
            (["token", "issue", "ada", "--expires", "soon"], 2, "30m, 12h or 90d"),
            (["token", "issue", "ada", "--expires", "0h"], 2, "30m, 12h or 90d"),
            (["token", "revoke", "nobody"], 1, "there is no token 'nobody'"),
        ],
        keep=4,
    ),
)
def test_what_may_not_be_says_why(twinfold: Run, words: list[str], code: int, said: str) -> None:
    assert said in " ".join(twinfold(*words, code=code).split())


@pytest.mark.full
def test_an_identity_without_a_key_has_no_connection_string(http: httpx.Client, twinfold: Run) -> None:
    bare = {"command": "RegisterDevice", "device_id": "bare", "authentication": KEYS_DECLINED}
    http.post("/v1/events", json=bare).raise_for_status()
    assert "no symmetric key" in twinfold("connection-string", "--device", "bare", code=1)
    assert "has no module" in twinfold("connection-string", "--device", "bare/m", code=1)


@pytest.mark.full
def test_a_directory_that_nothing_served_from_is_usage(tmp_path: Path) -> None:
    for words in (["ca"], ["connection-string"]):
        assert "no `twinfold up` has worked there" in run_on(tmp_path, *words, code=2)
        given = waiting.run([sys.executable, "-m", "services.cli", *words, "--data", str(tmp_path)], text=False)
        assert given.returncode == 2


OS_USER = pwd.getpwuid(os.getuid()).pw_name


def authors(twinfold: Run, event: str, subject: str) -> set[str]:
    """Who the log says changed a subject."""
    lines = [json.loads(line) for line in twinfold("log", "--json").splitlines()]
    return {line["by"] for line in lines if (line["type"], line["subject"]) == (event, subject)}


def test_without_a_token_changes_are_recorded_under_the_operating_systems_user(twinfold: Run) -> None:
    twinfold("device", "create", "by-hand")
    twinfold("policy", "create", "by-hand", "RegistryRead", LOGNAME="mallory", USER="mallory")
    assert authors(twinfold, "DeviceRegistered", "by-hand") == {f"user:{OS_USER}"}
    assert authors(twinfold, "PolicyDefined", "policy:by-hand") == {f"user:{OS_USER}"}
    shown = twinfold("whoami")
    assert shown.startswith(f"user:{OS_USER} (admin) at https://localhost:")
    assert "admin.token" in shown
    assert f"record user:{OS_USER}" in shown


def test_a_login_is_the_author_until_the_logout(twinfold: Run, data: Path) -> None:
    issued = twinfold("token", "issue", "grace", "--role", "admin", "--expires", "12h")
    said = twinfold("login", typed=issued)
    assert said.startswith("logged in at https://localhost:")
    assert "user:grace (admin; until " in said
    file = data.parent / "logins" / "logins.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    try:
        assert json.loads(twinfold("whoami", "--json"))["tokenSource"] == str(file)
        twinfold("device", "create", "by-grace")
        twinfold("policy", "create", "by-grace", "RegistryRead")
        assert authors(twinfold, "DeviceRegistered", "by-grace") == {"user:grace"}
        assert authors(twinfold, "PolicyDefined", "policy:by-grace") == {"user:grace"}
        other = twinfold("token", "issue", "hedy", "--role", "operate").strip()
        twinfold("device", "create", "by-hedy", TWINFOLD_TOKEN=other)
        assert authors(twinfold, "DeviceRegistered", "by-hedy") == {"user:hedy"}
    finally:
        assert twinfold("logout").startswith("logged out at https://localhost:")
    assert "no login is stored" in twinfold("logout", code=1)
    assert twinfold("whoami").startswith(f"user:{OS_USER} ")


@pytest.mark.full
def test_a_token_that_opens_nothing_is_neither_stored_nor_taken_for_an_author(twinfold: Run, data: Path) -> None:
    wrong = f"twf_0a1b_{'x' * 32}"
    assert wrong not in twinfold("login", typed=wrong, code=1)
    assert "one line" in " ".join(twinfold("login", typed="", code=2).split())
    refused = twinfold("policy", "create", "by-nobody", "RegistryRead", TWINFOLD_TOKEN=wrong, code=1)
    assert "the token of TWINFOLD_TOKEN is not accepted" in refused
    assert wrong not in refused
    assert "by-nobody" not in twinfold("policy", "list")
    assert (
        not (data.parent / "logins" / "logins.json").exists()
        or wrong not in (data.parent / "logins" / "logins.json").read_text()
    )


@pytest.mark.full
def test_the_administrators_token_is_not_shown_to_another_server(twinfold: Run) -> None:
    with received_headers() as (url, headers):
        twinfold("whoami", "--api-url", url, code=1)
    assert headers
    assert all("authorization" not in one for one in headers)


@contextlib.contextmanager
def received_headers() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that is not twinfold's, with the headers that it was sent."""
    headers: list[dict[str, str]] = []

    class Handler(http_server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers.append({name.lower(): value for name, value in self.headers.items()})
            self.send_error(401)

        def log_message(self, *_: object) -> None: ...

    with http_server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", headers
        finally:
            server.shutdown()
            serving.join()
