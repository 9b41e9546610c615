"""When a device's turn comes in a rollout that has not admitted it."""

import msgspec

from events.number_text import counted
from events.query.condition import parse_condition
from events.query.evaluate import Assignment, holds
from events.rollout import rollout_text
from events.rollout.plan import share_of
from events.rollout.rollout_text import progress
from events.rollout.state import RolloutDocument, RolloutState


class TurnOrder(msgspec.Struct, frozen=True):
    """Where a device comes among those that a rollout takes one after the other: `rank` from 1, `of` so many."""

    rank: int
    of: int


class Turn(msgspec.Struct, frozen=True, rename="camel"):
    """Why a device is not admitted yet, and what has to happen first.

    `phase` is the one that was opened last, from 1, 0 before the first; `admitted` are the devices that were so far. `comes_with` is
    the first phase that is for the device, `None` where that is not known. It is number `rank` of `of` devices in the rollout's order,
    where phases go by percentages or numbers. `waits` is what the rollout as a whole waits for.
    """

    state: RolloutState
    phase: int
    phases: int
    admitted: int
    comes_with: int | None
    rank: int | None
    of: int | None
    waits: str


def turn(
    document: RolloutDocument, assignment: Assignment, *, enabled: bool, order: TurnOrder | None, waits: str
) -> Turn:
    """Where a rollout stands for a device that it targets and has not admitted; `order` where that is known."""
    return Turn(
        document.state,
        document.phase + 1,
        len(document.plan.phases),
        len(document.admitted),
        _comes_with(document, assignment, order) if enabled else None,
        None if order is None else order.rank,
        None if order is None else order.of,
        waits or progress(document),
    )


def _comes_with(document: RolloutDocument, assignment: Assignment, order: TurnOrder | None) -> int | None:
    """Everything is for everybody in the end, so the last resort is one beyond the last phase."""
    for number, phase in enumerate(document.plan.phases, 1):
        if phase.condition is not None:
            is_for = holds(parse_condition(phase.condition), assignment) is True
        elif order is None:
            is_for = phase.percent == 100.0  # noqa: PLR2004 - percent
        else:
            cap = phase.count if phase.count is not None else share_of(phase.percent or 0.0, order.of)
            is_for = order.rank <= cap
        if is_for and number >= max(1, document.phase + 1):
            return number
    return None


def turn_text(turn: Turn, document: RolloutDocument, *, enabled: bool) -> str:
    """The same in a sentence without a subject: `phase 1 of 3 (10 %) is open; its rank is 7 of 20, so that it comes with phase 2`."""
    if not enabled:
        return "it is disabled, and a rollout admits enabled devices alone"
    if document.state not in {RolloutState.CREATED, RolloutState.RUNNING}:
        return f"its rollout is {rollout_text.status(document)}"
    parts = [f"its rollout has not come to it: {turn.waits}"]
    if turn.rank is not None:
        parts.append(f"it is number {turn.rank} of {turn.of} in the rollout's order")
    if turn.comes_with is not None and turn.comes_with > turn.phase:
        parts.append(
            f"its turn comes with phase {turn.comes_with} of {turn.phases} ({admits(document, turn.comes_with)})"
        )
    elif turn.comes_with is not None:
        parts.append(f"phase {turn.comes_with} is for it, and admits others first")
    return "; ".join(parts)


def admits(document: RolloutDocument, number: int) -> str:
    """Whom a phase (from 1) is for, in words."""
    phase = document.plan.phases[number - 1]
    if phase.percent is not None:
        return f"{phase.percent:g} %"
    return counted(phase.count, "device") if phase.count is not None else phase.condition or ""
