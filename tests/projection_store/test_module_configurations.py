"""Twins of modules under configurations of their own: whom these target, what lies over what, and what is left of it."""

from typing import Any

import msgspec
import pytest

from events import CreateDeployment, DeleteDeployment, PatchTags, RegisterDevice, ReportProperties
from events.access.scope import Scope
from events.canonical import JsonObject
from events.deployment.commands import ChangeAdmission, UpdateDeployment
from events.deployment.events import Ended
from events.device.commands import (
    CreateModule,
    DeleteModule,
    PatchTwin,
    ReplaceTwin,
    RetireDevice,
    SetConfiguration,
    UpdateDevice,
)
from events.fleet.assignments import AssignmentStatus
from events.query.parse import parse
from events.query.system_metric import module_applied_query, module_targeted_query
from events.stored_projection.not_applied import NotApplied, Why
from tests.projection_store.test_query_engine import Fleet
from tests.workers.system import base, layer


@pytest.fixture
def fleet() -> Fleet:
    fleet = Fleet()
    fleet.do(RegisterDevice("edge"), RegisterDevice("leaf", edge=False), CreateModule("leaf", "m"))
    fleet.do(CreateDeployment("base", base("m"), target_condition="*"))
    return fleet


def of(module: str, where: str = "") -> str:
    return f"FROM devices.modules WHERE moduleId = '{module}'{where and ' and '}{where}"


def where(condition: str) -> str:
    return f"FROM devices.modules WHERE {condition}"


def given(name: str, condition: str = of("m"), priority: int = 0, **desired: Any) -> CreateDeployment:
    content = {f"properties.desired.{path.replace('__', '.')}": value for path, value in desired.items()}
    return CreateDeployment(name, {"moduleContent": content}, target_condition=condition, priority=priority)


def twin(fleet: Fleet, device_id: str = "leaf", module: str = "m") -> JsonObject:
    found = fleet.twins.module(device_id, module)
    assert found is not None
    return found


def desired(fleet: Fleet, device_id: str = "leaf", module: str = "m") -> JsonObject:
    section = twin(fleet, device_id, module)["properties"]["desired"]
    return {name: value for name, value in section.items() if name != "$metadata"}


def statuses(fleet: Fleet, device_id: str = "leaf", module: str = "m") -> dict[str, str]:
    return {name: one["status"] for name, one in twin(fleet, device_id, module).get("configurations", {}).items()}


def test_all_that_target_a_module_apply_and_the_highest_priority_or_else_the_newest_wins_a_property(
    fleet: Fleet,
) -> None:
    fleet.do(given("high", priority=2, x=2), given("low", priority=1, x=1, y__a=1), given("newer", priority=1, y__a=2))
    assert desired(fleet) == {"x": 2, "y": {"a": 2}, "$version": 2}
    assert statuses(fleet) == {"high": "Applied", "low": "Applied", "newer": "Applied"}
    assert statuses(fleet, "edge") == {"base": "Targeted", **statuses(fleet)}
    fleet.do(UpdateDeployment("low", priority=3))
    assert desired(fleet) == desired(fleet, "edge") == {"x": 1, "y": {"a": 1}, "$version": 3}


def test_they_lie_over_the_edge_deployment_and_that_over_what_is_set_by_hand_and_all_shows_again(fleet: Fleet) -> None:
    fleet.do(PatchTwin("edge", "m", None, {"x": 0, "mine": 1}))
    fleet.do(CreateDeployment("extra", layer("m", x=1, y={"a": 1}, z=1), target_condition="*", priority=1))
    below = desired(fleet, "edge")
    assert below == {"x": 1, "mine": 1, "y": {"a": 1}, "z": 1, "$version": 3}
    fleet.do(given("one", x=2, y__b=2))
    assert desired(fleet, "edge") == {"x": 2, "mine": 1, "y": {"a": 1, "b": 2}, "z": 1, "$version": 4}
    stamps = twin(fleet, "edge")["properties"]["desired"]["$metadata"]
    assert (stamps["x"]["$lastUpdatedBy"], stamps["y"]["a"]["$lastUpdatedBy"]) == ("one", "extra")
    assert (stamps["y"]["b"]["$lastUpdatedBy"], stamps["z"]["$lastUpdatedBy"]) == ("one", "extra")
    assert stamps["$lastUpdatedVersion"] == 4
    assert "$lastUpdatedBy" not in stamps["mine"]
    effective = fleet.fleet_projection.effective("edge")
    assert effective is not None
    assert effective.modules["m"] == {"x": 2, "y": {"a": 1, "b": 2}, "z": 1}
    assert effective.assignment.module_versions["m"] == 3
    fleet.do(DeleteDeployment("one"))
    assert desired(fleet, "edge") == {**below, "$version": 5}
    assert statuses(fleet, "edge") == {"base": "Targeted", "extra": "Applied"}


def test_it_targets_whoever_has_the_module_by_hand_or_by_a_deployment_and_nobody_else(fleet: Fleet) -> None:
    fleet.do(given("one", x=1))
    assert sorted(fleet.fleet_projection.members("one", "actual")) == ["edge", "leaf"]
    fleet.do(DeleteModule("leaf", "m"))
    assert list(fleet.fleet_projection.members("one", "target")) == ["edge"]
    fleet.do(SetConfiguration("edge", base("other")))
    assert fleet.twins.module_ids("edge") == ("$edgeAgent", "$edgeHub", "other")
    assert list(fleet.fleet_projection.members("one", "target")) == []
    fleet.do(CreateModule("leaf", "m"), CreateDeployment("next", base("m", "n"), target_condition="*", priority=9))
    assert sorted(fleet.fleet_projection.members("one", "actual")) == ["edge", "leaf"]
    assert (desired(fleet)["$version"], desired(fleet, "edge")["$version"]) == (4, 4)
    fleet.do(DeleteDeployment("next"), UpdateDevice("edge", edge=False))
    assert list(fleet.fleet_projection.members("one", "target")) == ["leaf"]
    fleet.do(UpdateDevice("edge", edge=True))
    assert sorted(fleet.fleet_projection.members("one", "actual")) == ["edge", "leaf"]


def test_what_the_module_reports_decides(fleet: Fleet) -> None:
    fleet.do(given("one", of("m", "properties.reported.v >= 2"), x=1))
    fleet.do(ReportProperties("leaf", {"v": 2}, "m"), ReportProperties("edge", {"v": 1}, "m"))
    assert (desired(fleet), desired(fleet, "edge")) == ({"x": 1, "$version": 2}, {"$version": 1})
    fleet.do(ReportProperties("leaf", {"v": 1}, "m"), given("two", of("m", "properties.reported.v = 1"), y=1))
    assert (desired(fleet), desired(fleet, "edge")) == ({"y": 1, "$version": 3}, {"y": 1, "$version": 2})


def applied(fleet: Fleet, name: str, condition: str) -> set[tuple[str, str]]:
    """The module twins that a configuration is applied to: its queries, its counts and the twins say the same."""
    twins = fleet.fleet_projection.twins(name)[name]
    found = set()
    for status, text in (
        ("target", module_targeted_query(condition)),
        ("actual", module_applied_query(condition, name)),
    ):
        rows = fleet.pages(msgspec.structs.replace(parse(text), select=()), size=3)
        found = {(row["deviceId"], row["moduleId"]) for row in rows}
        assert len(rows) == len(found) == twins[status]
        assert sorted(fleet.fleet_projection.members(name, status)) == sorted({device for device, _ in found})
        assert fleet.fleet_projection.status(name)[name][status] == len({device for device, _ in found})
    for device, module in found:
        assert statuses(fleet, device, module)[name] == "Applied"
        assert desired(fleet, device, module)["x"] == 1
    return found


def test_tags_of_modules_decide_whatever_their_names_and_follow_every_edit(fleet: Fleet) -> None:
    condition = where("tags.site = 'north'")
    fleet.do(CreateModule("leaf", "n"), PatchTwin("leaf", "n", {"site": "north"}))
    fleet.do(given("one", condition, x=1))
    assert applied(fleet, "one", condition) == {("leaf", "n")}
    fleet.do(*(PatchTwin(device, "m", {"site": "north"}) for device in ("edge", "leaf")))
    assert applied(fleet, "one", condition) == {("leaf", "n"), ("leaf", "m"), ("edge", "m")}
    fleet.do(PatchTwin("leaf", "m", {"site": None}), ReplaceTwin("edge", "m", {"other": "north"}))
    assert applied(fleet, "one", condition) == {("leaf", "n")}
    assert (desired(fleet), statuses(fleet)) == ({"$version": 3}, {})
    fleet.do(ReplaceTwin("edge", "m", {"site": "north"}), PatchTwin("leaf", "n", {"site": {"north": 1}}))
    assert applied(fleet, "one", condition) == {("edge", "m")}
    fleet.do(given("two", of("m", "tags.site = 'north'"), z=1), UpdateDeployment("one", target_condition=""))
    assert desired(fleet, "edge") == {"z": 1, "$version": 5}
    assert fleet.fleet_projection.twins("one", "two") == {
        "one": {"target": 0, "actual": 0},
        "two": {"target": 1, "actual": 1},
    }


def test_tags_go_with_the_module_and_with_the_device(fleet: Fleet) -> None:
    condition = where("tags.site = 'north'")
    fleet.do(given("one", condition, x=1), CreateModule("leaf", "n"))
    fleet.do(*(PatchTwin("leaf", name, {"site": "north"}) for name in "mn"))
    assert applied(fleet, "one", condition) == {("leaf", "m"), ("leaf", "n")}
    fleet.do(DeleteModule("leaf", "n"))
    assert applied(fleet, "one", condition) == {("leaf", "m")}
    fleet.do(CreateModule("leaf", "n"))
    assert applied(fleet, "one", condition) == {("leaf", "m")}
    fleet.do(RetireDevice("leaf"))
    assert applied(fleet, "one", condition) == set()
    fleet.do(RegisterDevice("leaf"), CreateModule("leaf", "n"))
    assert applied(fleet, "one", condition) == set()


def test_names_are_compared_and_a_name_that_nobody_knew_is_found_when_it_comes(fleet: Fleet) -> None:
    condition = where("moduleId != 'm' and (deviceId = 'leaf' or tags.site = 'north') and not moduleId < 'k'")
    fleet.do(given("one", condition, x=1), PatchTwin("edge", "$edgeHub", {"site": "north"}))
    assert fleet.fleet_projection.twins("one")["one"]["target"] == 0
    fleet.do(CreateModule("leaf", "n"), CreateModule("leaf", "a"), PatchTwin("edge", "o", {"site": "north"}))
    assert list(fleet.fleet_projection.members("one", "actual")) == ["leaf"]
    fleet.do(CreateDeployment("more", base("m", "o"), target_condition="*", priority=9))
    assert sorted(fleet.fleet_projection.members("one", "actual")) == ["edge", "leaf"]
    assert desired(fleet, "edge", "o")["x"] == desired(fleet, "leaf", "n")["x"] == 1
    assert "configurations" not in twin(fleet, "leaf", "a")
    assert "one" not in statuses(fleet, "edge", "$edgeHub")
    fleet.do(DeleteDeployment("more"), SetConfiguration("edge", base("m")))
    assert list(fleet.fleet_projection.members("one", "actual")) == ["leaf"]


def test_system_modules_are_no_configurations(fleet: Fleet) -> None:
    fleet.do(given("one", where("deviceId != ''"), x=1), PatchTwin("edge", "$edgeAgent", {"site": "north"}))
    fleet.do(given("two", where("tags.site = 'north' or moduleId > '$edge'"), x=1))
    twins = {"target": 2, "actual": 2}
    assert fleet.fleet_projection.twins("one", "two") == {"one": twins, "two": twins}
    assert statuses(fleet, "edge", "$edgeAgent") == {"base": "Applied"}
    assert "x" not in desired(fleet, "edge", "$edgeAgent")


def test_a_device_counts_once_for_each_of_its_modules_and_is_listed_once(fleet: Fleet) -> None:
    condition = where("moduleId in ['m', 'n'] and deviceId != ''")
    fleet.do(CreateModule("leaf", "n"), given("one", condition, x=1))
    assert applied(fleet, "one", condition) == {("edge", "m"), ("leaf", "m"), ("leaf", "n")}
    assert fleet.fleet_projection.status("one")["one"]["actual"] == 2
    fleet.do(UpdateDeployment("one", target_condition=of("n")))
    assert applied(fleet, "one", of("n")) == {("leaf", "n")}
    fleet.do(UpdateDeployment("one", target_condition=condition), ChangeAdmission("one", Ended()))
    assert fleet.fleet_projection.twins("one")["one"] == {"target": 0, "actual": 0}
    assert fleet.fleet_projection.not_applied("leaf") == (NotApplied("one", Why.ENDED),)


def test_an_update_can_name_another_module(fleet: Fleet) -> None:
    fleet.do(CreateModule("leaf", "own"), given("one", x=1), given("stays", of("own"), z=1))
    fleet.do(UpdateDeployment("one", target_condition=of("own")))
    assert (desired(fleet), desired(fleet, module="own")) == ({"$version": 3}, {"x": 1, "z": 1, "$version": 3})
    assert (statuses(fleet), statuses(fleet, module="own")) == ({}, {"one": "Applied", "stays": "Applied"})
    fleet.do(UpdateDeployment("one", target_condition=""))
    assert (desired(fleet, module="own")["z"], statuses(fleet, module="own")) == (1, {"stays": "Applied"})
    assert fleet.fleet_projection.status("one")["one"]["target"] == 0


def test_what_is_over_the_limit_is_held_back_with_a_reason(fleet: Fleet) -> None:
    many = {f"k{number}": "x" * 4000 for number in range(5)}
    fleet.do(given("one", **many))
    fleet.do(given("two", **{f"{name}b": value for name, value in many.items()}))
    effective = fleet.fleet_projection.effective("leaf")
    assert effective is not None
    assert "desired properties of the module from configurations have" in effective.assignment.module_part("m").reason
    assert desired(fleet) == {**many, "$version": 2}
    assert statuses(fleet) == {"one": "Applied", "two": "Targeted"}
    assert fleet.fleet_projection.not_applied("leaf") == (
        NotApplied("one", Why.OVER_LIMIT),
        NotApplied("two", Why.OVER_LIMIT),
    )
    fleet.do(DeleteDeployment("one"))
    assert desired(fleet)["$version"] == 3
    assert fleet.fleet_projection.not_applied("leaf") == ()


def test_one_that_has_ended_gives_nothing_and_says_so(fleet: Fleet) -> None:
    fleet.do(given("one", x=1), given("empty"), ChangeAdmission("one", Ended()))
    assert (desired(fleet), statuses(fleet)) == ({"$version": 1}, {"empty": "Applied"})
    assert fleet.fleet_projection.not_applied("leaf") == (NotApplied("one", Why.ENDED),)


def test_a_scope_is_of_the_device(fleet: Fleet) -> None:
    fleet.do(PatchTags("leaf", {"site": "north"}))
    fleet.do_within(Scope("tags.site = 'north'"), given("one", x=1))
    assert list(fleet.fleet_projection.members("one", "target")) == ["leaf"]
    fleet.do(PatchTags("edge", {"site": "north"}), PatchTags("leaf", {"site": "south"}))
    assert (list(fleet.fleet_projection.members("one", "actual")), desired(fleet, "edge")["x"]) == (["edge"], 1)


def test_a_scope_holds_of_every_module_of_the_device(fleet: Fleet) -> None:
    condition = where("moduleId > 'a'")
    fleet.do(PatchTags("leaf", {"site": "north"}), CreateModule("leaf", "n"))
    fleet.do_within(Scope("tags.site = 'north'"), given("one", condition, x=1))
    assert fleet.fleet_projection.twins("one")["one"] == {"target": 2, "actual": 2}
    fleet.do(PatchTags("leaf", {"site": "south"}))
    assert (fleet.fleet_projection.twins("one")["one"]["actual"], desired(fleet, module="n")) == (0, {"$version": 3})
    fleet.do(PatchTags("edge", {"site": "north"}))
    assert (list(fleet.fleet_projection.members("one", "actual")), desired(fleet, "edge")["x"]) == (["edge"], 1)


def test_edge_deployments_and_own_twins_are_not_disturbed(fleet: Fleet) -> None:
    before = fleet.fleet_projection.effective("edge")
    assert before is not None
    fleet.do(given("one", of("own"), x=1), CreateModule("edge", "own"))
    fleet.do(CreateDeployment("two", {"deviceContent": {"properties.desired.x": 2}}, target_condition="*"))
    after = fleet.fleet_projection.effective("edge")
    assert after is not None
    assert (after.assignment.stack, after.assignment.versions, after.sections) == (
        before.assignment.stack,
        before.assignment.versions,
        before.sections,
    )
    device = fleet.twins.device("edge")
    assert device is not None
    assert (device["properties"]["desired"]["x"], device["configurations"].keys()) == (2, {"two"})
    assert (desired(fleet, "edge", "own")["x"], statuses(fleet, "edge", "own")["one"]) == (1, "Applied")
    fleet.do(DeleteDeployment("base"))
    assert (
        list(fleet.fleet_projection.with_status(AssignmentStatus.UNMANAGED)),
        desired(fleet, "edge", "own")["x"],
    ) == (["edge"], 1)


def test_a_module_of_any_name_has_its_part(fleet: Fleet) -> None:
    fleet.do(CreateModule("leaf", "own"), CreateModule("leaf", "configuration"), CreateModule("leaf", "modules"))
    fleet.do(*(given(name, of(name), x=at) for at, name in enumerate(["own", "configuration", "modules"])))
    assert [desired(fleet, module=name)["x"] for name in ("own", "configuration", "modules")] == [0, 1, 2]
    device = fleet.twins.device("leaf")
    assert device is not None
    assert "x" not in device["properties"]["desired"]
