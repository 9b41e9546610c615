from collections.abc import Iterator

import pytest

from events import (
    ChangeAdmission,
    CreateDeployment,
    DeleteDeployment,
    PatchTags,
    RetireDevice,
    UpdateDeployment,
    UpdateDevice,
)
from events.deployment.events import Admitted, Ended, Everyone, NotStarted
from events.fleet.assignments import AssignmentStatus
from events.log.fleet_documents import deployments
from events.stored_projection.not_applied import NotApplied, Why
from services.embedded_redis import EmbeddedRedis
from tests.workers.system import System, answer, base, deploy, fresh_system, join, layer

pytestmark = pytest.mark.redis_server


@pytest.fixture
def system(shared_redis: EmbeddedRedis) -> Iterator[System]:
    with fresh_system(shared_redis) as system, system.process("-m", "workers.pool"):
        yield system


def running(system: System, device_id: str) -> tuple[str, ...]:
    effective = system.fleet_projection.effective(device_id)
    assert effective is not None
    return tuple(deployment.id for deployment in effective.assignment.stack)


def modules(system: System, device_id: str) -> set[str]:
    effective = system.fleet_projection.effective(device_id)
    assert effective is not None
    return set(effective.sections["$edgeAgent"]["modules"])


def test_the_story_of_the_seed_ten_devices_then_five_more(system: System) -> None:
    names = [f"prod{number:02d}" for number in range(15)]
    for name in names[:10]:
        system.do(*join(name, environment="prod"))
    system.do(*join("other", environment="test"))
    system.do(deploy("a", base("temp"), "tags.environment = 'prod'"))
    system.settle()
    assert system.status("a")["pending"] == 10
    system.do(*(answer(system, name, temp="running") for name in names[:10]))
    system.settle()
    for name in names[10:]:
        system.do(*join(name, environment="prod"))
    system.settle()
    counts = system.status("a")
    assert (counts["target"], counts["actual"], counts["healthy"]) == (15, 15, 10)
    assert (counts["unhealthy"], counts["pending"], counts["unknown"]) == (0, 5, 5)


@pytest.mark.full
def test_the_highest_priority_wins_and_ties_go_to_the_one_created_last(system: System) -> None:
    system.do(*join("d"), deploy("low", base("a"), priority=1), deploy("high", base("b"), priority=5))
    system.settle()
    assert running(system, "d") == ("high",)
    system.do(deploy("later", base("c"), priority=5))
    system.settle()
    assert running(system, "d") == ("later",)
    assert {name: system.status(name)["actual"] for name in ("low", "high", "later")} == {
        "low": 0,
        "high": 0,
        "later": 1,
    }


def test_layers_apply_above_the_base_only_and_of_equal_ones_the_newest(system: System) -> None:
    system.do(
        *join("d"),
        deploy("base", base("a"), priority=5),
        deploy("below", layer("x"), priority=4),
        deploy("level", layer("y"), priority=5),
        deploy("older", layer("m", v=1), priority=7),
        deploy("newer", layer("n", v=2), priority=7),
        deploy("top", layer("n", v=3), priority=9),
    )
    system.settle()
    assert running(system, "d") == ("base", "newer", "top")
    assert modules(system, "d") == {"a", "n"}
    effective = system.fleet_projection.effective("d")
    assert effective is not None
    assert effective.sections["n"] == {"v": 3}


@pytest.mark.full
def test_a_device_that_leaves_every_condition_keeps_what_it_runs_and_is_unmanaged(system: System) -> None:
    system.do(*join("d", environment="prod"), deploy("a", base("temp"), "tags.environment = 'prod'"))
    system.settle()
    system.do(PatchTags("d", {"environment": None}))
    system.settle()
    effective = system.fleet_projection.effective("d")
    assert effective is not None
    assert (effective.managed, modules(system, "d")) == (False, {"temp"})
    assert list(system.fleet_projection.with_status(AssignmentStatus.UNMANAGED)) == ["d"]
    assert effective.at == max(
        assignment_change.at
        for assignment_change in system.projections.assignment_changes(_home(system, "d"), after=0, limit=9)
    )
    assert system.status("a")["actual"] == 0


def _home(system: System, device_id: str) -> int:
    from events.log.keys import partition_of  # noqa: PLC0415 - used here alone

    return partition_of(device_id, system.log.partitions)


def test_deleting_a_deployment_falls_back_to_the_next_and_the_last_one_leaves_its_modules(system: System) -> None:
    system.do(*join("d"), deploy("low", base("a"), priority=1), deploy("high", base("b"), priority=5))
    system.settle()
    system.do(DeleteDeployment("high"))
    system.settle()
    assert (running(system, "d"), modules(system, "d")) == (("low",), {"a"})
    system.do(DeleteDeployment("low"))
    system.settle()
    assert modules(system, "d") == {"a"}
    assert list(system.fleet_projection.with_status(AssignmentStatus.UNMANAGED)) == ["d"]


@pytest.mark.full
def test_a_deployment_without_modules_empties_the_device(system: System) -> None:
    system.do(*join("d"), deploy("full", base("a"), priority=1))
    system.settle()
    system.do(deploy("empty", base(), priority=2))
    system.settle()
    assert modules(system, "d") == set()


@pytest.mark.full
def test_a_base_created_again_above_its_layer_says_which_layer_no_longer_applies(system: System) -> None:
    system.do(*join("d"), deploy("base", base("a"), priority=1), deploy("extra", layer("x"), priority=2))
    system.settle()
    assert running(system, "d") == ("base", "extra")
    assert system.fleet_projection.not_applied("d") == ()
    system.do(DeleteDeployment("base"))
    (advice,) = system.producer.do(deploy("base", base("a"), priority=2))
    assert (advice.rule, advice.about) == ("layer-not-above-base", "extra")
    system.settle()
    assert running(system, "d") == ("base",)
    counts = system.status("extra")
    assert (counts["target"], counts["actual"]) == (1, 0)
    assert system.fleet_projection.not_applied("d") == (NotApplied("extra", Why.LAYER_NOT_ABOVE_BASE, "base"),)


@pytest.mark.full
def test_whatever_targets_a_device_in_vain_is_named_with_its_reason(system: System) -> None:
    system.do(
        *join("d"),
        *join("bare", kind="bare"),
        deploy("low", base("a"), "tags.kind != 'bare' OR NOT is_defined(tags.kind)", priority=1),
        deploy("high", base("b"), "tags.kind != 'bare' OR NOT is_defined(tags.kind)", priority=5),
        deploy("older", layer("x"), priority=7),
        deploy("newer", layer("y"), priority=7),
        deploy("later", base("c"), priority=9),
        ChangeAdmission("later", NotStarted()),
    )
    system.settle()
    assert system.fleet_projection.not_applied("d") == (
        NotApplied("later", Why.NOT_STARTED),
        NotApplied("low", Why.BASE_OUTRANKED, "high"),
        NotApplied("older", Why.NEWER_LAYER, "newer"),
    )
    assert system.fleet_projection.not_applied("bare") == (
        NotApplied("later", Why.NOT_STARTED),
        NotApplied("newer", Why.NO_BASE),
        NotApplied("older", Why.NO_BASE),
    )
    assert system.fleet_projection.not_applied("nobody") == ()


def test_a_merge_over_a_limit_keeps_the_old_configuration_with_its_reason(system: System) -> None:
    system.do(*join("d"), deploy("base", base("a"), priority=1))
    system.settle()
    texts = {f"t{number}": "x" * 4000 for number in range(8)}
    system.do(deploy("big", layer("m", **texts), priority=2))
    system.settle()
    assert running(system, "d") == ("base", "big")
    more = {"modulesContent": {"$edgeAgent": {}, "m": {"properties.desired.more": {"y": "y" * 4000}}}}
    system.do(deploy("more", more, priority=3))
    system.settle()
    effective = system.fleet_projection.effective("d")
    assert effective is not None
    assert effective.assignment.status is AssignmentStatus.OVER_LIMIT
    assert "more than 32768" in effective.assignment.reason
    assert [deployment.id for deployment in effective.assignment.wanted] == ["base", "big", "more"]
    assert running(system, "d") == ("base", "big")
    assert {reason.why for reason in system.fleet_projection.not_applied("d")} == {Why.OVER_LIMIT}
    crowd = [deploy(f"m{number}", layer(f"m{number}"), priority=10 + number) for number in range(51)]
    system.do(DeleteDeployment("more"), *crowd)
    system.settle()
    effective = system.fleet_projection.effective("d")
    assert effective is not None
    assert "modules are more than the 50" in effective.assignment.reason


def test_admissions_decide_who_of_the_targeted_receives_it(system: System) -> None:
    system.do(*join("d"), deploy("a", base("a")), ChangeAdmission("a", NotStarted()))
    system.settle()
    assert (system.status("a")["target"], system.status("a")["actual"]) == (0, 0)
    assert system.fleet_projection.not_applied("d") == (NotApplied("a", Why.NOT_STARTED),)
    system.do(ChangeAdmission("a", Admitted(("someone-else",))))
    system.settle()
    assert (system.status("a")["target"], system.status("a")["actual"]) == (1, 0)
    assert system.fleet_projection.not_applied("d") == (NotApplied("a", Why.NOT_ADMITTED),)
    system.do(ChangeAdmission("a", Everyone()))
    system.settle()
    assert system.status("a")["actual"] == 1
    system.do(ChangeAdmission("a", Ended()))
    system.settle()
    assert (system.status("a")["target"], system.status("a")["actual"]) == (0, 0)
    assert system.fleet_projection.not_applied("d") == (NotApplied("a", Why.ENDED),)
    assert list(system.fleet_projection.with_status(AssignmentStatus.UNMANAGED)) == ["d"]


@pytest.mark.full
def test_only_edge_capable_devices_are_targeted_and_a_disabled_one_is(system: System) -> None:
    system.do(*join("d"), *join("e"), UpdateDevice("d", edge=False), UpdateDevice("e", enabled=False))
    system.do(deploy("a", base("a")))
    system.settle()
    assert list(system.fleet_projection.members("a", "target")) == ["e"]


@pytest.mark.full
def test_a_condition_on_reported_properties_finds_those_that_reported_before_it_was_made(system: System) -> None:
    from events import ReportProperties  # noqa: PLC0415 - used here alone

    system.do(*join("d"), *join("e"), ReportProperties("d", {"model": {"name": "4000x"}}))
    system.settle()
    system.do(deploy("a", base("a"), "properties.reported.model.name = '4000x'"))
    system.settle()
    assert list(system.fleet_projection.members("a", "actual")) == ["d"]
    system.do(ReportProperties("e", {"model": {"name": "4000x"}}), ReportProperties("d", {"model": None}))
    system.settle()
    assert list(system.fleet_projection.members("a", "actual")) == ["e"]


@pytest.mark.full
def test_a_retired_device_is_gone_and_registered_again_begins_anew(system: System) -> None:
    system.do(*join("d", environment="prod"), deploy("a", base("a"), "tags.environment = 'prod'"))
    system.settle()
    system.do(RetireDevice("d"))
    system.settle()
    assert system.status("a")["target"] == 0
    assert system.fleet_projection.effective("d") is None
    system.do(*join("d", environment="prod"))
    system.settle()
    effective = system.fleet_projection.effective("d")
    assert effective is not None
    assert (running(system, "d"), effective.assignment.agent_version) == (("a",), 2)


@pytest.mark.full
def test_versions_count_the_changes_of_each_module_alone(system: System) -> None:
    system.do(*join("d"), deploy("base", base("a"), priority=1))
    system.settle()
    system.do(deploy("one", layer("m", v=1), priority=2))
    system.settle()
    system.do(deploy("two", layer("m", v=2), priority=3))
    system.settle()
    effective = system.fleet_projection.effective("d")
    assert effective is not None
    assert effective.assignment.versions == {"$edgeAgent": 3, "$edgeHub": 2, "m": 3}


@pytest.mark.full
def test_failures_406_and_wrong_module_states_are_told_apart(system: System) -> None:
    names = ("well", "failed", "leaving", "sick", "stale", "silent")
    for name in names:
        system.do(*join(name))
    system.do(deploy("a", base("temp")))
    system.settle()
    system.do(
        answer(system, "well", temp="running"),
        answer(system, "failed", code=500, temp="running"),
        answer(system, "leaving", code=406, temp="unknown"),
        answer(system, "sick", temp="failed"),
        answer(system, "stale", temp="running"),
    )
    system.do(UpdateDeployment("a", labels={"x": "y"}))
    system.settle()
    assert list(system.fleet_projection.members("a", "healthy")) != []
    assert sorted(system.fleet_projection.members("a", "healthy")) == ["stale", "well"]
    assert sorted(system.fleet_projection.members("a", "unhealthy")) == ["failed", "sick"]
    assert sorted(system.fleet_projection.members("a", "unknown")) == ["leaving", "silent"]
    assert sorted(system.fleet_projection.members("a", "reportedFailed")) == ["failed", "leaving"]
    assert sorted(system.fleet_projection.members("a", "pending")) == ["silent"]
    system.do(deploy("b", base("temp", image="example.com/b:2.0.0"), priority=2))
    system.settle()
    assert system.status("b")["pending"] == 6


@pytest.mark.full
def test_deployments_are_listed_by_label(system: System) -> None:
    for name, labels in (("a", {"team": "x", "stage": "1"}), ("b", {"team": "x"}), ("c", {"team": "y"})):
        system.do(CreateDeployment(name, base("m"), labels=labels))
    assert [name for name, _ in deployments(system.log)] == ["a", "b", "c"]
    assert [name for name, _ in deployments(system.log, labels={"team": "x"})] == ["a", "b"]
    system.do(UpdateDeployment("b", labels={"team": "y"}), DeleteDeployment("c"))
    assert [name for name, _ in deployments(system.log, labels={"team": "y"})] == ["b"]
