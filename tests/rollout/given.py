"""A rollout after some events, one every second; plans and documents as the tests want them."""

from typing import Any

import msgspec
from pyroaring import BitMap

from events.deployment.events import DeploymentCreated, NotStarted
from events.deployment.state import DeploymentDocument
from events.deployment.state import evolve as evolve_deployment
from events.rollout.events import (
    Devices,
    DevicesAdmitted,
    Evidence,
    PhaseOpened,
    RecordedCounts,
    RollbackBegan,
    RollbackEnded,
    RolloutAborted,
    RolloutCompleted,
    RolloutCreated,
    RolloutEvent,
    RolloutPaused,
    RolloutStarted,
)
from events.rollout.plan import Phase, RolloutPlan
from events.rollout.sets import FleetSet
from events.rollout.state import RolloutDocument, RolloutState, evolve
from tests.manifest.contents import content

ADA, BOB = "user:ada", "user:bob"
EVIDENCE = Evidence(RecordedCounts(target=40, admitted=10, counted=10, healthy=9, pending=1), ((7, 3),))
PLAN = RolloutPlan((Phase(percent=25.0), Phase(percent=100.0, approval=True)))


def devices(*ordinals: int, partition: int = 0) -> Devices:
    return FleetSet({partition: BitMap(ordinals)}).devices()


def admitted(*ordinals: int, phase: int = 0) -> DevicesAdmitted:
    return DevicesAdmitted(phase, devices(*ordinals), len(ordinals), "", ((7, 3),))


def applied(*events: RolloutEvent) -> RolloutDocument | None:
    document = None
    for number, event in enumerate(events, start=1):
        document = evolve(document, event, version=number, at=1000 * number)
    return document


def status(*events: RolloutEvent) -> RolloutDocument:
    document = applied(*events)
    assert document is not None
    return document


def created(plan: RolloutPlan = PLAN) -> RolloutCreated:
    return RolloutCreated(plan, ADA)


_RUNNING: tuple[RolloutEvent, ...] = (RolloutStarted(), PhaseOpened(0, EVIDENCE), admitted(1, 2))
_LEADING_TO: dict[RolloutState, tuple[RolloutEvent, ...]] = {
    RolloutState.CREATED: (),
    RolloutState.RUNNING: _RUNNING,
    RolloutState.PAUSED: (*_RUNNING, RolloutPaused("too hot")),
    RolloutState.COMPLETED: (*_RUNNING, RolloutCompleted(EVIDENCE)),
    RolloutState.ABORTED: (*_RUNNING, RolloutAborted("no more")),
    RolloutState.ROLLING_BACK: (*_RUNNING, RollbackBegan("it hurts", "")),
    RolloutState.ROLLED_BACK: (
        *_RUNNING,
        RollbackBegan("it hurts", ""),
        RollbackEnded(succeeded=True, reason="", evidence=EVIDENCE),
    ),
    RolloutState.HALTED: (
        *_RUNNING,
        RollbackBegan("it hurts", ""),
        RollbackEnded(succeeded=False, reason="", evidence=EVIDENCE),
    ),
}


def in_state(state: RolloutState, plan: RolloutPlan = PLAN) -> RolloutDocument:
    """A rollout in a state; from RUNNING on its first phase was opened, with two devices."""
    return status(created(plan), *_LEADING_TO[state])


def deployment(**members: Any) -> DeploymentDocument:
    """The deployment that is rolled out, which has not started by itself."""
    event = DeploymentCreated(content(), "*", admission=NotStarted())
    document = evolve_deployment(None, event, version=1, at=1000)
    assert document is not None
    return msgspec.structs.replace(document, **members)
