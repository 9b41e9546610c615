"""Devices' own twins under configurations: what lies over what, what is left of it, and what edge deployments see of it."""

from typing import Any

import pytest

from events import CreateDeployment, DeleteDeployment, PatchTags, RegisterDevice
from events.canonical import JsonObject
from events.deployment.commands import ChangeAdmission, UpdateDeployment
from events.deployment.events import Ended
from events.device.commands import PatchTwin, RetireDevice, SetConfiguration
from events.fleet.assignments import AssignmentStatus
from events.projection_store.fleet_projection import FleetProjection
from events.stored_projection.not_applied import NotApplied, Why
from tests.projection_store.test_query_engine import PARTITIONS, Fleet
from tests.workers.system import base, layer


@pytest.fixture
def fleet() -> Fleet:
    fleet = Fleet()
    fleet.do(RegisterDevice("edge"), RegisterDevice("leaf", edge=False))
    return fleet


def own(name: str, condition: str = "*", priority: int = 0, **desired: Any) -> CreateDeployment:
    content = {f"properties.desired.{path.replace('__', '.')}": value for path, value in desired.items()}
    return CreateDeployment(name, {"deviceContent": content}, target_condition=condition, priority=priority)


def twin(fleet: Fleet, device_id: str = "leaf") -> JsonObject:
    found = fleet.twins.device(device_id)
    assert found is not None
    return found


def desired(fleet: Fleet, device_id: str = "leaf") -> JsonObject:
    return {
        name: value for name, value in twin(fleet, device_id)["properties"]["desired"].items() if name != "$metadata"
    }


def statuses(fleet: Fleet, device_id: str = "leaf") -> dict[str, str]:
    return {name: one["status"] for name, one in twin(fleet, device_id).get("configurations", {}).items()}


def test_all_that_target_a_twin_apply_and_the_highest_priority_or_else_the_newest_wins_a_property(fleet: Fleet) -> None:
    fleet.do(own("high", priority=2, x=2), own("low", priority=1, x=1, y__a=1), own("newer", priority=1, y__a=2, z=3))
    assert desired(fleet) == {"x": 2, "y": {"a": 2}, "z": 3, "$version": 2}
    assert statuses(fleet) == {"high": "Applied", "low": "Applied", "newer": "Applied"}
    fleet.do(UpdateDeployment("low", priority=3))
    assert desired(fleet) == {"x": 1, "y": {"a": 1}, "z": 3, "$version": 3}
    assert desired(fleet, "edge") == desired(fleet)


def test_what_is_set_by_hand_stays_below_and_shows_again_when_nothing_covers_it(fleet: Fleet) -> None:
    fleet.do(PatchTwin("leaf", None, None, {"x": 0, "mine": {"a": 1}}), own("one", x=1, mine__b=2))
    assert desired(fleet) == {"x": 1, "mine": {"a": 1, "b": 2}, "$version": 3}
    fleet.do(PatchTwin("leaf", None, None, {"x": 5, "mine": {"b": 9}}))
    assert desired(fleet) == {"x": 1, "mine": {"a": 1, "b": 2}, "$version": 4}
    fleet.do(DeleteDeployment("one"))
    assert desired(fleet) == {"x": 5, "mine": {"a": 1, "b": 9}, "$version": 5}
    assert statuses(fleet) == {}


def test_metadata_names_the_configuration_of_each_property_that_one_gives(fleet: Fleet) -> None:
    fleet.do(
        PatchTwin("leaf", None, None, {"x": {"gone": 1}, "mine": {"a": 1}}), own("one", x=1, mine__b=2), own("two", z=1)
    )
    shown = twin(fleet)["properties"]["desired"]["$metadata"]
    assert shown["$lastUpdatedVersion"] == desired(fleet)["$version"] == 3
    assert shown["x"].keys() == {"$lastUpdated", "$lastUpdatedVersion", "$lastUpdatedBy", "$lastUpdatedByDigest"}
    assert (shown["x"]["$lastUpdatedBy"], shown["z"]["$lastUpdatedBy"]) == ("one", "two")
    assert shown["mine"]["b"]["$lastUpdatedBy"] == "one"
    assert shown["mine"]["a"].keys() == {"$lastUpdated", "$lastUpdatedVersion"}


def test_edge_deployments_and_configurations_of_own_twins_do_not_see_each_other(fleet: Fleet) -> None:
    fleet.do(PatchTags("edge", {"on": True}), CreateDeployment("base", base("m"), target_condition="tags.on = true"))
    fleet.do(own("one", x=1), CreateDeployment("extra", layer("n", y=1), target_condition="*", priority=1))
    effective = fleet.fleet_projection.effective("edge")
    assert effective is not None
    assert [deployment.id for deployment in effective.assignment.stack] == ["base", "extra"]
    assert effective.assignment.versions == {"$edgeAgent": 3, "$edgeHub": 2, "n": 2}
    agent = fleet.twins.module("edge", "$edgeAgent")
    assert agent is not None
    assert agent["configurations"].keys() == {"base", "extra"}
    assert statuses(fleet, "edge") == {"one": "Applied"}
    assert fleet.twins.module_ids("edge") == ("$edgeAgent", "$edgeHub", "m", "n")
    fleet.do(PatchTags("edge", {"on": False}))
    fleet.do(own("two", x=2), DeleteDeployment("one"))
    assert fleet.twins.module_ids("edge") == ("$edgeAgent", "$edgeHub", "m", "n")
    assert (list(fleet.fleet_projection.with_status(AssignmentStatus.UNMANAGED)), desired(fleet, "edge")["x"]) == (
        ["edge"],
        2,
    )


def test_what_was_set_by_hand_on_a_devices_modules_outlives_changes_of_its_own_twin(fleet: Fleet) -> None:
    fleet.do(CreateDeployment("base", base("m"), target_condition="*"), SetConfiguration("edge", base("byhand")))
    fleet.do(own("one", x=1))
    assert fleet.twins.module_ids("edge") == ("$edgeAgent", "$edgeHub", "byhand")
    fleet.do(SetConfiguration("edge", base("again")))
    assert (fleet.twins.module_ids("edge")[2:], desired(fleet, "edge")["x"]) == (("again",), 1)


def test_what_is_over_the_limit_of_a_twin_is_held_back_with_a_reason(fleet: Fleet) -> None:
    many = {f"k{number}": "x" * 4000 for number in range(5)}
    fleet.do(own("one", **many))
    fleet.do(own("two", **{f"{name}b": value for name, value in many.items()}))
    effective = fleet.fleet_projection.effective("leaf")
    assert effective is not None
    assert "own desired properties have" in effective.assignment.own_part.reason
    assert desired(fleet) == {**many, "$version": 2}
    assert statuses(fleet) == {"one": "Applied", "two": "Targeted"}
    assert fleet.fleet_projection.not_applied("leaf") == (
        NotApplied("one", Why.OVER_LIMIT),
        NotApplied("two", Why.OVER_LIMIT),
    )
    assert fleet.fleet_projection.status("two")["two"] == {
        **dict.fromkeys(fleet.fleet_projection.status("two")["two"], 0),
        "target": 2,
    }
    fleet.do(DeleteDeployment("one"))
    assert desired(fleet)["$version"] == 3
    assert fleet.fleet_projection.not_applied("leaf") == ()


def test_one_that_has_ended_gives_nothing_and_says_so(fleet: Fleet) -> None:
    fleet.do(own("one", x=1), own("empty"), ChangeAdmission("one", Ended()))
    assert desired(fleet) == {"$version": 1}
    assert statuses(fleet) == {"empty": "Applied"}
    assert fleet.fleet_projection.not_applied("leaf") == (NotApplied("one", Why.ENDED),)


def test_a_device_that_comes_anew_begins_anew(fleet: Fleet) -> None:
    fleet.do(own("one", "deviceId = 'leaf'", x=1))
    fleet.do(UpdateDeployment("one", target_condition="*"))
    assert desired(fleet)["$version"] == 2
    fleet.do(RetireDevice("leaf"))
    fleet.do(RegisterDevice("leaf", edge=False))
    assert desired(fleet) == {"x": 1, "$version": 2}


def test_a_partition_is_without_own_configurations_until_it_had_one(fleet: Fleet) -> None:
    without_own = FleetProjection(fleet.projections, partitions=PARTITIONS).without_own
    assert without_own({"edge", "leaf"}) == {"edge", "leaf"}
    fleet.do(own("one", x=1))
    assert not without_own({"edge", "leaf"})
    fleet.do(DeleteDeployment("one"))
    assert not without_own({"leaf"})
