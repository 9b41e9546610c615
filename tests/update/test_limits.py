"""The exact limits of updates and groups, and what each decision looks at."""

from typing import Any

import pytest

from events.decider import CommandAuthor
from events.deployment.decider import PRIORITY_MAX, TIME_MAX
from events.deployment.events import AdmissionChanged, DeploymentCreated, DeploymentDeleted, Everyone, Kept, NotStarted
from events.rollout.plan import EVERY_DEVICE
from events.update.commands import DefineGroup, DeleteUpdateDeployment
from events.update.decider import DECIDER, plan_of
from events.update.errors import GroupInvalid, UpdateInvalid
from events.update.events import RollbackPolicy, UpdateDeployed, UpdateDeploymentCanceled, UpdateDeploymentRetried
from events.update.names import UPDATE_DEPLOYMENT_CHARACTERS_MAX, update_deployment_of
from events.update.rules import TEXT_CHARACTERS_MAX, check
from events.update.state import evolve_group
from tests.deployment.given import document_of
from tests.update.given import V1, V2, back_to, cancel, deploy, imported
from tests.workers.system import base

COUNT_MAX = 2**31 - 1
TEXT = "x" * TEXT_CHARACTERS_MAX
NAME = "n" * (UPDATE_DEPLOYMENT_CHARACTERS_MAX - len(update_deployment_of("north", "")))


@pytest.mark.parametrize(
    "command",
    [
        DefineGroup("north", "*", 0),
        DefineGroup("north", "*", PRIORITY_MAX),
        imported(V1, description=TEXT, friendly_name=TEXT),
        cancel("1", reason=TEXT),
        deploy(NAME),
        deploy("1", start_at=0),
        deploy("1", start_at=TIME_MAX),
        deploy("1", end_at=1),
        deploy("1", end_at=TIME_MAX),
        deploy("1", policy=back_to(V2, percent=0.0)),
        deploy("1", policy=back_to(V2, percent=100.0)),
        deploy("1", policy=back_to(V2, count=1)),
        deploy("1", policy=back_to(V2, count=COUNT_MAX)),
        deploy("1", policy=back_to(V2, answered_min=0)),
        deploy("1", policy=back_to(V2, answered_min=COUNT_MAX)),
    ],
    ids=range(15),
)
def test_what_is_at_a_limit_is_within_it(command: Any) -> None:
    check(command)


@pytest.mark.parametrize(
    ("command", "element"),
    [
        (DefineGroup("north", "*", -1), "priority"),
        (DefineGroup("north", "*", PRIORITY_MAX + 1), "priority"),
        (imported(V1, description=TEXT + "x"), "description"),
        (cancel("1", reason=TEXT + "x"), "reason"),
        (deploy(NAME + "n"), "deployment"),
        (deploy("1", start_at=-1), "start_at"),
        (deploy("1", start_at=TIME_MAX + 1), "start_at"),
        (deploy("1", start_at=5, end_at=5), "end_at"),
        (deploy("1", end_at=TIME_MAX + 1), "end_at"),
        (deploy("1", policy=back_to(V2, percent=-0.1)), "policy.percent"),
        (deploy("1", policy=back_to(V2, percent=100.1)), "policy.percent"),
        (deploy("1", policy=back_to(V2, count=0)), "policy.count"),
        (deploy("1", policy=back_to(V2, count=COUNT_MAX + 1)), "policy.count"),
        (deploy("1", policy=back_to(V2, answered_min=-1)), "policy.answered_min"),
        (deploy("1", policy=back_to(V2, answered_min=COUNT_MAX + 1)), "policy.answered_min"),
    ],
    ids=range(15),
)
def test_what_is_past_a_limit_is_refused_by_its_element(command: Any, element: str) -> None:
    with pytest.raises((GroupInvalid, UpdateInvalid), match=element):
        check(command)


def test_without_a_policy_nobody_is_waited_for_and_with_one_everyone_is() -> None:
    assert plan_of(None).phases[0].gate.answered_min == 0
    assert plan_of(RollbackPolicy(V2, 50)).phases[0].gate.answered_min == EVERY_DEVICE


def test_a_deployment_without_a_rollout_is_kept_if_everyone_is_admitted() -> None:
    update_deployment = update_deployment_of("north", "1")
    active = evolve_group(None, UpdateDeployed("1", V1), version=1, at=1)
    for admission, kept in ((Everyone(), [AdmissionChanged(Kept({}))]), (NotStarted(), [])):
        document = document_of(DeploymentCreated(base("m"), "*", 1, admission=admission))
        documents = {"group:north": active, update_deployment: document}
        changes = DECIDER.decide(cancel("1", keepers={update_deployment: {}}), documents, CommandAuthor("user:ada"))
        assert [change.event for change in changes if change.subject == update_deployment] == kept


def test_retries_are_those_of_the_deployment() -> None:
    group = None
    events = (UpdateDeployed("1", V1), UpdateDeployed("2", V2), *[UpdateDeploymentRetried("1")] * 2)
    for version, event in enumerate((*events, UpdateDeploymentRetried("2")), start=1):
        group = evolve_group(group, event, version=version, at=version)
    assert group is not None
    assert [one.retries for one in group.deployments] == [2, 1]


def test_a_deployment_whose_rollout_is_gone_is_canceled_and_deleted_all_the_same() -> None:
    update_deployment = update_deployment_of("north", "1")
    document = document_of(DeploymentCreated(base("m"), "*", 1, admission=Everyone()))
    active = evolve_group(None, UpdateDeployed("1", V1), version=1, at=1)
    assert active is not None
    over = evolve_group(active, UpdateDeploymentCanceled("1"), version=2, at=2)
    assert over is not None
    for group, command, of_carrier in (
        (active, cancel("1", keepers={update_deployment: {}}), AdmissionChanged(Kept({}))),
        (over, DeleteUpdateDeployment("north", "1"), DeploymentDeleted()),
    ):
        stands = {"group:north": group, update_deployment: document}
        changes = list(DECIDER.decide(command, stands, CommandAuthor("user:ada")))
        assert [change.event for change in changes if change.subject == update_deployment] == [of_carrier]
        assert len(changes) == 2


def test_a_new_deployment_needs_the_one_that_it_supersedes_and_any_other_act_its_own_alone() -> None:
    group = None
    for version, name in enumerate(("1", "2"), start=1):
        group = evolve_group(group, UpdateDeployed(name, V1), version=version, at=version)
    assert group is not None
    first, second, third = (update_deployment_of("north", name) for name in "123")
    stands = {"group:north": group}
    assert list(DECIDER.also(deploy("3"), stands)) == [second, f"rollout:{second}", third, f"rollout:{third}"]
    assert list(DECIDER.also(cancel("1"), stands)) == [first, f"rollout:{first}"]
