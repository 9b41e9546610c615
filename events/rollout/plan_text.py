"""A description of a plan for its author: when the rollout proceeds, when it fails, and what happens then."""

import itertools

import msgspec

from events.number_text import counted
from events.rollout.plan import EVERY_DEVICE, PERCENT_MAX, Gate, OnFailure, RolloutPlan
from events.rollout.times import duration


class PlanText(msgspec.Struct, frozen=True):
    """The description, one sentence each."""

    proceeds: str
    stops: str
    then: str


def plan_text(plan: RolloutPlan) -> PlanText:
    """The automatic steps of a rollout by a plan, in sentences."""
    return PlanText(_proceeds(plan), *_stops_then(plan))


def _proceeds(plan: RolloutPlan) -> str:
    gates = [phase.gate for phase in plan.phases]
    # Consecutive phases with equal gates: `Phase 1 passes`, `phases 2 to 4 pass`.
    parts, number = [], 1
    for _, group in itertools.groupby(
        gates, key=lambda gate: (gate.success_percent, gate.answered_min, gate.soak_seconds)
    ):
        members = list(group)
        if len(members) == len(gates):
            return f"A phase passes when {_gate(plan, gates[0])}."
        last = number + len(members) - 1
        phases = f"phase {number} passes" if number == last else f"phases {number} to {last} pass"
        parts.append(f"{phases.capitalize() if number == 1 else phases} when {_gate(plan, members[0])}")
        number = last + 1
    return f"{'; '.join(parts)}."


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


def _stops_then(plan: RolloutPlan) -> tuple[str, str]:
    """When the rollout fails, and what happens then."""
    failure, causes = plan.failure, []
    if failure.has_threshold:
        percent = None if failure.percent is None else f"at least {failure.percent:g} % of the admitted devices"
        count = None if failure.count is None else f"at least {counted(failure.count, 'device')}"
        after = f", once at least {counted(failure.answered_min, 'device')} answered" if failure.answered_min else ""
        causes.append(f"{' and '.join(filter(None, (percent, count)))} failed{after}")
    limits = sorted({phase.gate.phase_timeout_seconds for phase in plan.phases} - {0})
    durations = [duration(1000 * limit) for limit in limits]
    if durations:
        within = durations[0] if len(durations) == 1 else f"its time limit ({', '.join(durations)})"
        causes.append(f"a phase has not passed within {within}")
    never = "It never fails automatically, as the plan has no failure threshold and no time limit"
    stops = f"It fails when {', or when '.join(causes)}" if causes else never
    stops = f"{stops}; a gate that cannot be reached any more only pauses it."
    if failure.then is OnFailure.PAUSE:
        return stops, "Then it pauses: no further device is admitted until an operator resumes, aborts or rolls back."
    back_to = "each device gets what else targets it, or keeps what it has"
    if plan.rollback_to:
        # The id of an update is `update:contoso/camera/1.2`; the sentence reads `update contoso/camera/1.2`.
        back_to = f"its devices get the content of {plan.rollback_to.replace(':', ' ')}"
    elif plan.restore:
        back_to = "each device gets what else targets it, or else what it had and was healthy with before"
    begin = "Then it rolls back" if causes else "It rolls back only on an operator's command"
    return stops, f"{begin}: the deployment ends; {back_to}."
