"""Commands that are taken all or none: a deployment and its rollout, or the end of both."""

from typing import Any

import pytest

from events import ChangeAdmission, CreateDeployment, DeleteDeployment
from events.deployment.errors import DeploymentExists, DeploymentsFull
from events.deployment.events import AdmissionChanged, DeploymentCreated, Ended, NotStarted
from events.log.memory import MemoryLog
from events.producer.errors import ConflictPersists, Together
from events.rollout.commands import AbortRollout, CreateRollout, StartRollout
from events.rollout.errors import PlanInvalid, RolloutForbidden
from events.rollout.events import RolloutAborted, RolloutCreated
from events.rollout.plan import Phase, RolloutPlan
from tests.manifest.contents import content, layer, module
from tests.producer.logs import Bell, RacingLog, all_events, producer

PLAN = RolloutPlan((Phase(percent=100.0),))
HELD = CreateDeployment("new", content(), "*", admission=NotStarted())


def test_a_deployment_and_its_rollout_are_created_together() -> None:
    log, bell = MemoryLog(partitions=1), Bell()
    producer(log, waker=bell).do(Together((HELD, CreateRollout("new", PLAN))))
    assert [type(event) for event in all_events(log)] == [DeploymentCreated, RolloutCreated]
    assert len(bell.woken) == 1


@pytest.mark.parametrize(
    ("commands", "error"),
    [
        ((HELD, CreateRollout("new", RolloutPlan(()))), PlanInvalid),
        ((HELD, CreateRollout("new", RolloutPlan(PLAN.phases, rollback_to="gone"))), PlanInvalid),
        ((HELD, CreateRollout("new", RolloutPlan(PLAN.phases, rollback_to="layer"))), PlanInvalid),
        ((HELD, HELD), DeploymentExists),
        ((HELD, CreateRollout("new", PLAN), StartRollout("new"), StartRollout("new")), RolloutForbidden),
    ],
    ids=["no phases", "nothing to go back to", "another kind to go back to", "twice", "started twice"],
)
def test_of_commands_of_which_one_is_refused_nothing_remains(commands: Any, error: type[Exception]) -> None:
    log = MemoryLog(partitions=1)
    one = producer(log)
    one.do(CreateDeployment("layer", layer({"modules.x": module()}), "*"))
    before = all_events(log)
    with pytest.raises(error):
        one.do(Together(tuple(commands)))
    assert all_events(log) == before
    one.do(Together((HELD, CreateRollout("new", PLAN))))


def test_a_rollout_and_its_deployment_end_together() -> None:
    log = MemoryLog(partitions=1)
    one = producer(log)
    one.do(Together((HELD, CreateRollout("new", PLAN))))
    one.do(Together((AbortRollout("new"), ChangeAdmission("new", Ended()))))
    assert all_events(log)[2:] == [RolloutAborted("aborted by hand"), AdmissionChanged(Ended())]


def test_there_is_no_more_space_for_a_deployment_with_a_rollout_than_for_any() -> None:
    log = MemoryLog(partitions=1)
    one = producer(log, deployments_max=1)
    one.do(CreateDeployment("other", content(), "*"))
    with pytest.raises(DeploymentsFull):
        one.do(Together((HELD, CreateRollout("new", PLAN))))


def test_each_deployment_that_is_created_together_with_another_one_needs_space() -> None:
    log = MemoryLog(partitions=1)
    one = producer(log, deployments_max=3)
    pairs = [Together(tuple(CreateDeployment(name, content(), "*") for name in names)) for names in ("ab", "cd")]
    report = one.submit([*pairs, CreateDeployment("e", content(), "*"), CreateDeployment("f", content(), "*")])
    assert [(refused.index, type(refused.error)) for refused in report.refused] == [
        (1, DeploymentsFull),
        (3, DeploymentsFull),
    ]
    assert set(log.ranked_deployments().by_id) == {"a", "b", "e"}


def test_when_somebody_was_faster_all_are_decided_again() -> None:
    log = RacingLog(partitions=1)
    rival, one = producer(log), producer(log)
    log.rivals = [lambda: rival.do(CreateDeployment("new", content(), "*"))]
    with pytest.raises(DeploymentExists):
        one.do(Together((HELD, CreateRollout("new", PLAN))))
    assert [type(event) for event in all_events(log)] == [DeploymentCreated]
    assert one.conflicts == 1


def test_when_others_never_let_go_it_is_said_so() -> None:
    log = RacingLog(partitions=1)
    rival, one = producer(log), producer(log)

    def on_and_off() -> None:
        rival.do(CreateDeployment("new", content(), "*"))
        rival.do(DeleteDeployment("new"))

    def meddle() -> None:
        log.rivals, later = [], log.rivals
        on_and_off()
        log.rivals = later

    log.rivals = [meddle] * 8
    with pytest.raises(ConflictPersists, match="new"):
        one.do(Together((HELD, CreateRollout("new", PLAN))))
