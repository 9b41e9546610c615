"""A description of a plan for its author: when the rollout proceeds, when it fails, and what happens then."""

import itertools
from collections.abc import Iterator

import msgspec

from events.number_text import counted
from events.rollout.plan import EVERY_DEVICE, PERCENT_MAX, Failure, Gate, OnFailure, RolloutPlan
from events.rollout.times import duration


class PlanText(msgspec.Struct, frozen=True):
    """The description, one sentence each."""

    proceeds: str
    stops: str
    then: str


def plan_text(plan: RolloutPlan) -> PlanText:
    """The automatic steps of a rollout by a plan, in sentences."""
    return PlanText(_proceeds(plan), _stops(plan), _then(plan))


def _proceeds(plan: RolloutPlan) -> str:
    gates = [phase.gate for phase in plan.phases]
    if len(set(map(_gate_key, gates))) == 1:
        return f"A phase passes when {_gate(plan, gates[0])}."
    parts = [f"{numbers} when {_gate(plan, gate)}" for numbers, gate in _by_gate(gates)]
    return f"{'; '.join(parts)}."


def _gate_key(gate: Gate) -> tuple[float | None, int, int]:
    return (gate.success_percent, gate.answered_min, gate.soak_seconds)


def _by_gate(gates: list[Gate]) -> Iterator[tuple[str, Gate]]:
    """Consecutive phases with equal gates: `Phase 1 passes`, `phases 2 to 4 pass`."""
    number = 1
    for _, group in itertools.groupby(gates, key=_gate_key):
        members = list(group)
        last = number + len(members) - 1
        text = f"phase {number} passes" if number == last else f"phases {number} to {last} pass"
        yield text.capitalize() if number == 1 else text, members[0]
        number = last + 1


def _gate(plan: RolloutPlan, gate: Gate) -> str:
    percent, conditions = plan.required_percent(gate), []
    if gate.success_percent is None and plan.failure.percent is not None:
        share = f"at least {percent:g} % of the admitted devices are" if percent else "at least one admitted device is"
        conditions.append(f"{share} healthy (100 % minus the failure percentage of {plan.failure.percent:g} %)")
    elif percent:
        share = "all" if percent == PERCENT_MAX else f"at least {percent:g} % of the"
        conditions.append(f"{share} admitted devices are healthy")
    if gate.answered_min >= EVERY_DEVICE:
        conditions.append("all admitted devices answered")
    elif gate.answered_min:
        conditions.append(f"at least {counted(gate.answered_min, 'device')} answered")
    if not conditions:
        conditions.append("its devices are admitted, whatever they answer")
    held = f", and this has lasted for {duration(gate.soak_seconds * 1000)}" if gate.soak_seconds else ""
    return " and ".join(conditions) + held


def _stops(plan: RolloutPlan) -> str:
    causes = [*_failures(plan.failure), *_timeouts(plan)]
    pauses = "a gate that cannot be reached any more only pauses it"
    if not causes:
        return f"It never fails automatically, as the plan has no failure threshold and no time limit; {pauses}."
    return f"It fails when {', or when '.join(causes)}; {pauses}."


def _failures(failure: Failure) -> Iterator[str]:
    if not failure.has_threshold:
        return
    percent = None if failure.percent is None else f"at least {failure.percent:g} % of the admitted devices"
    count = None if failure.count is None else f"at least {counted(failure.count, 'device')}"
    after = f", once at least {counted(failure.answered_min, 'device')} answered" if failure.answered_min else ""
    yield f"{' and '.join(filter(None, (percent, count)))} failed{after}"


def _timeouts(plan: RolloutPlan) -> Iterator[str]:
    limits = {phase.gate.phase_timeout_seconds for phase in plan.phases} - {0}
    if len(limits) == 1:
        yield f"a phase has not passed within {duration(1000 * limits.pop())}"
    elif limits:
        yield f"a phase has not passed within its time limit ({', '.join(duration(1000 * limit) for limit in sorted(limits))})"


def _then(plan: RolloutPlan) -> str:
    if plan.failure.then is OnFailure.PAUSE:
        return "Then it pauses: no further device is admitted until an operator resumes, aborts or rolls back."
    has_cause = plan.failure.has_threshold or any(phase.gate.phase_timeout_seconds for phase in plan.phases)
    begin = "Then it rolls back" if has_cause else "It rolls back only on an operator's command"
    return f"{begin}: the deployment ends; {_back_to(plan)}."


def _back_to(plan: RolloutPlan) -> str:
    if plan.rollback_to:
        # The id of an update is `update:contoso/camera/1.2`; the sentence reads `update contoso/camera/1.2`.
        return f"its devices get the content of {plan.rollback_to.replace(':', ' ')}"
    if plan.restore:
        return "each device gets what else targets it, or else what it had and was healthy with before"
    return "each device gets what else targets it, or keeps what it has"
