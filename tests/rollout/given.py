"""A rollout after some facts, one every second; plans and documents as the tests want them."""

from typing import Any

import msgspec
from pyroaring import BitMap

from events.deployment.facts import DeploymentCreated, NotStarted
from events.deployment.state import DeploymentDocument
from events.deployment.state import evolve as evolve_deployment
from events.rollout.facts import (
    Counts,
    Devices,
    DevicesAdmitted,
    Evidence,
    PhaseOpened,
    RollbackBegan,
    RollbackEnded,
    RolloutAborted,
    RolloutCompleted,
    RolloutCreated,
    RolloutFact,
    RolloutPaused,
    RolloutStarted,
)
from events.rollout.plan import Phase, Plan
from events.rollout.sets import FleetSet
from events.rollout.state import RolloutDocument, State, evolve
from tests.manifest.contents import content

ADA, BOB = "user:ada", "user:bob"
EVIDENCE = Evidence(Counts(target=40, admitted=10, counted=10, healthy=9, pending=1), ((7, 3),))
PLAN = Plan((Phase(percent=25.0), Phase(percent=100.0, approval=True)))


def devices(*ordinals: int, partition: int = 0) -> Devices:
    return FleetSet({partition: BitMap(ordinals)}).devices()


def admitted(*ordinals: int, phase: int = 0) -> DevicesAdmitted:
    return DevicesAdmitted(phase, devices(*ordinals), len(ordinals), "", ((7, 3),))


def folded(*facts: RolloutFact) -> RolloutDocument | None:
    document = None
    for number, fact in enumerate(facts, start=1):
        document = evolve(document, fact, version=number, at=1000 * number)
    return document


def standing(*facts: RolloutFact) -> RolloutDocument:
    document = folded(*facts)
    assert document is not None
    return document


def created(plan: Plan = PLAN) -> RolloutCreated:
    return RolloutCreated(plan, ADA)


_RUNNING: tuple[RolloutFact, ...] = (RolloutStarted(), PhaseOpened(0, EVIDENCE), admitted(1, 2))
_LEADING_TO: dict[State, tuple[RolloutFact, ...]] = {
    State.CREATED: (),
    State.RUNNING: _RUNNING,
    State.PAUSED: (*_RUNNING, RolloutPaused("too hot")),
    State.COMPLETED: (*_RUNNING, RolloutCompleted(EVIDENCE)),
    State.ABORTED: (*_RUNNING, RolloutAborted("no more")),
    State.ROLLING_BACK: (*_RUNNING, RollbackBegan("it hurts", "")),
    State.ROLLED_BACK: (
        *_RUNNING,
        RollbackBegan("it hurts", ""),
        RollbackEnded(succeeded=True, reason="", evidence=EVIDENCE),
    ),
    State.HALTED: (
        *_RUNNING,
        RollbackBegan("it hurts", ""),
        RollbackEnded(succeeded=False, reason="", evidence=EVIDENCE),
    ),
}


def in_state(state: State, plan: Plan = PLAN) -> RolloutDocument:
    """A rollout in a state; from RUNNING on its first phase was opened, with two devices."""
    return standing(created(plan), *_LEADING_TO[state])


def deployment(**members: Any) -> DeploymentDocument:
    """The deployment that is rolled out, which has not started by itself."""
    fact = DeploymentCreated(content(), "*", admission=NotStarted())
    document = evolve_deployment(None, fact, version=1, at=1000)
    assert document is not None
    return msgspec.structs.replace(document, **members)
