"""Explanations over HTTP, with real workers and a scheduler."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from events import CreateDeployment, PatchTags, RegisterDevice, ReportProperties
from events.deployment.commands import DeleteDeployment
from events.deployment.events import NotStarted
from events.device.commands import RetireDevice, UpdateDevice
from events.log.keys import key, partition_of
from events.rollout.commands import CreateRollout, StartRollout
from events.rollout.plan import Phase, RolloutPlan
from services.embedded_redis import EmbeddedRedis
from tests.api.serving import served
from tests.servers import eventually
from tests.workers.system import PARTITIONS, System, answer, base, layer

pytestmark = pytest.mark.redis_server

TWIN_LAYER = {"modulesContent": {"$edgeAgent": {}, "cam": {"properties.desired.x": 1}}}
FLEET = [f"r{number}" for number in range(4)]


@pytest.fixture(scope="module")
def serving(shared_redis: EmbeddedRedis) -> Iterator[tuple[System, httpx.Client]]:
    with served(shared_redis) as both, both[0].process("-m", "services.scheduler"):
        system, _ = both
        system.do(
            RegisterDevice("edge-7"),
            PatchTags("edge-7", {"site": "north"}),
            PatchTags("edge-7", {"site": "south"}),
            PatchTags("edge-7", {"site": "south", "floor": 3}),
            CreateDeployment("base-2", base("cam"), "is_defined(tags.floor)", priority=10),
            CreateDeployment("gpu-layer", layer("cam", fps=3), "tags.site = 'south'", priority=20),
            CreateDeployment("twin-layer", TWIN_LAYER, "tags.floor > 2", 30),
            CreateDeployment("prod-9", base("cam"), "tags.site = 'north'", priority=30),
        )
        system.settle()
        yield both


def explained(http: httpx.Client, device_id: str, **params: Any) -> dict[str, Any]:
    found: dict[str, Any] = http.get(f"/v1/devices/{device_id}/explain", params=params).raise_for_status().json()
    return found


def of(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in found["deployments"] if one["id"] == name)


def acts(lines: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["act"], one["by"]) for one in lines]


def test_each_leaf_has_its_value_and_the_event_since_which_it_is_so(serving: tuple[System, httpx.Client]) -> None:
    found = of(explained(serving[1], "edge-7", deployment="prod-9"), "prod-9")
    leaf = {name: found["condition"][name] for name in ("property", "wanted", "value", "found", "truth")}
    assert leaf == {"property": "tags.site", "wanted": "north", "value": "south", "found": "text", "truth": "false"}
    set_so, made = found["events"]
    assert set_so["says"].startswith("user:ada set tags.site as 'south' on ")
    # The third event set it again to the same.
    stream = f"p{partition_of('edge-7', PARTITIONS):02d}"
    assert (set_so["stream"], set_so["position"], set_so["act"]) == (stream, 3, "TwinPatched")
    assert (made["stream"], made["act"], made["by"]) == ("fleet", "DeploymentCreated", "user:ada")


def test_with_no_look_back_the_verdicts_are_the_same_and_it_says_where_the_look_ended(
    serving: tuple[System, httpx.Client],
) -> None:
    found, short = explained(serving[1], "edge-7"), explained(serving[1], "edge-7", readBack=0)
    assert [one["says"] for one in found["deployments"]] == [one["says"] for one in short["deployments"]]
    assert (found["readBackTo"], short["readBackTo"]) == (0, 4)
    assert acts(of(short, "prod-9")["events"]) == [("DeploymentCreated", "user:ada")]


def test_the_contract_counts_a_layer_of_module_twins_otherwise_and_that_is_said(
    serving: tuple[System, httpx.Client],
) -> None:
    system, http = serving
    found = explained(http, "edge-7")
    counted = {one["id"]: one["appliedCount"] for one in found["deployments"]}
    assert counted == {"base-2": True, "gpu-layer": True, "twin-layer": False, "prod-9": False}
    for name, holds in counted.items():
        results = http.get(f"/configurations/{name}").json()["systemMetrics"]["results"]
        assert (results["appliedCount"] == 1) == holds
    assert system.status("twin-layer")["actual"] == 1
    assert "appliedCount does not include the device" in of(found, "twin-layer")["notes"][0]


def test_a_report_is_held_against_what_the_device_should_run(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    assert explained(http, "edge-7")["reported"] is None
    system.do(answer(system, "edge-7", code=500, cam="failed"))
    system.settle()
    found = explained(http, "edge-7")["reported"]
    assert (found["code"], found["status"], found["version"]) == (500, "unhealthy", found["wantedVersion"])
    assert found["says"].endswith("unhealthy; cam is failed and should be running")
    # How many versions there were depends on how many changes each commit had.
    wanted = found["wantedVersion"]
    system.do(ReportProperties("edge-7", {"lastDesiredVersion": wanted - 1}, module_id="$edgeAgent"))
    system.settle()
    assert f"for version {wanted - 1}; it should have {wanted}" in explained(http, "edge-7")["reported"]["says"]
    assert explained(http, "edge-7")["reported"]["status"] == "pending"


def test_a_rollout_says_when_a_device_comes_and_who_admitted_it(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(*map(RegisterDevice, FLEET), *(PatchTags(name, {"ring": "r"}) for name in FLEET))
    system.do(CreateDeployment("phased", base("cam"), "tags.ring = 'r'", priority=50, admission=NotStarted()))
    system.do(CreateRollout("phased", RolloutPlan((Phase(count=1), Phase(percent=100)))), StartRollout("phased"))
    eventually(lambda: len([*system.fleet_projection.members("phased", "actual")]) == 1, what="one device is admitted")
    system.settle()  # Devices of other partitions learn of it by their own workers.
    (first,) = system.fleet_projection.members("phased", "actual")
    admitted = of(explained(http, first, deployment="phased"), "phased")
    assert admitted["verdict"] == "base"
    assert [
        event["says"].partition(" on ")[0] for event in admitted["events"] if event["act"] == "DevicesAdmitted"
    ] == ["system:scheduler admitted 1 device in phase 1 of the rollout of phased: phase 1 of 2 admits 1"]
    ranks = {}
    for name in set(FLEET) - {first}:
        waits = of(explained(http, name, deployment="phased"), "phased")
        assert (waits["verdict"], waits["obstacle"]["reason"]) == ("not applied", "not-admitted")
        turn = waits["turn"]
        assert (turn["phase"], turn["comesWith"], turn["of"]) == (1, 2, 4)
        assert f"it is number {turn['rank']} of 4 in the rollout's order" in waits["because"]
        assert "its turn comes with phase 2 of 2 (100 %)" in waits["because"]
        ranks[name] = turn["rank"]
    assert sorted(ranks.values()) == [2, 3, 4]


def test_what_was_set_by_hand_says_who_did(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(RegisterDevice("hand"), PatchTags("hand", {"floor": 1}))
    system.settle()
    http.post("/devices/hand/applyConfigurationContent", json=base("mine")).raise_for_status()
    system.settle()
    found = explained(http, "hand")
    assert found["says"].startswith("hand runs a configuration that was set by hand since ")
    assert of(found, "base-2")["obstacle"]["reason"] == "by-hand"
    assert "ConfigurationSet" in [act for act, _ in acts(found["runs"]["causes"])]
    assert ("ConfigurationSet", "user:anybody") in acts(found["events"])


def test_who_lost_its_deployment_says_what_took_it_away(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(RegisterDevice("lost"), PatchTags("lost", {"only": 1}))
    system.do(CreateDeployment("brief", base("cam"), "tags.only = 1"))
    system.settle()
    system.do(DeleteDeployment("brief"))
    system.settle()
    found = explained(http, "lost")
    assert "is unmanaged since " in found["says"]
    assert "it keeps the configuration from brief" in found["says"]
    assert acts(found["runs"]["causes"]) == [("DeploymentDeleted", "user:ada")]
    asked = http.get("/v1/devices/lost/explain", params={"deployment": "brief"})
    assert asked.status_code == 404
    assert "there is no deployment 'brief': user:ada deleted deployment brief on " in asked.json()["error"]["message"]


def test_a_deployment_that_is_not_there_is_not_found_and_one_called_alike_is_named(
    serving: tuple[System, httpx.Client],
) -> None:
    def message(name: str) -> str:
        answered = serving[1].get("/v1/devices/edge-7/explain", params={"deployment": name})
        assert answered.status_code == 404
        text: str = answered.json()["error"]["message"]
        return text

    assert message("base-3") == "there is no deployment 'base-3': did you mean 'base-2'?"
    for name in ("none", "rollout:phased", "log", "", "a\x00b"):
        assert message(name) == f"there is no deployment {name!r}"


def test_a_point_in_time_of_the_past_is_explained_as_it_was(serving: tuple[System, httpx.Client]) -> None:
    _, http = serving
    stream = f"p{partition_of('edge-7', PARTITIONS):02d}"
    then = explained(http, "edge-7", at=f"{stream}:2,fleet:5", mode="implied", deployment="prod-9")
    assert of(then, "prod-9")["verdict"] == "base"
    assert (then["asOf"]["partition"], then["asOf"]["fleet"]) == (2, 5)
    assert of(then, "prod-9")["events"][0]["position"] == 2
    assert of(explained(http, "edge-7", deployment="prod-9"), "prod-9")["verdict"] == "not targeted"


def test_a_disabled_and_a_retired_device_say_so_and_who_never_was_is_not_found(
    serving: tuple[System, httpx.Client],
) -> None:
    system, http = serving
    system.do(RegisterDevice("going"), UpdateDevice("going", edge=False, enabled=False, status_reason="stolen"))
    system.settle()
    disabled = explained(http, "going")
    assert disabled["says"].endswith("it is disabled, so it cannot fetch a configuration")
    assert "disabled the device (stolen)" in str(disabled["events"])
    assert of(disabled, "base-2")["obstacle"]["reason"] == "condition"
    system.do(RetireDevice("going"))
    retired = explained(http, "going")
    assert retired["state"] == "retired"
    assert retired["says"].startswith("going was retired by user:ada on ")
    assert retired["deployments"] == []
    answered = http.get("/v1/devices/EDGE-70/explain")
    assert answered.status_code == 404
    assert answered.json()["error"]["message"] == "no device 'EDGE-70' is registered; did you mean 'edge-7'?"
    assert http.get("/v1/devices/edge-7/explain", params={"deployment": "none"}).status_code == 404


def test_secrets_show_as_stars(serving: tuple[System, httpx.Client]) -> None:
    system, http = serving
    system.do(RegisterDevice("secretive"), PatchTags("secretive", {"vault": 1}))
    spec = {"value": {"$secret_text": "planted-variable-0042"}}
    content = base("cam", env={"KEY": spec})
    for name, priority, text in (("s1", 70, content), ("s2", 71, _env("planted-variable-0043"))):
        body = {"content": text, "targetCondition": "tags.vault = 1", "priority": priority}
        http.put(f"/configurations/{name}", json=body).raise_for_status()
    system.settle()
    found = explained(http, "secretive")
    assert "planted-variable" not in json.dumps(found)
    assert "$secret" not in json.dumps(found)
    (contest,) = found["contests"]
    assert (contest["winner"], contest["losers"]) == (
        {"deployment": "s2", "value": "***"},
        [{"deployment": "s1", "value": "***"}],
    )


def _env(text: str) -> dict[str, Any]:
    path = "properties.desired.modules.cam.env.KEY.value"
    return {"modulesContent": {"$edgeAgent": {path: {"$secret_text": text}}}}


def test_a_partition_that_is_stopped_is_named_with_what_nobody_has_decided(
    serving: tuple[System, httpx.Client],
) -> None:
    system, http = serving
    number, client = partition_of("edge-7", PARTITIONS), system.log.client
    stream, position = f"p{number:02d}", system.log.head(number) + 1
    fields = {"type": "X", "subject": "edge-7", "version": 9, "at": 1, "by": "user:ada", "cause": "", "data": "{"}
    client.xadd(key(number, "log"), fields, id=f"{position}-0")
    client.hset(key(number, "meta"), "position", position)
    system.waker.wake([number])
    eventually(lambda: number in system.fleet_projection.blocked(), what="the partition is stopped")
    late = next(name for name in (f"late-{one}" for one in range(99)) if partition_of(name, PARTITIONS) == number)
    system.do(RegisterDevice(late), PatchTags(late, {"site": "north"}), PatchTags("edge-7", {"site": "north"}))
    known = explained(http, "edge-7")
    assert known["asOf"]["isBehind"]
    assert known["asOf"]["blocked"]["at"] == f"{stream}:{position}"
    assert f"its partition {stream} is stopped at {stream}:{position}" in known["says"]
    assert of(known, "prod-9")["verdict"] == "not decided yet"
    assert acts(known["undecided"]) == [("TwinPatched", "user:ada")]
    assert "its inputs have changed since" in of(known, "gpu-layer")["says"]
    unknown = explained(http, late, deployment="prod-9")
    assert (unknown["state"], unknown["runs"]) == ("registered", None)
    assert unknown["says"].startswith(f"{late} was registered by user:ada on ")
    assert of(unknown, "prod-9")["verdict"] == "not decided yet"
