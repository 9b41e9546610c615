"""A rollout with one open phase, judged on a fleet whose sets a test names by ordinals."""

from collections.abc import Iterable
from typing import Any

from pyroaring import BitMap

from events.rollout.events import PhaseOpened, RolloutEvent, RolloutStarted
from events.rollout.fleet_snapshot import FailureCodes, FleetSnapshot, RollbackId
from events.rollout.plan import Phase, RolloutPlan
from events.rollout.planner import Judgement, judge
from events.rollout.sets import FleetSet
from events.rollout.state import RolloutDocument
from tests.rollout.given import EVIDENCE, admitted, created, status

SECOND = 1000
ADMITTED_AT = 4 * SECOND
"""When `open_phase` admits its devices."""


def some(ordinals: Iterable[int]) -> FleetSet:
    return FleetSet({0: BitMap(ordinals)})


def open_phase(plan: RolloutPlan, *, devices: int, after: tuple[RolloutEvent, ...] = ()) -> RolloutDocument:
    """A rollout whose first phase was opened and has admitted devices 0, 1, …; and what happened after that."""
    return status(created(plan), RolloutStarted(), PhaseOpened(0, EVIDENCE), admitted(*range(devices)), *after)


def fleet_snapshot(
    *, devices: int, healthy: Iterable[int] = (), failed: Iterable[int] = (), **sets: Any
) -> FleetSnapshot:
    """A fleet of so many devices, all of which have the deployment unless `actual` says otherwise.

    Of what a plan asks for besides, it knows what a rollback needs; every failed device has answered 500.
    """
    target = some(range(devices))
    members = {"actual": target, "healthy": some(healthy), "unhealthy": some(failed), **sets}
    answers = {FailureCodes(): {500: target}, RollbackId(): "new-rollback"}
    return FleetSnapshot(((7, 3),), (), target, answers=answers, **members)


def judged(
    plan: RolloutPlan,
    *,
    devices: int = 10,
    healthy: Iterable[int] = (),
    failed: Iterable[int] = (),
    now: int = ADMITTED_AT + SECOND,
    after: tuple[RolloutEvent, ...] = (),
    **sets: Any,
) -> Judgement:
    """What follows for a rollout of a plan when so many devices are admitted, and some are healthy or have failed."""
    document = open_phase(plan, devices=devices, after=after)
    return judge("new", document, fleet_snapshot(devices=devices, healthy=healthy, failed=failed, **sets), now)


def kinds(judgement: Judgement) -> list[str]:
    return [type(event).__name__ for event in judgement.events]


def everyone(**members: Any) -> RolloutPlan:
    """A plan of one phase for all devices, with a gate, if one is given."""
    gate = members.pop("gate", None)
    phase = Phase(percent=100.0) if gate is None else Phase(percent=100.0, gate=gate)
    return RolloutPlan((phase,), **members)
