"""The Python library of the update service, as it is published, over TLS: one story from an import to a retry."""

import base64
import datetime as dt
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from azure.core import MatchConditions
from azure.core.credentials import AccessToken
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    ResourceNotModifiedError,
)
from azure.iot.deviceupdate import DeviceUpdateClient

from services.api.device_update.updates import HANDLER
from tests.clients.serving import Hub, printed
from tests.servers import eventually
from tests.workers.system import answer_of, base, hub_answer_of

pytestmark = pytest.mark.redis_server

HOST = "localhost"
ANY_TIME = "2020-01-01T00:00:00Z"


class Static:
    """A credential that is what it was given; the library asks for one that could be renewed."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_token(self, *_scopes: str, **_how: Any) -> AccessToken:
        return AccessToken(self._token, int(time.time()) + 3600)


@pytest.fixture(scope="module")
def clients(running: Hub) -> Iterator[Callable[..., DeviceUpdateClient]]:
    """Clients of some api-version, with the directory's own token or another."""
    token = running.admin.headers["authorization"].removeprefix("Bearer ")

    def aim(request: Any) -> None:
        """The library knows a host and no port: what a server on 443 would get goes to the test's."""
        http_request = request.http_request
        http_request.url = http_request.url.replace(f"https://{HOST}", str(running.admin.base_url).rstrip("/"), 1)

    def made(api_version: str = "2022-10-01", given: str = token) -> DeviceUpdateClient:
        return DeviceUpdateClient(
            endpoint=HOST,
            instance_id="any",
            credential=Static(given),
            api_version=api_version,
            retry_total=0,
            raw_request_hook=aim,
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", str(running.ca))
        yield made


@pytest.fixture(scope="module")
def client(clients: Callable[..., DeviceUpdateClient]) -> DeviceUpdateClient:
    return clients()


def refused(call: Callable[[], Any]) -> tuple[int, str]:
    """Status and code of a refusal, as the library reads them from the envelope."""
    with pytest.raises(HttpResponseError) as caught:
        call()
    assert caught.value.error is not None
    assert caught.value.error.message
    return caught.value.status_code, caught.value.error.code


def url(document: Any) -> dict[str, Any]:
    data = json.dumps(document).encode()
    return {
        "url": f"data:application/json;base64,{base64.b64encode(data).decode()}",
        "sizeInBytes": len(data),
        "hashes": {"sha256": base64.b64encode(hashlib.sha256(data).digest()).decode()},
    }


def to_import(name: str, version: str, *, content: Any = None, **manifest: Any) -> list[Any]:
    """What `begin_import_update` takes, as the library's own examples have it."""
    held = url(content or base("m", image=f"example.com/{name}:{version}"))
    said = {
        "updateId": {"provider": "contoso", "name": name, "version": version},
        "description": f"version {version}",
        "compatibility": [],
        "instructions": {"steps": [{"handler": HANDLER, "files": ["manifest.json"]}]},
        "files": [{"filename": "manifest.json", "sizeInBytes": held["sizeInBytes"], "hashes": held["hashes"]}],
        "manifestVersion": "5.0",
        **manifest,
    }
    return [
        {
            "importManifest": url(said),
            "friendlyName": f"{name} {version}",
            "files": [{"fileName": "manifest.json", "url": held["url"]}],
        }
    ]


def update_id(name: str, version: str) -> dict[str, str]:
    return {"provider": "contoso", "name": name, "version": version}


def deployment(group: str, name: str, version: str, *, update: str = "camera", **members: Any) -> dict[str, Any]:
    return {
        "deploymentId": name,
        "groupId": group,
        "startDateTime": ANY_TIME,
        "update": {"updateId": update_id(update, version)},
        **members,
    }


def imported(client: DeviceUpdateClient, name: str, *versions: str, **members: Any) -> None:
    for version in versions:
        client.device_update.begin_import_update(to_import(name, version, **members)).result()


def registered(http: httpx.Client, group: str, *names: str, **tags: str) -> None:
    lines = [
        {"id": name, "importMode": "create", "capabilities": {"iotEdge": True}, "tags": {"ADUGroup": group, **tags}}
        for name in names
    ]
    for start in range(0, len(lines), 100):
        assert http.post("/devices", json=lines[start : start + 100]).json()["isSuccessful"]


def joined(client: DeviceUpdateClient, group: str, devices: int) -> None:
    """Wait until a group is seen to have so many devices."""

    def seen() -> bool:
        counts = {one["groupId"]: one["deviceCount"] for one in client.device_management.list_groups()}
        return bool(counts.get(group) == devices)

    eventually(seen, what=f"{group} has {devices} devices")


def answers(http: httpx.Client, device: str, *, code: int = 200) -> None:
    """A device reports how it went with what it should run now."""
    versions = http.get(f"/v1/devices/{device}/effective").json()["versions"]
    patch = answer_of(versions["$edgeAgent"], code=code, m="running" if code == 200 else "failed")
    for module, reported in (("$edgeAgent", patch), ("$edgeHub", hub_answer_of(versions["$edgeHub"]))):
        body = {"patch": reported, "moduleId": module}
        assert http.post(f"/v1/devices/{device}/reports", json=body).status_code == 204


def version_of(http: httpx.Client, device: str) -> int:
    versions: dict[str, int] = http.get(f"/v1/devices/{device}/effective").json()["versions"]
    return versions.get("$edgeAgent", 0)


def run(http: httpx.Client, device: str) -> str:
    """The image that a device should run."""
    answer = http.get(f"/v1/devices/{device}/effective")
    # Whoever was registered a moment ago is not known yet.
    found = answer.json()["modules"].get("$edgeAgent") if answer.is_success else None
    return str(found["modules"]["m"]["settings"]["image"]) if found else ""


def counted(client: DeviceUpdateClient, group: str, name: str) -> dict[str, Any]:
    found = client.device_management.get_deployment_status(group, name)
    (subgroup,) = found["subgroupStatus"]
    class_id = subgroup["deviceClassId"]
    same = client.device_management.get_device_class_subgroup_deployment_status(group, class_id, name)
    assert same.keys() == subgroup.keys()
    return {
        "state": found["deploymentState"],
        "total": subgroup["totalDevices"],
        "progress": subgroup["devicesInProgressCount"],
        "succeeded": subgroup["devicesCompletedSucceededCount"],
        "failed": subgroup["devicesCompletedFailedCount"],
        "canceled": subgroup["devicesCanceledCount"],
    }


def test_updates_are_imported_looked_at_and_deleted(client: DeviceUpdateClient) -> None:
    updates = client.device_update
    imported(client, "lens", "1.0", "1.9", "1.10", compatibility=[{"model": "x"}])
    one = updates.get_update("contoso", "lens", "1.9")
    assert (one["updateId"], one["friendlyName"]) == (update_id("lens", "1.9"), "lens 1.9")
    assert (one["description"], one["compatibility"], one["isDeployable"]) == ("version 1.9", [{"model": "x"}], True)
    assert "contoso" in list(updates.list_providers())
    assert list(updates.list_names("contoso")).count("lens") == 1
    assert list(updates.list_versions("contoso", "lens")) == ["1.10", "1.9", "1.0"]
    assert list(updates.list_versions("contoso", "lens", filter="isDeployable eq false")) == []
    assert [found["updateId"]["version"] for found in updates.list_updates(search="lens 1.9")] == ["1.9"]
    assert len([1 for found in updates.list_updates(filter="isDeployable eq true") if "lens" in str(found)]) == 3
    (file_id,) = updates.list_files("contoso", "lens", "1.9")
    file = updates.get_file("contoso", "lens", "1.9", file_id)
    assert (file["fileId"], file["mimeType"]) == (file_id, "application/json")
    (operation,) = [o for o in updates.list_operation_statuses() if o["update"]["updateId"] == update_id("lens", "1.9")]
    assert updates.get_operation_status(operation["operationId"])["status"] == "Succeeded"
    assert list(updates.list_operation_statuses(filter="status eq 'NotStarted' or status eq 'Running'")) == []
    with pytest.raises(ResourceNotModifiedError):
        updates.get_update("contoso", "lens", "1.9", etag=one["etag"], match_condition=MatchConditions.IfModified)
    with pytest.raises(ResourceExistsError):
        imported(client, "lens", "1.9")
    assert updates.begin_delete_update("contoso", "lens", "1.9").result() is None
    with pytest.raises(ResourceNotFoundError):
        updates.get_update("contoso", "lens", "1.9")
    assert refused(lambda: updates.begin_delete_update("contoso", "lens", "1.9")) == (404, "UpdateNotFound")
    assert refused(lambda: updates.list_names("nobody").next()) == (404, "NotFound")
    assert refused(lambda: updates.get_file("contoso", "lens", "1.0", "other")) == (404, "NotFound")
    assert refused(lambda: updates.get_operation_status("import:contoso:lens:1.9")) == (404, "NotFound")


def test_an_import_that_cannot_be_is_refused_and_fetches_nothing(client: DeviceUpdateClient) -> None:
    updates = client.device_update
    fine = to_import("odd", "1.0")
    elsewhere = to_import("odd", "1.0")
    elsewhere[0]["files"][0]["url"] = "http://127.0.0.1:1/content"
    another = to_import("odd", "1.0")
    another[0]["files"][0]["url"] = url({"modulesContent": {}})["url"]
    for wrong in (
        [],
        fine * 2,
        elsewhere,
        another,
        [{**fine[0], "importManifest": {**fine[0]["importManifest"], "sizeInBytes": 1}}],
        [{**fine[0], "importManifest": {"url": "data:application/json,{"}}],
        to_import("odd", "1.0", instructions={"steps": [{"handler": "microsoft/swupdate:1", "files": ["a"]}]}),
        to_import("odd", "1.0", compatibility=[{"model": 1}]),
        to_import("odd", "1.0", updateId={"provider": "contoso"}),
        to_import("odd", "one"),
    ):
        assert refused(lambda wrong=wrong: updates.begin_import_update(wrong)) == (400, "ArgumentInvalid")
    assert refused(lambda: imported(client, "odd", "1.0", content={"modulesContent": {"$edgeAgent": 1}}))[0] == 400
    with pytest.raises(ResourceNotFoundError):
        updates.get_update("contoso", "odd", "1.0")


def test_a_group_gets_an_update_and_those_who_fail_try_again(client: DeviceUpdateClient, running: Hub) -> None:
    management, http = client.device_management, running.admin
    imported(client, "camera", "1.0", "1.1", "1.2")
    names = [f"north-{number}" for number in range(4)]
    registered(http, "north", *names)
    joined(client, "north", 4)
    assert next(iter(management.list_groups()))["groupId"] == "$default"
    group = management.get_group("north")
    assert (group["deviceCount"], group["groupType"], group["deployments"]) == (4, "IoTHubTag", [])

    made = management.create_or_update_deployment("north", "first", deployment("north", "first", "1.0"))
    assert made["update"]["updateId"] == update_id("camera", "1.0")
    assert (made["isCanceled"], made["isRetried"], "rollbackPolicy" in made) == (False, False, False)
    assert management.create_or_update_deployment("north", "first", deployment("north", "first", "1.0")) == made
    assert refused(
        lambda: management.create_or_update_deployment("north", "first", deployment("north", "first", "1.1"))
    ) == (409, "DeploymentAlreadyExists")
    (subgroup,) = made["deviceClassSubgroups"]
    eventually(lambda: all(run(http, name) == "example.com/camera:1.0" for name in names), what="all have it")
    assert counted(client, "north", "first") == {
        "state": "Active", "total": 4, "progress": 4, "succeeded": 0, "failed": 0, "canceled": 0
    }  # fmt: skip
    for name in names[:3]:
        answers(http, name)
    answers(http, names[3], code=500)
    after = {"state": "Active", "total": 4, "progress": 0, "succeeded": 3, "failed": 1, "canceled": 0}
    eventually(lambda: counted(client, "north", "first") == after, what="all have answered")
    states = management.list_device_states_for_device_class_subgroup_deployment
    found = {one["deviceId"]: one["deviceState"] for one in states("north", subgroup, "first")}
    assert found == {**dict.fromkeys(names[:3], "Succeeded"), names[3]: "Failed"}
    (failed,) = states("north", subgroup, "first", filter="deviceState eq 'Failed'")
    assert failed == {
        "deviceId": names[3], "deviceState": "Failed", "retryCount": 0, "movedOnToNewDeployment": False
    }  # fmt: skip
    assert len(list(states("north", subgroup, "first", filter=f"deviceId eq '{names[0]}'"))) == 1
    device = management.get_device(names[0])
    assert (device["groupId"], device["deploymentStatus"], device["lastDeploymentId"]) == (
        "north",
        "Succeeded",
        "first",
    )
    assert device["installedUpdate"]["updateId"] == update_id("camera", "1.0")
    assert (device["onLatestUpdate"], "installedUpdate" in management.get_device(names[3])) == (False, False)
    wanted = "groupId eq 'north' and deploymentStatus eq 'Failed'"
    assert [one["deviceId"] for one in management.list_devices(filter=wanted)] == [names[3]]
    delete = client.device_update.begin_delete_update
    assert refused(lambda: delete("contoso", "camera", "1.0")) == (409, "UpdateInUse")

    # Whoever joins the group gets what it has.
    registered(http, "north", "north-4")
    eventually(lambda: run(http, "north-4") == "example.com/camera:1.0", what="whoever joined has it")

    # Those who failed try again.
    before = version_of(http, names[3])
    assert management.retry_deployment("north", subgroup, "first")["isRetried"]
    eventually(lambda: version_of(http, names[3]) == before + 1, what="it is asked again")
    answers(http, names[3])
    eventually(lambda: counted(client, "north", "first")["failed"] == 0, what="it went well")


@pytest.mark.full
def test_a_group_has_one_active_deployment_and_canceled_is_canceled(client: DeviceUpdateClient, running: Hub) -> None:
    management, http = client.device_management, running.admin
    imported(client, "gate", "1.0", "1.1")
    names = [f"mid-{number}" for number in range(3)]
    registered(http, "mid", *names)
    joined(client, "mid", 3)
    (subgroup,) = management.create_or_update_deployment("mid", "a", deployment("mid", "a", "1.0", update="gate"))[
        "deviceClassSubgroups"
    ]
    eventually(lambda: all(run(http, name) == "example.com/gate:1.0" for name in names), what="all have it")
    management.create_or_update_deployment("mid", "b", deployment("mid", "b", "1.1", update="gate"))
    assert counted(client, "mid", "a")["state"] == "Superseded"
    eventually(lambda: all(run(http, name) == "example.com/gate:1.1" for name in names), what="all have the next")
    assert refused(lambda: management.stop_deployment("mid", subgroup, "a")) == (409, "DeploymentStateConflict")
    listed = management.list_deployments_for_group("mid", order_by="startDate desc")
    assert [one["deploymentId"] for one in listed] == ["b", "a"]
    of_class = management.list_deployments_for_device_class_subgroup("mid", subgroup)
    assert [one["deploymentId"] for one in of_class] == ["a", "b"]
    assert management.get_device_class_subgroup("mid", subgroup)["deploymentId"] == "b"

    assert management.stop_deployment("mid", subgroup, "b")["isCanceled"]
    registered(http, "mid", "mid-3")
    for call in (management.retry_deployment, management.stop_deployment):
        assert refused(lambda call=call: call("mid", subgroup, "b")) == (409, "DeploymentStateConflict")
    eventually(lambda: management.get_group("mid")["deviceCount"] == 4, what="another has joined")
    assert [run(http, name) for name in ("mid-3", "mid-0")] == ["", "example.com/gate:1.1"]
    status = counted(client, "mid", "b")
    assert (status["state"], status["canceled"], status["progress"]) == ("Canceled", 1, 3)
    management.delete_deployment_for_device_class_subgroup("mid", subgroup, "a")
    assert refused(lambda: management.get_deployment("mid", "a")) == (404, "DeploymentNotFound")
    management.delete_group("mid")
    assert list(management.list_deployments_for_group("mid")) == []


@pytest.mark.full
def test_compliance_and_the_best_updates(client: DeviceUpdateClient, running: Hub) -> None:
    management, http = client.device_management, running.admin
    registered(http, "south", "south-0", "south-1", model="s")
    registered(http, "south", "south-2", model="t")
    imported(client, "south", "90.0", "90.1", compatibility=[{"model": "s"}])
    joined(client, "south", 3)
    assert management.get_update_compliance_for_group("south")["totalDeviceCount"] == 3
    best = {one["update"]["updateId"]["version"]: one for one in management.list_best_updates_for_group("south")}
    assert best["90.1"]["deviceCount"] == 2
    class_id = best["90.1"]["deviceClassId"]
    classes = {one["deviceClassId"]: one for one in management.list_device_classes()}
    assert classes[class_id]["bestCompatibleUpdate"]["updateId"] == update_id("south", "90.1")
    assert management.get_device_class(class_id) == classes[class_id]
    installable = management.list_installable_updates_for_device_class(class_id)
    assert [one["updateId"]["version"] for one in installable] == ["90.1", "90.0"]
    subgroups = {one["deviceClassId"]: one for one in management.list_device_class_subgroups_for_group("south")}
    assert subgroups[class_id]["deviceCount"] == 2
    best_of_class = management.get_best_updates_for_device_class_subgroup("south", class_id)
    assert (best_of_class["deviceCount"], best_of_class["update"]["updateId"]["version"]) == (2, "90.1")
    management.create_or_update_deployment("south", "1", deployment("south", "1", "90.1", update="south"))
    of_class = management.get_device_class_subgroup_update_compliance
    eventually(lambda: of_class("south", class_id)["updatesInProgressDeviceCount"] == 2, what="both have the update")
    assert run(http, "south-1") == "example.com/south:90.1"
    answers(http, "south-0")
    done = {
        "totalDeviceCount": 2, "onLatestUpdateDeviceCount": 1,
        "newUpdatesAvailableDeviceCount": 0, "updatesInProgressDeviceCount": 1,
    }  # fmt: skip
    eventually(lambda: of_class("south", class_id) == done, what="one is up to date")
    assert run(http, "south-2") == ""
    assert management.get_device("south-0")["onLatestUpdate"]
    assert management.get_update_compliance()["onLatestUpdateDeviceCount"] >= 1
    by_class = management.list_devices(filter=f"deviceClassId eq '{class_id}'")
    assert {one["deviceId"] for one in by_class} == {"south-0", "south-1"}
    nobody_yet = management.list_devices(filter="groupId eq 'south' and deploymentStatus eq null")
    assert [one["deviceId"] for one in nobody_yet] == ["south-2"]
    assert [one["groupId"] for one in management.list_groups(order_by="groupId desc")][-1] == "$default"


def test_a_failure_past_the_policy_brings_the_group_back(client: DeviceUpdateClient, running: Hub) -> None:
    management, http = client.device_management, running.admin
    imported(client, "pump", "1.0", "2.0")
    names = [f"east-{number}" for number in range(3)]
    registered(http, "east", *names)
    joined(client, "east", 3)
    policy = {
        "update": {"updateId": update_id("pump", "1.0")},
        "failure": {"devicesFailedPercentage": 50, "devicesFailedCount": 2},
    }
    body = deployment("east", "bad", "2.0", update="pump", rollbackPolicy=policy)
    made = management.create_or_update_deployment("east", "bad", body)
    assert made["rollbackPolicy"]["failure"] == policy["failure"]
    assert made["rollbackPolicy"]["update"]["friendlyName"] == "pump 1.0"
    eventually(lambda: all(run(http, name) == "example.com/pump:2.0" for name in names), what="all have it")
    for name in names[:2]:
        answers(http, name, code=500)
    eventually(lambda: all(run(http, name) == "example.com/pump:1.0" for name in names), what="all are back")
    for name in names:
        answers(http, name)
    status = management.get_deployment_status("east", "bad")
    assert status["error"]["code"] == "RolledBack"
    assert status["error"]["message"].startswith("rolled back to contoso/pump/1.0: 2 of 3 failed")
    assert status["deploymentState"] != "Active"
    assert management.get_deployment("east", "bad")["isCloudInitiatedRollback"]
    listed = {one["deploymentId"]: one for one in management.list_deployments_for_group("east")}
    assert list(listed) == ["bad", "bad-rollback"]
    back = listed["bad-rollback"]
    assert (back["isCloudInitiatedRollback"], back["update"]["friendlyName"]) == (True, "pump 1.0")
    assert management.get_group("east")["deployments"] == ["bad", "bad-rollback"]
    eventually(lambda: counted(client, "east", "bad-rollback")["succeeded"] == 3, what="all are well with what is back")
    assert counted(client, "east", "bad-rollback")["state"] == "Active"
    assert counted(client, "east", "bad")["failed"] == 2
    failed = http.get("/v1/groups/east/deployments/bad/devices", params={"state": "Failed"}).json()["devices"]
    assert {one["deviceId"]: one["reason"] for one in failed} == dict.fromkeys(names[:2], "it answered 500")
    deployments = "/v1/groups/east/deployments"
    eventually(lambda: http.get(deployments).json()[0]["state"] != "RollingBack", what="the rollback is over")
    bad, brought = http.get(deployments).json()
    assert (bad["state"], bad["rolledBack"]["to"], bad["rolledBack"]["deployment"]) == (
        "RolledBack",
        "contoso/pump/1.0",
        "bad-rollback",
    )
    assert (bad["rolledBack"]["devices"], bad["counts"]["Failed"], bad["rolledBack"]["notBack"]) == (3, 2, {})
    assert "2 of 3 failed" in bad["rolledBack"]["reason"]
    assert (brought["rollbackOf"], brought["state"], brought["counts"]["Succeeded"]) == ("bad", "Active", 3)
    assert http.get("/v1/groups/east").json()["active"] == "bad-rollback"
    eventually(
        lambda: management.get_device("east-0").get("installedUpdate", {}).get("friendlyName") == "pump 1.0",
        what="it is well again",
    )


@pytest.mark.full
def test_what_starts_later_is_inactive_until_then(client: DeviceUpdateClient, running: Hub) -> None:
    management, http = client.device_management, running.admin
    imported(client, "later", "1.0")
    registered(http, "later", "later-0")
    joined(client, "later", 1)
    start = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=3)
    body = {**deployment("later", "1", "1.0", update="later"), "startDateTime": start.isoformat()}
    assert management.create_or_update_deployment("later", "1", body)["startDateTime"][:19] == start.isoformat()[:19]
    assert counted(client, "later", "1")["state"] == "Inactive"
    eventually(lambda: run(http, "later-0") == "example.com/later:1.0", what="it has started")
    assert counted(client, "later", "1")["state"] == "Active"


@pytest.mark.full
def test_lists_are_read_page_by_page(client: DeviceUpdateClient, running: Hub) -> None:
    management = client.device_management
    names = {f"many-{number}" for number in range(230)}
    registered(running.admin, "many", *sorted(names))
    eventually(lambda: len(list(management.list_devices(filter="groupId eq 'many'"))) == 230, what="all are listed")
    found = [one["deviceId"] for one in management.list_devices(filter="groupId eq 'many'")]
    assert (len(found), set(found)) == (230, names)
    pages = list(management.list_devices(filter="groupId eq 'many'").by_page())
    assert len(pages) == 3
    assert refused(lambda: management.list_devices(filter="groupId eq 'many' or true").next()) == (
        400,
        "ArgumentInvalid",
    )
    assert refused(lambda: management.list_groups(order_by="nothing").next()) == (400, "ArgumentInvalid")


def test_what_cannot_be_deployed_is_refused(client: DeviceUpdateClient, running: Hub) -> None:
    management = client.device_management
    registered(running.admin, "west", "west-0")
    imported(client, "west", "1.0")
    joined(client, "west", 1)
    put = management.create_or_update_deployment
    good = deployment("west", "1", "1.0", update="west")
    same = {"update": good["update"], "failure": {"devicesFailedPercentage": 1, "devicesFailedCount": 1}}
    for status, body in (
        (404, deployment("west", "1", "9.9", update="west")),
        (400, {**good, "deploymentId": "2"}),
        (400, {**good, "startDateTime": "soon"}),
        (400, {**good, "update": {}}),
        (400, {**good, "rollbackPolicy": {"failure": {}}}),
        (400, {**good, "rollbackPolicy": same}),
    ):
        assert refused(lambda body=body: put("west", "1", body))[0] == status
    assert refused(lambda: put("nobody", "1", deployment("nobody", "1", "1.0"))) == (404, "GroupNotFound")
    for call in (
        lambda: management.get_group("nobody"),
        lambda: management.get_device("nobody"),
        lambda: management.get_device_class("nobody"),
        lambda: management.get_deployment("west", "1"),
        lambda: management.get_deployment_status("west", "1"),
        lambda: management.stop_deployment("west", "default", "1"),
        lambda: management.get_operation_status("nothing"),
    ):
        assert refused(call)[0] == 404


def test_what_is_not_offered_says_so(client: DeviceUpdateClient) -> None:
    management = client.device_management
    for call in (
        lambda: management.start_log_collection("1", {"deviceList": []}),
        lambda: management.get_log_collection("1"),
        lambda: management.list_log_collections().next(),
        lambda: management.get_log_collection_detailed_status("1"),
        lambda: management.list_health_of_devices(filter="state eq 'Healthy'").next(),
        lambda: management.get_device_module("a", "b"),
        lambda: management.update_device_class("default", {"friendlyName": "x"}),
        lambda: management.delete_device_class("default"),
        lambda: management.delete_device_class_subgroup("$default", "default"),
    ):
        assert refused(call) == (501, "NotImplemented")
    assert management.begin_import_devices("All").result() is None
    assert list(management.list_operation_statuses()) == []


def test_whoever_is_not_let_in_is_told_so(clients: Callable[..., DeviceUpdateClient], running: Hub) -> None:
    with pytest.raises(ClientAuthenticationError):
        clients(given="twf_nobody_00000000000000000000000").device_management.get_group("$default")
    issued = {
        "reader": printed(running.data, "token", "issue", "reader"),
        "scoped": printed(running.data, "token", "issue", "scoped", "--role", "operate", "--scope", "tags.site = 'n'"),
    }
    reader = clients(given=issued["reader"])
    assert reader.device_management.get_group("$default")
    with pytest.raises(ClientAuthenticationError):
        reader.device_update.begin_import_update(to_import("nothing", "1.0"))
    with pytest.raises(ClientAuthenticationError):
        clients(given=issued["scoped"]).device_management.get_group("$default")
    assert clients("2026-06-01").device_management.get_group("$default")
    with pytest.raises(HttpResponseError, match="api-version"):
        clients("2001-01-01").device_management.get_group("$default")
