"""Updates and groups: what may happen to them, and what stands afterwards."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.access.errors import OutOfScope
from events.access.scope import Scope
from events.canonical import encode as encode_rollout
from events.deployment.commands import ChangeAdmission, CreateDeployment, DeleteDeployment, UpdateDeployment
from events.deployment.errors import DeploymentsFull
from events.deployment.events import Ended, Everyone, Kept, NotStarted
from events.log.keys import FLEET
from events.log.port import AT_APPEND, Proposed
from events.manifest.errors import ManifestInvalid
from events.rollout.commands import AbortRollout, PauseRollout, ResumeRollout, RetryFailed, RollBack, StartRollout
from events.rollout.events import Evidence, RecordedCounts, RolloutCompleted, RolloutEvent
from events.rollout.plan import Failure, OnFailure, Phase, RolloutPlan
from events.rollout.state import RolloutState
from events.rollout.state import evolve as evolve_rollout
from events.rollout.state import subject_of as rollout_subject
from events.update.commands import (
    CancelUpdateDeployment,
    DefineGroup,
    DeleteUpdate,
    DeleteUpdateDeployment,
    ImportUpdate,
    RemoveGroup,
    RetryUpdateDeployment,
)
from events.update.compatibility import both, condition_of
from events.update.errors import (
    GroupBusy,
    GroupDeploymentExists,
    GroupDeploymentForbidden,
    GroupDeploymentNotFound,
    GroupInvalid,
    GroupNotFound,
    UpdateExists,
    UpdateInUse,
    UpdateInvalid,
    UpdateNotFound,
)
from events.update.names import UpdateId, group_and_deployment, read_update, update_deployment_of
from tests.producer.logs import ADA, RacingLog, producer
from tests.replayed import replay
from tests.update.given import V1, V2, V3, Fleet, back_to, cancel, deploy, imported
from tests.workers.system import base

UPDATE_DEPLOYMENT = update_deployment_of("north", "1")
ROLLOUT = rollout_subject(UPDATE_DEPLOYMENT)
EVIDENCE = Evidence(RecordedCounts(), ())


def retry(name: str) -> RetryUpdateDeployment:
    return RetryUpdateDeployment("north", name)


def happens(fleet: Fleet, name: str, event: RolloutEvent) -> None:
    """What the scheduler writes."""
    document, update_deployment = fleet.rollout(name), update_deployment_of("north", name)
    after = evolve_rollout(document, event, version=document.version + 1, at=AT_APPEND)
    assert after is not None
    subject = rollout_subject(update_deployment)
    proposed = Proposed(subject, document.version, event, ((subject, encode_rollout(after)),))
    fleet.log.append([proposed], command_id=f"{subject}:{document.version}", by=ADA, at=1000)


def test_an_update_that_is_deployed_is_a_deployment_and_its_rollout_in_one_step() -> None:
    fleet = Fleet()
    assert fleet.names(deploy("1")) == [
        ("group:north", "UpdateDeployed"),
        (UPDATE_DEPLOYMENT, "DeploymentCreated"),
        (ROLLOUT, "RolloutCreated"),
        (ROLLOUT, "RolloutStarted"),
    ]
    update_deployment, rollout = fleet.update_deployment("1"), fleet.rollout("1")
    assert update_deployment.target_condition == "tags.ADUGroup = 'north'"
    assert (update_deployment.priority, update_deployment.admission) == (1_000_000_000, NotStarted())
    assert update_deployment.content["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"]["m"][
        "settings"
    ] == {"image": "example.com/camera:1.0"}
    assert update_deployment.labels == {
        "twinfold.group": "north",
        "twinfold.update": "contoso/camera/1.0",
        "twinfold.deployment": "1",
    }
    assert (rollout.state, rollout.plan.phases[0].percent, rollout.plan.rollback_to) == (RolloutState.RUNNING, 100, "")
    assert fleet.states() == {"1": "active"}


def test_what_starts_at_a_time_waits_for_the_scheduler() -> None:
    fleet = Fleet()
    assert [kind for _, kind in fleet.names(deploy("1", start_at=5000))][-1] == "RolloutCreated"
    assert (fleet.update_deployment("1").start_at, fleet.rollout("1").state) == (5000, RolloutState.CREATED)
    fleet.do(StartRollout(UPDATE_DEPLOYMENT, due_at=5000, late_ms=3))
    assert fleet.rollout("1").state is RolloutState.RUNNING


def test_a_policy_is_the_failure_of_the_rollout_and_where_it_goes_back_to() -> None:
    fleet = Fleet()
    fleet.do(deploy("1", V2, policy=back_to(V1, percent=20, count=3, answered_min=5)))
    plan = fleet.rollout("1").plan
    assert plan.failure == Failure(percent=20, count=3, answered_min=5, then=OnFailure.ROLL_BACK)
    assert plan.rollback_to == "update:contoso/camera/1.0"


def test_phases_may_be_given_and_fail_as_the_policy_says() -> None:
    fleet = Fleet()
    phases = (Phase(percent=10), Phase(percent=100))
    fleet.do(deploy("1", V2, policy=back_to(V1), plan=RolloutPlan(phases)))
    plan = fleet.rollout("1").plan
    assert (plan.phases, plan.failure.then, plan.rollback_to) == (phases, OnFailure.ROLL_BACK, V1.subject)
    fleet.do(deploy("2", plan=RolloutPlan(phases)))
    assert fleet.rollout("2").plan == RolloutPlan(phases)


@pytest.mark.parametrize(
    ("members", "condition"),
    [
        ({}, "tags.ADUGroup = 'north'"),
        ({"compatibility": ({"model": "x", "tags.maker": "it's"},)},
         "(tags.ADUGroup = 'north') AND (tags.model = 'x' AND tags.maker = 'it''s')"),
        ({"compatibility": ({"model": "x"}, {"condition": "tags.a > 1"})},
         "(tags.ADUGroup = 'north') AND ((tags.model = 'x') OR (tags.a > 1))"),
        ({"compatibility": ({"condition": "*"},)}, "tags.ADUGroup = 'north'"),
    ],
)  # fmt: skip
def test_whom_it_targets_is_the_group_as_far_as_the_update_fits(members: dict[str, Any], condition: str) -> None:
    fleet, update = Fleet(), UpdateId("contoso", "hub", "1.0")
    fleet.do(imported(update, **members), deploy("1", update))
    assert fleet.update_deployment("1").target_condition == condition


def test_a_group_is_by_its_tag_or_by_a_condition_and_without_a_tag_the_default() -> None:
    fleet = Fleet()
    fleet.do(DefineGroup("west", "tags.site = 'w'", priority=7), deploy("1", group="west"))
    assert (fleet.update_deployment("1", "west").target_condition, fleet.update_deployment("1", "west").priority) == (
        "tags.site = 'w'",
        7,
    )
    fleet.do(deploy("1", group="$default"))
    assert fleet.update_deployment("1", "$default").target_condition == "NOT is_defined(tags.ADUGroup)"
    assert isinstance(fleet.refused(DefineGroup("west", "*")), GroupBusy)
    assert isinstance(fleet.refused(RemoveGroup("west")), GroupBusy)
    fleet.do(CancelUpdateDeployment("west", "1"), DefineGroup("west"), deploy("2", group="west"))
    assert fleet.update_deployment("2", "west").target_condition == "tags.ADUGroup = 'west'"


def test_a_second_deployment_supersedes_the_first_in_the_same_step() -> None:
    fleet = Fleet()
    fleet.do(deploy("1"))
    assert fleet.names(deploy("2", V2))[-1] == (ROLLOUT, "RolloutAborted")
    assert fleet.states() == {"1": "superseded", "2": "active"}
    assert (fleet.rollout("1").state, fleet.rollout("1").reason) == (RolloutState.ABORTED, "superseded by 2")
    # Who has it keeps it until the other one arrives.
    assert fleet.update_deployment("1").admission == NotStarted()
    fleet.do(deploy("3", V3, start_at=5000), deploy("4"))
    assert fleet.states() == {"1": "superseded", "2": "superseded", "3": "superseded", "4": "active"}
    assert fleet.update_deployment("3").admission == Ended()


def test_one_that_everybody_was_admitted_to_is_closed_to_newcomers() -> None:
    fleet = Fleet()
    fleet.do(deploy("1"))
    happens(fleet, "1", RolloutCompleted(EVIDENCE))
    assert "keepers" in str(fleet.refused(deploy("2", V2)))
    assert "keepers" in str(fleet.refused(cancel("1")))
    assert fleet.names(cancel("1", keepers={UPDATE_DEPLOYMENT: {"0": "eA=="}})) == [
        ("group:north", "UpdateDeploymentCanceled"),
        (UPDATE_DEPLOYMENT, "AdmissionChanged"),
    ]
    assert fleet.update_deployment("1").admission == Kept({"0": "eA=="})
    # What is closed stays as it is, whatever comes after it.
    assert (UPDATE_DEPLOYMENT, "AdmissionChanged") not in fleet.names(deploy("2", V2))


def test_a_canceled_deployment_is_over_for_good() -> None:
    fleet = Fleet()
    fleet.do(deploy("1"), cancel("1", reason="wrong one"))
    assert fleet.states() == {"1": "canceled"}
    assert (fleet.rollout("1").state, fleet.rollout("1").reason) == (RolloutState.ABORTED, "wrong one")
    by_hand = [StartRollout, ResumeRollout, RetryFailed, AbortRollout, RollBack, PauseRollout]
    for command in (cancel("1"), retry("1"), *(one(UPDATE_DEPLOYMENT) for one in by_hand)):
        assert isinstance(fleet.refused(command), GroupDeploymentForbidden), command
    assert isinstance(fleet.refused(deploy("1")), GroupDeploymentExists)
    fleet.do(deploy("2"))
    assert fleet.states() == {"1": "canceled", "2": "active"}


def test_a_superseded_deployment_is_over_for_good() -> None:
    fleet = Fleet()
    fleet.do(deploy("1"), deploy("2"))
    for command in (cancel("1"), retry("1")):
        assert str(fleet.refused(command)) == "deployment '1': it is superseded, which is final"
    for command in (RollBack(UPDATE_DEPLOYMENT), ResumeRollout(UPDATE_DEPLOYMENT)):
        assert str(fleet.refused(command)) == f"deployment '{UPDATE_DEPLOYMENT}': it has ended, which is final"


def test_those_who_failed_are_asked_to_try_again() -> None:
    fleet = Fleet()
    fleet.do(deploy("1"))
    assert fleet.names(retry("1")) == [("group:north", "UpdateDeploymentRetried"), (ROLLOUT, "RetryAsked")]
    assert fleet.group().deployments[0].retries == 1
    assert isinstance(fleet.refused(retry("1")), GroupDeploymentForbidden)
    fleet.do(deploy("2", start_at=5000))
    assert isinstance(fleet.refused(retry("2")), GroupDeploymentForbidden)
    assert isinstance(fleet.refused(retry("3")), GroupDeploymentNotFound)
    assert isinstance(fleet.refused(cancel("3")), GroupDeploymentNotFound)


def test_a_deployment_that_is_over_can_be_deleted_and_its_group_removed() -> None:
    fleet = Fleet()
    gone = [(UPDATE_DEPLOYMENT, "DeploymentDeleted"), (ROLLOUT, "RolloutDeleted")]
    fleet.do(deploy("1"))
    assert isinstance(fleet.refused(DeleteUpdateDeployment("north", "1")), GroupDeploymentForbidden)
    fleet.do(cancel("1"))
    assert fleet.names(DeleteUpdateDeployment("north", "1")) == [("group:north", "UpdateDeploymentDeleted"), *gone]
    assert isinstance(fleet.refused(DeleteUpdateDeployment("north", "1")), GroupDeploymentNotFound)
    fleet.do(deploy("1"), cancel("1"))
    assert fleet.names(RemoveGroup("north")) == [("group:north", "GroupRemoved"), *gone]
    assert isinstance(fleet.refused(RemoveGroup("north")), GroupNotFound)


def test_an_update_is_imported_once_and_deleted_when_nobody_uses_it() -> None:
    fleet = Fleet()
    assert isinstance(fleet.refused(imported(V1)), UpdateExists)
    fleet.do(deploy("1", V2, policy=back_to(V1)))
    assert isinstance(fleet.refused(DeleteUpdate(V2)), UpdateInUse)
    assert isinstance(fleet.refused(DeleteUpdate(V1)), UpdateInUse)
    fleet.do(cancel("1"))
    fleet.do(DeleteUpdate(V1), DeleteUpdate(V2))
    assert isinstance(fleet.refused(DeleteUpdate(V1)), UpdateNotFound)
    assert isinstance(fleet.refused(deploy("2", V1)), UpdateNotFound)
    assert isinstance(fleet.refused(deploy("2", V3, policy=back_to(V1))), UpdateNotFound)
    fleet.do(imported(V1), deploy("2", V1))


def test_a_deployment_that_carries_an_update_is_not_changed_past_its_group() -> None:
    fleet = Fleet()
    fleet.do(deploy("1"))
    for command in (
        UpdateDeployment(UPDATE_DEPLOYMENT, priority=1),
        ChangeAdmission(UPDATE_DEPLOYMENT, Everyone()),
        DeleteDeployment(UPDATE_DEPLOYMENT),
        CreateDeployment(update_deployment_of("north", "2"), base("m")),
        AbortRollout(UPDATE_DEPLOYMENT),
        RetryFailed(UPDATE_DEPLOYMENT),
    ):
        assert isinstance(fleet.refused(command), GroupDeploymentForbidden)
    fleet.do(PauseRollout(UPDATE_DEPLOYMENT), ResumeRollout(UPDATE_DEPLOYMENT))


def test_two_who_deploy_at_once_have_one_active_deployment_between_them() -> None:
    log = RacingLog()
    ada, bo = producer(log), producer(log)
    ada.submit([imported(V1)]).raise_if_refused()
    log.rivals.append(lambda: bo.submit([deploy("2")]).raise_if_refused())
    ada.submit([deploy("1")]).raise_if_refused()
    fleet = Fleet()
    fleet.log = log
    assert fleet.states() == {"2": "superseded", "1": "active"}


def test_whoever_is_scoped_reaches_no_group() -> None:
    fleet = Fleet()
    scoped = producer(fleet.log, scope=Scope("tags.site = 'n'"))
    for command in (deploy("1"), DefineGroup("g", "*"), imported(UpdateId("a", "b", "1.0")), DeleteUpdate(V1)):
        (one,) = scoped.submit([command]).refused
        assert isinstance(one.error, OutOfScope)


def test_deployments_of_updates_count_among_all_of_them() -> None:
    fleet = Fleet()
    fleet.producer = producer(fleet.log, deployments_max=1)
    fleet.do(deploy("1"))
    assert isinstance(fleet.refused(deploy("2")), DeploymentsFull)


@pytest.mark.parametrize(
    "command",
    [
        imported(UpdateId("con toso", "c", "1.0")),
        imported(UpdateId("contoso", "", "1.0")),
        imported(UpdateId("contoso", "..", "1.0")),
        imported(UpdateId(".", "c", "1.0")),
        DefineGroup("..", "*"),
        deploy("."),
        imported(UpdateId("contoso", "c", "1")),
        imported(UpdateId("contoso", "c", "1.x")),
        imported(UpdateId("contoso", "c", "1.2.3.4.5")),
        imported(UpdateId("a", "c", "2.0"), compatibility=({},)),
        imported(UpdateId("a", "c", "2.0"), compatibility=({"condition": ""},)),
        imported(UpdateId("a", "c", "2.0"), compatibility=({"condition": "nonsense ="},)),
        imported(UpdateId("a", "c", "2.0"), compatibility=({"condition": "*", "model": "x"},)),
        imported(UpdateId("a", "c", "2.0"), description="x" * 600),
        ImportUpdate(UpdateId("a", "c", "2.0"), {"deviceContent": {"properties.desired.a": 1}}),
        ImportUpdate(UpdateId("a", "c", "2.0"), {"modulesContent": {"$edgeAgent": {"properties.desired": {}}}}),
        DefineGroup("no group", "*"),
        DefineGroup("g", "tags.a ="),
        DefineGroup("g", "*", priority=-1),
        deploy("not an id"),
        deploy("1", group="X" * 60),
        deploy("1", start_at=-1),
        deploy("1", policy=back_to(V1)),
        deploy("1", policy=back_to(V2, percent=101)),
        deploy("1", policy=back_to(V2, count=0)),
        deploy("1", policy=back_to(V2, answered_min=-1)),
        deploy("1", plan=RolloutPlan(())),
        deploy("1", plan=RolloutPlan((Phase(percent=1),), rollback_to="x")),
        cancel("1", reason="x" * 600),
    ],
)
def test_what_no_state_could_allow_is_refused(command: Any) -> None:
    assert isinstance(Fleet().refused(command), UpdateInvalid | GroupInvalid | ManifestInvalid)


def test_a_group_keeps_so_many_deployments_and_is_removed_in_one_step_all_the_same() -> None:
    fleet = Fleet()
    fleet.do(*(deploy(str(number)) for number in range(80)))
    assert isinstance(fleet.refused(deploy("80")), GroupInvalid)
    fleet.do(cancel("79"), RemoveGroup("north"))


def test_snapshots_follow_from_the_events() -> None:
    fleet = Fleet()
    fleet.do(deploy("1"), retry("1"), deploy("2", V2, policy=back_to(V1)), DefineGroup("west", "*"), cancel("2"))
    fleet.do(DeleteUpdate(V3), DefineGroup("gone"), RemoveGroup("gone"))
    applied = replay(fleet.log.read(FLEET, after=0, limit=1000))
    names = [name for name in fleet.log.subjects(FLEET) if name != "log"]
    stored = zip(names, fleet.log.load(names, fleet=True), strict=True)
    assert {name: document.snapshot for name, document in stored if document.snapshot is not None} == applied


@given(st.text(st.sampled_from("aZ0._~-"), min_size=1, max_size=8), st.text(st.sampled_from("aZ0._~-"), min_size=1))
def test_what_carries_an_update_says_for_whom(group: str, deployment: str) -> None:
    assert group_and_deployment(update_deployment_of(group, deployment)) == (group, deployment)


def test_names_are_read_back() -> None:
    assert read_update(V1.subject) == read_update(V1.text) == V1
    assert (
        read_update("a/b"),
        read_update("a/b/x"),
        group_and_deployment("north"),
        group_and_deployment("update+north"),
    ) == (None,) * 4
    assert V3.numbers > V2.numbers
    assert both("*", "a") == both("a", "*") == "a"
    assert condition_of(()) == "*"
    assert msgspec.json.encode(V1) == b'{"provider":"contoso","name":"camera","version":"1.0"}'
    assert "example.com" not in repr(imported(V1))
