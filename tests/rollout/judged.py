"""A rollout with one open phase, judged on a fleet whose sets a test names by ordinals."""

from collections.abc import Iterable, Mapping
from typing import Any

from pyroaring import BitMap

from events.rollout.census import Census
from events.rollout.cohort import Hashes
from events.rollout.facts import PhaseOpened, RolloutFact, RolloutStarted
from events.rollout.plan import Phase, Plan
from events.rollout.planner import Judgement, judge
from events.rollout.sets import FleetSet
from events.rollout.state import RolloutDocument
from tests.rollout.given import EVIDENCE, admitted, created, standing

SECOND = 1000
ADMITTED_AT = 4 * SECOND
"""When `open_phase` admits its devices."""


class NoFleet:
    """A fleet that is asked nothing but what a rollback needs; every failed device has answered 500."""

    def where(self, condition: str) -> FleetSet:
        raise AssertionError(condition)

    def by_value(self, tag: str) -> Mapping[object, FleetSet]:
        raise AssertionError(tag)

    def hashes(self) -> dict[int, Hashes]:
        raise AssertionError

    def codes(self, devices: FleetSet) -> Mapping[int, FleetSet]:
        return {500: devices}

    def rollback_id(self, name: str, document: RolloutDocument) -> str:
        return f"{name}-rollback" if document.plan.rollback_to else ""


def some(ordinals: Iterable[int]) -> FleetSet:
    return FleetSet({0: BitMap(ordinals)})


def open_phase(plan: Plan, *, devices: int, after: tuple[RolloutFact, ...] = ()) -> RolloutDocument:
    """A rollout whose first phase was opened and has admitted devices 0, 1, …; and what happened after that."""
    return standing(created(plan), RolloutStarted(), PhaseOpened(0, EVIDENCE), admitted(*range(devices)), *after)


def census(*, devices: int, healthy: Iterable[int] = (), failed: Iterable[int] = (), **sets: Any) -> Census:
    """A fleet of so many devices, all of which have the deployment unless `actual` says otherwise."""
    target = some(range(devices))
    members = {"actual": target, "healthy": some(healthy), "unhealthy": some(failed), **sets}
    return Census(NoFleet(), ((7, 3),), (), target, **members)


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
