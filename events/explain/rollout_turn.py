"""The phase of a rollout that will admit a device."""

import msgspec

from events.number_text import counted
from events.query.condition import parse_condition
from events.query.evaluate import QueryRow, holds
from events.rollout.plan import share_of
from events.rollout.rollout_text import progress
from events.rollout.state import RolloutDocument, RolloutState


class TurnOrder(msgspec.Struct, frozen=True):
    """The device's place in the rollout's order: number `rank` (from 1) of `of` devices."""

    rank: int
    of: int


class Turn(msgspec.Struct, frozen=True, rename="camel"):
    """Why a device is not admitted yet, and what has to happen first.

    `phase` is the phase that was opened last (from 1; 0 before the first), `admitted` the number of admitted devices. `comes_with`
    is the first phase that includes the device, `None` if that is unknown. The device is number `rank` of `of` in the rollout's
    order, if phases go by percentages or numbers. `waits` is what the rollout as a whole waits for.
    """

    state: RolloutState
    phase: int
    phases: int
    admitted: int
    comes_with: int | None
    rank: int | None
    of: int | None
    waits: str


def turn(document: RolloutDocument, row: QueryRow, *, enabled: bool, order: TurnOrder | None, waits: str) -> Turn:
    """Returns a rollout's state for a device that it targets and has not admitted; `order` is `None` if unknown."""
    return Turn(
        document.state,
        document.phase + 1,
        len(document.plan.phases),
        len(document.admitted),
        _comes_with(document, row, order) if enabled else None,
        None if order is None else order.rank,
        None if order is None else order.of,
        waits or progress(document),
    )


def _comes_with(document: RolloutDocument, row: QueryRow, order: TurnOrder | None) -> int | None:
    """The first phase, from the current one on, that includes the device; `None` if it depends on an unknown order."""
    for number, phase in enumerate(document.plan.phases, 1):
        if phase.condition is not None:
            is_for = holds(parse_condition(phase.condition), row) is True
        elif order is None:
            # Only a phase of 100 % includes every device, whatever its rank.
            is_for = phase.percent == 100.0  # noqa: PLR2004 - percent
        else:
            cap = phase.count if phase.count is not None else share_of(phase.percent or 0.0, order.of)
            is_for = order.rank <= cap
        if is_for and number >= max(1, document.phase + 1):
            return number
    return None


def turn_text(turn: Turn, document: RolloutDocument, *, enabled: bool) -> str:
    """Returns why the rollout has not admitted the device, in a sentence such as `its rollout is paused: too hot`."""
    if not enabled:
        return "it is disabled, and a rollout admits only enabled devices"
    if document.state not in {RolloutState.CREATED, RolloutState.RUNNING}:
        return f"its rollout is {progress(document)}"
    parts = [f"its rollout has not admitted it yet: {turn.waits}"]
    if turn.rank is not None:
        parts.append(f"it is number {turn.rank} of {turn.of} in the rollout's order")
    if turn.comes_with is not None and turn.comes_with > turn.phase:
        phase = document.plan.phases[turn.comes_with - 1]
        extent = phase.condition if phase.count is None else counted(phase.count, "device")
        extent = extent if phase.percent is None else f"{phase.percent:g} %"
        parts.append(f"its turn comes with phase {turn.comes_with} of {turn.phases} ({extent})")
    elif turn.comes_with is not None:
        parts.append(f"phase {turn.comes_with} includes it, and admits other devices first")
    return "; ".join(parts)
