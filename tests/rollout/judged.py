"""A rollout with one open phase, judged on a fleet whose sets a test names by ordinals."""

from collections.abc import Iterable
from typing import Any

from pyroaring import BitMap

from events.rollout.census import Census, FailureCodes, RollbackId
from events.rollout.facts import PhaseOpened, RolloutFact, RolloutStarted
from events.rollout.plan import Phase, Plan
from events.rollout.planner import Judgement, judge
from events.rollout.sets import FleetSet
from events.rollout.state import RolloutDocument
from tests.rollout.given import EVIDENCE, admitted, created, standing

SECOND = 1000
ADMITTED_AT = 4 * SECOND
"""When `open_phase` admits its devices."""


def some(ordinals: Iterable[int]) -> FleetSet:
    return FleetSet({0: BitMap(ordinals)})


def open_phase(plan: Plan, *, devices: int, after: tuple[RolloutFact, ...] = ()) -> RolloutDocument:
    """A rollout whose first phase was opened and has admitted devices 0, 1, …; and what happened after that."""
    return standing(created(plan), RolloutStarted(), PhaseOpened(0, EVIDENCE), admitted(*range(devices)), *after)


def census(*, devices: int, healthy: Iterable[int] = (), failed: Iterable[int] = (), **sets: Any) -> Census:
    """A fleet of so many devices, all of which have the deployment unless `actual` says otherwise.

    Of what a plan asks for besides, it knows what a rollback needs; every failed device has answered 500.
    """
    target = some(range(devices))
    members = {"actual": target, "healthy": some(healthy), "unhealthy": some(failed), **sets}
    answers = {FailureCodes(): {500: target}, RollbackId(): "new-rollback"}
    return Census(((7, 3),), (), target, answers=answers, **members)


def judged(
    plan: Plan,
    *,
    devices: int = 10,
    healthy: Iterable[int] = (),
    failed: Iterable[int] = (),
    now: int = ADMITTED_AT + SECOND,
    after: tuple[RolloutFact, ...] = (),
    **sets: Any,
) -> Judgement:
    """What follows for a rollout of a plan when so many devices are admitted, and some are healthy or have failed."""
    document = open_phase(plan, devices=devices, after=after)
    return judge("new", document, census(devices=devices, healthy=healthy, failed=failed, **sets), now)


def kinds(judgement: Judgement) -> list[str]:
    return [type(fact).__name__ for fact in judgement.facts]


def everyone(**members: Any) -> Plan:
    """A plan of one phase for all devices, with a gate, if one is given."""
    gate = members.pop("gate", None)
    phase = Phase(percent=100.0) if gate is None else Phase(percent=100.0, gate=gate)
    return Plan((phase,), **members)
