"""Updates and groups over our own paths, with real workers: secrets, reasons, scopes, and what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from services.embedded_redis import EmbeddedRedis
from tests.api.serving import Guarded, guarded
from tests.servers import eventually
from tests.workers.system import answer_of, base, fresh_system, hub_answer_of, layer

pytestmark = pytest.mark.redis_server

PASSWORD = "planted-registry-password-0042"


@pytest.fixture(scope="module")
def gate(shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    directory: Path = tmp_path_factory.mktemp("gate")
    with (
        fresh_system(shared_redis) as system,
        system.process("-m", "workers.pool"),
        system.process("-m", "services.scheduler"),
        guarded(system, directory) as found,
    ):
        yield found


class Operator:
    """Somebody with a token."""

    def __init__(self, gate: Guarded, role: str = "operate", **how: Any) -> None:
        self._http, self._headers = gate.http, gate.token(role, **how)

    def call(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        path, _, query = path.partition("?")
        answer = self._http.request(method, path, params=dict(parse_qsl(query)), json=body, headers=self._headers)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def counts(self, group: str, name: str) -> dict[str, int]:
        found = self.call("GET", f"/v1/groups/{group}/deployments/{name}")["counts"]
        return {state: count for state, count in found.items() if count}

    def sizes(self) -> dict[str, int]:
        return {one["group"]: one["devices"] for one in self.call("GET", "/v1/groups")}

    def devices(self, group: str, name: str, state: str) -> list[dict[str, str]]:
        path = f"/v1/groups/{group}/deployments/{name}/devices"
        found: list[dict[str, str]] = self.call("GET", f"{path}?state={state}")["devices"]
        return found


@pytest.fixture(scope="module")
def ada(gate: Guarded) -> Operator:
    return Operator(gate)


def content(password: Any = PASSWORD, *, version: str = "1.0") -> dict[str, Any]:
    found = base("m", image=f"example.com/camera:{version}")
    agent = found["modulesContent"]["$edgeAgent"]["properties.desired"]
    agent["runtime"]["settings"]["registryCredentials"] = {
        "mine": {"address": "example.com", "username": "u", "password": password}
    }
    return found


def register(gate: Guarded, *names: str, **tags: str) -> None:
    for name in names:
        gate.register(name, capabilities={"iotEdge": True})
        gate.http.patch(f"/twins/{name}", json={"tags": tags}, headers=gate.policy()).raise_for_status()


def report(gate: Guarded, name: str, *, code: int = 200, **said: Any) -> None:
    versions = gate.http.get(f"/v1/devices/{name}/effective", headers=gate.policy()).json()["versions"]
    patch = answer_of(versions["$edgeAgent"], code=code, m="running")
    patch["lastDesiredStatus"] |= said
    for module, reported in (("$edgeAgent", patch), ("$edgeHub", hub_answer_of(versions["$edgeHub"]))):
        body = {"patch": reported, "moduleId": module}
        gate.http.post(f"/v1/devices/{name}/reports", json=body, headers=gate.policy()).raise_for_status()


def test_a_secret_of_an_update_reaches_its_devices_and_nobody_else(gate: Guarded, ada: Operator) -> None:
    register(gate, "secret-1", ADUGroup="secret")
    told = ada.call("PUT", "/v1/updates/contoso/secret/1.0", {"content": content()})
    shown = ada.call("GET", "/v1/updates/contoso/secret/1.0")
    assert (told["condition"], told["update"]) == ("*", "contoso/secret/1.0")
    assert PASSWORD not in str(shown)
    assert "$secret" in str(shown["content"])
    ada.call("PUT", "/v1/groups/secret/deployments/1", {"update": "contoso/secret/1.0"})

    def told_to_the_device() -> str:
        headers = gate.device("secret-1")
        return gate.http.get("/v1/devices/secret-1/desired", headers=headers).text

    eventually(lambda: PASSWORD in told_to_the_device(), what="the device has its password")
    client = gate.system.log.client
    assert not [name for name in client.scan_iter() if PASSWORD.encode() in (client.dump(name) or b"")]
    assert PASSWORD not in gate.said()


def test_a_failed_device_is_listed_whatever_its_hub_reports_as_a_code(gate: Guarded, ada: Operator) -> None:
    register(gate, "odd-1", ADUGroup="odd")
    ada.call("PUT", "/v1/updates/contoso/odd/1.0", {"content": base("m")})
    ada.call("PUT", "/v1/groups/odd/deployments/1", {"update": "contoso/odd/1.0"})
    eventually(lambda: ada.counts("odd", "1") == {"InProgress": 1}, what="the device has it")
    versions = gate.http.get("/v1/devices/odd-1/effective", headers=gate.policy()).json()["versions"]
    odd = {"lastDesiredVersion": versions["$edgeHub"], "lastDesiredStatus": {"code": ["?"]}}
    for module, reported in (("$edgeHub", odd), ("$edgeAgent", answer_of(versions["$edgeAgent"], m="failed"))):
        body = {"patch": reported, "moduleId": module}
        gate.http.post("/v1/devices/odd-1/reports", json=body, headers=gate.policy()).raise_for_status()
    eventually(lambda: ada.counts("odd", "1") == {"Failed": 1}, what="its module has failed")
    assert [one["reason"] for one in ada.devices("odd", "1", "Failed")] == ["its $edgeHub answered ['?']"]


def test_every_state_of_a_device_has_its_reason(gate: Guarded, ada: Operator) -> None:
    names = [f"why-{number}" for number in range(4)]
    register(gate, *names, ADUGroup="why")
    ada.call("PUT", "/v1/updates/contoso/why/1.0", {"content": base("m")})
    eventually(lambda: ada.sizes().get("why") == 4, what="the group is seen")
    plan = {"phases": [{"count": 3, "gate": {"success_percent": 0, "answered_min": 4}}, {"percent": 100}]}
    ada.call("PUT", "/v1/groups/why/deployments/1", {"update": "contoso/why/1.0", "plan": plan})
    eventually(lambda: ada.counts("why", "1") == {"NotStarted": 1, "InProgress": 3}, what="the first have it")
    first, second, _ = (one["deviceId"] for one in ada.devices("why", "1", "InProgress"))
    report(gate, first)
    report(gate, second, code=500, description="no space left")
    after = {"NotStarted": 1, "InProgress": 1, "Succeeded": 1, "Failed": 1}
    eventually(lambda: ada.counts("why", "1") == after, what="two have answered")
    assert {state: len(ada.devices("why", "1", state)) for state in after} == after
    reasons = {
        one["state"]: one["reason"] for one in ada.call("GET", "/v1/groups/why/deployments/1/devices")["devices"]
    }
    assert reasons == {
        "NotStarted": "the device is not among those admitted so far",
        "InProgress": "it has not answered yet",
        "Succeeded": "it answered that all is well",
        "Failed": "it answered 500: no space left",
    }
    canceled = ada.call("POST", "/v1/groups/why/deployments/1/cancel", {"reason": "enough"})
    assert (canceled["state"], canceled["reason"], canceled["rollout"]) == ("Canceled", "enough", "aborted")
    eventually(lambda: ada.counts("why", "1").get("Canceled") == 1, what="the last one never gets it")
    for what in ("retry", "cancel"):
        refused = ada.call("POST", f"/v1/groups/why/deployments/1/{what}", {}, status=409)
        assert refused["error"]["code"] == "DeploymentStateConflict"
    page = ada.call("GET", "/v1/groups/why/deployments/1/devices?top=3")
    rest = ada.call("GET", f"/v1/groups/why/deployments/1/devices?continuation={page['continuation']}")
    assert sorted(one["deviceId"] for one in [*page["devices"], *rest["devices"]]) == names
    ada.call("DELETE", "/v1/groups/why/deployments/1", status=204)
    ada.call("DELETE", "/v1/groups/why", status=204)


def test_an_update_may_be_a_layer_for_a_group_by_a_condition(gate: Guarded, ada: Operator) -> None:
    register(gate, "layered-1", site="here")
    gate.http.post(
        "/v1/deployments/base",
        json={"content": base("m"), "targetCondition": "tags.site = 'here'"},
        headers=gate.policy(),
    ).raise_for_status()
    ada.call("PUT", "/v1/groups/here", {"condition": "tags.site = 'here'"})
    ada.call("PUT", "/v1/updates/contoso/over/1.0", {"content": layer("x")})
    ada.call("PUT", "/v1/groups/here/deployments/1", {"update": "contoso/over/1.0"})
    eventually(lambda: ada.counts("here", "1") == {"InProgress": 1}, what="the layer is on the device")
    layers = ada.call("GET", "/v1/devices/layered-1/effective")["layers"]
    assert layers == ["base", "update+here+1"]
    # It belongs to its group.
    assert ada.call("DELETE", "/configurations/update+here+1", status=409)
    assert (
        ada.call("PUT", "/v1/groups/here", {"condition": "*"}, status=409)["error"]["code"] == "DeploymentStateConflict"
    )


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/v1/updates/contoso/c/one", {"content": base("m")}, 400),
        ("PUT", "/v1/updates/contoso/c/1.0", {"content": {"modulesContent": {"$edgeAgent": 1}}}, 400),
        ("PUT", "/v1/updates/contoso/c/1.0", {"content": base("m"), "compatibility": [{"condition": "tags."}]}, 400),
        ("PUT", "/v1/groups/g", {"condition": "tags."}, 400),
        ("PUT", "/v1/groups/g/deployments/1", {"update": "contoso"}, 400),
        ("PUT", "/v1/groups/g/deployments/1", {"update": "contoso/missing/1.0"}, 404),
        ("PUT", "/v1/groups/g/deployments/1", {"update": "contoso/missing/1.0", "plan": {"phases": 1}}, 400),
        ("PUT", "/v1/groups/g/deployments/1", {"update": "a/b/1.0", "plan": {"phases": []}}, 400),
        ("GET", "/v1/groups/nobody", None, 404),
        ("GET", "/v1/groups/nobody/deployments", None, 404),
        ("GET", "/v1/groups/nobody/deployments/1", None, 404),
        ("DELETE", "/v1/groups/nobody", None, 404),
        ("GET", "/v1/updates/contoso/missing/1.0", None, 404),
        ("DELETE", "/v1/updates/contoso/missing/1.0", None, 404),
    ],
)
def test_what_cannot_be_is_refused(ada: Operator, method: str, path: str, body: Any, status: int) -> None:
    assert ada.call(method, path, body, status=status)["error"]["message"]


def test_of_two_wrong_updates_the_answer_names_the_one_to_deploy(ada: Operator) -> None:
    policy = {"update": "former", "percent": 10}
    refused = ada.call("PUT", "/v1/groups/g/deployments/1", {"update": "contoso", "policy": policy}, status=400)
    assert "'contoso'" in refused["error"]["message"]
    body = {
        "groupId": "$default",
        "deploymentId": "1",
        "startDateTime": "2026-01-01",
        "update": {},
        "rollbackPolicy": {},
    }
    path = "/deviceUpdate/x/management/groups/$default/deployments/1?api-version=2022-10-01"
    message = ada.call("PUT", path, body, status=400)["error"]["message"]
    assert message == "update.updateId requires provider, name and version"


def test_a_continuation_of_something_else_is_refused(gate: Guarded, ada: Operator) -> None:
    register(gate, "page-1", "page-2", "page-3")
    eventually(lambda: len(ada.call("GET", "/v1/devices?top=1000")["devices"]) >= 3, what="all are seen")
    query = {"query": "SELECT deviceId FROM devices"}
    answer = gate.http.post("/devices/query", json=query, headers={**gate.policy(), "x-ms-max-item-count": "1"})
    token = answer.headers["x-ms-continuation"]
    for list_ in ("devices", "groups"):
        path = f"/deviceUpdate/x/management/{list_}?api-version=2022-10-01"
        assert ada.call("GET", path)["value"]
        refused = ada.call("GET", f"{path}&after={token}", status=400)
        assert set(refused["error"]) == {"code", "message"}
    ada.call("GET", f"/v1/groups/%24default?api-version=1&continuation={token}")


def test_whoever_is_scoped_or_only_reads_changes_nothing(gate: Guarded) -> None:
    scoped, reader = Operator(gate, scope="tags.site = 'here'"), Operator(gate, "read")
    for path in ("/v1/updates", "/v1/groups", "/v1/groups/here/deployments"):
        scoped.call("GET", path, status=401)
        reader.call("GET", path)
    for who in (scoped, reader):
        who.call("PUT", "/v1/updates/contoso/c/1.0", {"content": base("m")}, status=401)
        who.call("POST", "/v1/groups/here/deployments/1/cancel", {}, status=401)
