"""Shared access signatures as every client spells them, alone and against an API that asks for them."""

import base64
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from events.access.commands import DefinePolicy
from events.access.state import PolicyDocument
from services.api.auth import sas
from services.api.auth.sas import CLOCK_SKEW_SECONDS, SignatureMalformed
from services.credentials import new_key, policies
from tests.api.serving import Guarded, guarded
from tests.api.signing import HOUR, SERVICE_CLIENTS, by_node, signed
from tests.servers import eventually

KEY = base64.b64encode(b"k" * 32).decode()
# Its signatures of HOST hold both `/` and `+`, which clients encode differently.
EXPIRY = next(
    expiry
    for expiry in range(2_000_000_000, 2_000_001_000)
    if {"/", "+"} <= set(base64.b64encode(sas.read(by_node(KEY, "Hub.local:8443", "service", expiry)).digest).decode())
)

ServiceClient = Callable[[str, str, str, int], str]


# -- alone


@pytest.mark.parametrize("client", SERVICE_CLIENTS)
def test_each_client_is_read_alike(client: ServiceClient) -> None:
    read = sas.read(client(KEY, "Hub.local:8443", "service", EXPIRY))
    assert (read.policy, read.host, read.path, read.expiry) == ("service", "hub.local:8443", "", EXPIRY)
    assert read.is_of(KEY)
    assert not read.is_of(base64.b64encode(b"K" * 32).decode())


@pytest.mark.parametrize("name", ["a+b", "ada@example.com", "a.b-c_d"])
@pytest.mark.parametrize("client", SERVICE_CLIENTS)
def test_a_policy_of_any_name_is_read(client: ServiceClient, name: str) -> None:
    assert sas.read(client(KEY, "hub", name, EXPIRY)).policy == name


@pytest.mark.parametrize("device_id", ["edge1", "Edge1", "a+b", "50%", "a%2Fb", "x?y#z", "policy:service"])
def test_a_device_of_any_name_is_read(device_id: str) -> None:
    for resource in (f"Hub:1/devices/{device_id}", f"Hub:1/devices/{device_id}/modules/$edgeAgent"):
        read = sas.read(signed(KEY, resource))
        assert (read.policy, read.host + read.path) == ("", "hub:1" + resource.removeprefix("Hub:1"))
        assert read.is_of(KEY)


@pytest.mark.parametrize(
    ("of", "asked", "covered"),
    [
        ("hub.local", "hub.local", True),
        ("Hub.Local", "hub.local:8080", True),
        ("hub.local:8080", "HUB.LOCAL:8080", True),
        ("hub.local:443", "hub.local", True),
        ("hub.local:8080", "hub.local:8081", False),
        ("hub.local", "hub.local.evil", False),
        ("hub.loca", "hub.local", False),
        ("", "hub.local", False),
        ("[::1]:8080", "[::1]:8080", True),
        ("[::1]", "[::1]:8080", True),
        ("[::2]", "[::1]:8080", False),
    ],
)
def test_hosts_are_the_same_whatever_their_case_and_with_or_without_a_port(
    of: str, asked: str, *, covered: bool
) -> None:
    assert sas.read(signed(KEY, of)).covers(asked, "/devices") is covered


@pytest.mark.parametrize(
    ("of", "path", "covered"),
    [
        ("/devices/d", "/devices/d", True),
        ("/devices/d", "/devices/d/modules/m", True),
        ("/devices/d/", "/devices/d/modules", True),
        ("/devices/d", "/devices/d2", False),
        ("/devices/d", "/devices/D", True),
        ("/devices/d", "/twins/d", False),
        ("/devices/d/modules/m", "/devices/d/modules/n", False),
        ("/devices/d", "/devices", False),
        ("/", "/configurations", True),
    ],
)
def test_a_signature_reaches_what_it_names_and_what_is_below(of: str, path: str, *, covered: bool) -> None:
    assert sas.read(signed(KEY, f"hub{of}")).covers("hub", path) is covered


def test_an_expiry_is_waited_for_a_minute_longer() -> None:
    read = sas.read(by_node(KEY, "hub", "service", 1000))
    assert not read.is_expired(1000 + CLOCK_SKEW_SECONDS - 0.001)
    assert read.is_expired(1000 + CLOCK_SKEW_SECONDS)
    assert CLOCK_SKEW_SECONDS == 60


GOOD = "SharedAccessSignature sr=hub&sig=c2ln&se=2000000000&skn=service"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "SharedAccessSignature",
        GOOD.replace("SharedAccessSignature ", ""),
        GOOD.replace("sr=hub&", ""),
        GOOD.replace("sig=c2ln&", ""),
        GOOD.replace("&se=2000000000", ""),
        GOOD + "&sr=hub",
        GOOD + "&se=2000000001",
        GOOD + "&skn=iothubowner",
        GOOD + "&",
        GOOD + "&skn",
        GOOD.replace("2000000000", "-1"),
        GOOD.replace("2000000000", "2e9"),
        GOOD.replace("2000000000", "\u0662" + "0" * 9),
        GOOD.replace("2000000000", "9" * 13),
        GOOD.replace("2000000000", " 2000000000"),
        GOOD.replace("c2ln", "c2l"),
        GOOD.replace("c2ln", "c2ln%0A"),
        GOOD.replace("c2ln", "%ff%ff"),
        GOOD.replace("SharedAccessSignature", "Basic"),
        GOOD + "&x=" + "y" * 5000,
    ],
)
def test_what_is_no_signature_is_refused_and_nothing_of_it_quoted(header: str) -> None:
    with pytest.raises(SignatureMalformed) as refused:
        sas.read(header)
    assert "c2l" not in str(refused.value)
    assert "hub" not in str(refused.value)


# -- over HTTP


def _status(gate: Guarded, authorization: str, path: str = "/devices") -> int:
    return gate.http.get(path, headers={"Authorization": authorization}).status_code


@pytest.mark.redis_server
@pytest.mark.parametrize("client", SERVICE_CLIENTS)
@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "127.0.0.1"])
def test_each_service_client_comes_in(gate: Guarded, client: ServiceClient, host: str) -> None:
    named = host.format(port=gate.http.base_url.port)
    assert _status(gate, client(gate.key("registryRead"), named, "registryRead", int(time.time()) + HOUR)) == 200


@pytest.mark.redis_server
@pytest.mark.parametrize("client", SERVICE_CLIENTS)
def test_a_host_comes_in_whatever_its_case(gate: Guarded, client: ServiceClient) -> None:
    port = gate.http.base_url.port
    header = client(gate.key("registryRead"), f"LocalHost:{port}", "registryRead", int(time.time()) + HOUR)
    asked = {"Authorization": header, "Host": f"localhost:{port}"}
    assert gate.http.get("/devices", headers=asked).status_code == 200
    assert gate.http.get("/devices", headers={**asked, "Host": "elsewhere"}).status_code == 401


@pytest.mark.redis_server
def test_the_skew_of_clocks_is_let_pass_and_no_more(gate: Guarded) -> None:
    key, now = gate.key("registryRead"), int(time.time())
    assert _status(gate, by_node(key, gate.host, "registryRead", now - 30)) == 200
    assert _status(gate, by_node(key, gate.host, "registryRead", now - 61)) == 401


@pytest.mark.redis_server
@pytest.mark.parametrize("device_id", ["edge1", "a+b", "50%", "x?y#z", "policy:service", "token:a", "d$"])
def test_devices_and_modules_of_any_name_come_in_with_either_key(gate: Guarded, device_id: str) -> None:
    path = f"/devices/{_quoted(device_id)}"
    owner = gate.policy()
    made = gate.http.put(path, json={}, headers=owner).json()
    module = gate.http.put(f"{path}/modules/mine", json={}, headers=owner).json()
    for name in ("primaryKey", "secondaryKey"):
        own = gate.device(device_id, key=made["authentication"]["symmetricKey"][name])
        assert gate.http.get(f"{path}/modules", headers=own).status_code == 200
        of_module = gate.device(device_id, "mine", key=module["authentication"]["symmetricKey"][name])
        assert gate.http.get(f"{path}/modules/mine", headers=of_module).status_code == 200
        assert gate.http.get(f"{path}/modules", headers=of_module).status_code == 401
    gate.http.delete(path, headers={**owner, "If-Match": "*"})


def _quoted(name: str) -> str:
    return name.replace("%", "%25").replace("?", "%3F").replace("#", "%23")


@pytest.mark.redis_server
def test_keys_are_changed_without_a_moment_in_which_nobody_comes_in(gate: Guarded) -> None:
    def comes_in(key: str) -> bool:
        return _status(gate, signed(key, gate.host, policy="service"), "/twins/missing") == 404

    first, second = gate.key("service"), _secondary(gate, "service")
    assert comes_in(first)
    assert comes_in(second)
    third = new_key()
    gate.give_keys("service", third, first)
    assert comes_in(first)
    eventually(lambda: comes_in(third), what="the new primary key opens")
    eventually(lambda: not comes_in(second), what="the former secondary key opens no more")
    assert comes_in(first)
    gate.give_keys("service", third, new_key())
    eventually(lambda: not comes_in(first), what="the former primary key opens no more")
    assert comes_in(third)


def _secondary(gate: Guarded, policy: str) -> str:
    document: PolicyDocument = dict(policies(gate.system.log))[policy]
    return str(gate.vault.opened.reveal(document.secondary_key))


@pytest.mark.redis_server
def test_a_policy_of_ones_own_comes_in_until_it_is_deleted(gate: Guarded) -> None:
    key = new_key()
    gate.producer.do(DefinePolicy("dash+board", ("RegistryRead",), key, new_key(), new=True))
    for client in SERVICE_CLIENTS:
        assert _status(gate, client(key, gate.host, "dash+board", int(time.time()) + HOUR)) == 200


@pytest.mark.redis_server
def test_a_key_written_in_another_process_counts_in_this_one(gate: Guarded, tmp_path: Path) -> None:
    with guarded(gate.system, tmp_path, TWINFOLD_KEY_FILE=str(gate.directory / "master.key")) as other:
        other_http = other.http
        made = other_http.put("/devices/far", json={}, headers={"Authorization": _owner(gate, other.host)}).json()
    own = gate.device("far", key=made["authentication"]["symmetricKey"]["primaryKey"])
    assert gate.http.get("/devices/far/modules", headers=own).status_code == 200


def _owner(gate: Guarded, host: str) -> str:
    return signed(gate.key("iothubowner"), host, policy="iothubowner")
