"""What the scheduler asks of a rollout: it is done as it was planned, or not at all."""

import pytest

from events.deployment.commands import CreateDeployment
from events.deployment.events import NotStarted
from events.rollout.commands import AdvanceRollout, CreateRollout, DiscardRollout, PauseRollout, StartRollout
from events.rollout.errors import RolloutForbidden
from events.rollout.events import PhaseOpened, RollbackBegan, RolloutDeleted, SoakBegan
from events.rollout.plan import Phase, RolloutPlan
from events.rollout.state import RolloutDocument, decode, subject_of
from tests.manifest.contents import content
from tests.producer.logs import RacingLog, producer
from tests.rollout.given import EVIDENCE

OPENED = PhaseOpened(0, EVIDENCE)


def fleet(**plan: str) -> RacingLog:
    log = RacingLog(partitions=1)
    creation = CreateDeployment("new", content(), "*", 10, admission=NotStarted())
    rollout = CreateRollout("new", RolloutPlan((Phase(percent=100.0),), **plan))
    producer(log).submit([CreateDeployment("old", content()), creation, rollout]).raise_if_refused()
    producer(log).do(StartRollout("new"))
    return log


def rollout_of(log: RacingLog) -> RolloutDocument:
    (stored,) = log.load([subject_of("new")], fleet=True)
    assert stored.snapshot is not None
    return decode(stored.snapshot)


def test_events_follow_on_each_other_and_are_in_the_log_together() -> None:
    log = fleet()
    producer(log).do(AdvanceRollout("new", rollout_of(log).version, (OPENED, SoakBegan(EVIDENCE))))
    document = rollout_of(log)
    assert (document.version, document.is_open, document.soak_at > 0) == (4, True, True)


def test_what_was_planned_for_another_version_is_refused() -> None:
    log = fleet()
    planned = AdvanceRollout("new", rollout_of(log).version, (OPENED,))
    producer(log).do(PauseRollout("new"))
    heads = log.heads()
    with pytest.raises(RolloutForbidden, match="planned"):
        producer(log).do(planned)
    assert log.heads() == heads


def test_a_rollback_brings_the_content_to_go_back_to_in_the_same_step() -> None:
    log = fleet(rollback_to="old")
    began = RollbackBegan("it failed", "new-rollback", EVIDENCE)
    producer(log).do(AdvanceRollout("new", rollout_of(log).version, (began,)))
    assert [type(envelope.event).__name__ for envelope in log.read(-1, after=0, limit=100)][-2:] == [
        "RollbackBegan",
        "DeploymentCreated",
    ]


def test_a_rollback_over_a_deployment_that_is_there_is_refused() -> None:
    log = fleet(rollback_to="old")
    began = RollbackBegan("it failed", "old", EVIDENCE)
    with pytest.raises(RolloutForbidden):
        producer(log).do(AdvanceRollout("new", rollout_of(log).version, (began,)))


def test_a_rollout_that_has_its_deployment_is_not_discarded() -> None:
    log = fleet()
    with pytest.raises(RolloutForbidden):
        producer(log).do(DiscardRollout("new"))
    assert not any(isinstance(envelope.event, RolloutDeleted) for envelope in log.read(-1, after=0, limit=100))
