"""The rules that a command on a rollout, and a plan, must satisfy in every state."""

import itertools
import re
from collections.abc import Callable
from typing import Any

from events.deployment.decider import check_id
from events.query.condition import parse_condition
from events.query.errors import ConditionInvalid
from events.query.tree import Comparison, PathOf
from events.rollout import commands
from events.rollout.commands import RolloutCommand, SchedulerCommand
from events.rollout.errors import PlanInvalid, RolloutForbidden
from events.rollout.plan import PERCENT_MAX, Gate, Phase, RolloutPlan
from events.rollout.times import check_window

PHASES_MAX = 100
SECONDS_MAX = 366 * 24 * 3600
WINDOWS_MAX = 20
REASON_CHARACTERS_MAX = 500
NAME_CHARACTERS_MAX = 100
_COUNT_MAX = 2**31 - 1
_DEPLOYMENT_ID = re.compile(r"[a-z0-9\-+%_*!']{1,128}")


def check(command: RolloutCommand | SchedulerCommand) -> None:
    """Reject a command that no state could allow.

    Raises:
        DeploymentIdInvalid: names the rule.
        PlanInvalid: names the element of the plan and the rule.
        RolloutForbidden: the number of a phase or a reason is invalid.
    """
    name = command.deployment_id
    check_id(name)
    match command:
        case commands.CreateRollout(_, plan):
            _check_plan(name, plan)
        case commands.ApprovePhase(_, phase) | commands.SkipPhase(_, phase):
            if not 0 <= phase < PHASES_MAX:
                raise RolloutForbidden(name, f"the phase must be 1 to {PHASES_MAX}")
        case commands.PauseRollout(_, reason) | commands.AbortRollout(_, reason) | commands.RollBack(_, reason):
            if not _is_text(reason, REASON_CHARACTERS_MAX):
                raise RolloutForbidden(name, f"the reason must have at most {REASON_CHARACTERS_MAX} characters of text")
        case _:
            pass


def _check_plan(name: str, plan: RolloutPlan) -> None:
    def rule(element: str, holds: object, text: str) -> None:
        if not holds:
            raise PlanInvalid(name, element, text)

    rule("phases", 1 <= len(plan.phases) <= PHASES_MAX, f"must be 1 to {PHASES_MAX}")
    for number, phase in enumerate(plan.phases):
        _check_phase(f"phases[{number}]", phase, rule)
    for kind in ("percent", "count"):
        values = [(number, getattr(phase, kind)) for number, phase in enumerate(plan.phases)]
        given_values = [(number, value) for number, value in values if value is not None]
        for (_, before), (number, value) in itertools.pairwise(given_values):
            add_up = "must not be less than in an earlier phase: phases add up"
            rule(f"phases[{number}].{kind}", value >= before, add_up)
    failure = plan.failure
    rule("failure.percent", failure.percent is None or _within(failure.percent, 0, PERCENT_MAX), "must be 0 to 100")
    rule("failure.count", failure.count is None or _within(failure.count, 1, _COUNT_MAX), "must be a positive number")
    rule("failure.answered_min", _within(failure.answered_min, 0, _COUNT_MAX), "must not be negative")
    rule("offline_seconds", _within(plan.offline_seconds, 1, SECONDS_MAX), f"must be 1 to {SECONDS_MAX}")
    rule("windows", len(plan.windows) <= WINDOWS_MAX, f"must be at most {WINDOWS_MAX}")
    for number, window in enumerate(plan.windows):
        wrong = check_window(window)
        rule(f"windows[{number}]", wrong is None, wrong or "")
    if plan.rollback_to:
        rule("rollback_to", _DEPLOYMENT_ID.fullmatch(plan.rollback_to), "must be the id of a deployment")
        rule("rollback_to", plan.rollback_to != name, "must be another deployment")
        rule("restore", not plan.restore, "and `rollback_to` exclude each other")
    if plan.rate is not None:
        rule("rate.per_minute", _within(plan.rate.per_minute, 0.001, _COUNT_MAX), "must be at least 0.001")
        rule("rate.growth_percent", _within(plan.rate.growth_percent, 0, PERCENT_MAX), "must be 0 to 100")
    if plan.spread is not None:
        rule("spread.at_most", _within(plan.spread.at_most, 1, _COUNT_MAX), "must be a positive number")
        rule("spread.tag", tag_path(plan.spread.tag), "must be a tag such as tags.site")


def _check_phase(element: str, phase: Phase, rule: Callable[[str, object, str], None]) -> None:
    percent, count, condition, gate = phase.percent, phase.count, phase.condition, phase.gate
    is_one = sum(extent is not None for extent in (percent, count, condition)) == 1
    rule(element, is_one, "must have exactly one of `percent`, `count` and `condition`")
    in_range = percent is None or 0 < percent <= PERCENT_MAX
    rule(f"{element}.percent", in_range, "must be more than 0 and at most 100")
    rule(f"{element}.count", count is None or 1 <= count <= _COUNT_MAX, "must be a positive number")
    if condition is not None:
        # The language accepts an empty condition; a phase with it could never open.
        rule(f"{element}.condition", condition.strip(), "must not be empty: it would be true for no device")
        try:
            parse_condition(condition)
        except ConditionInvalid as error:
            rule(f"{element}.condition", None, f"is not a valid target condition: {error}")
    is_name = _is_text(phase.name, NAME_CHARACTERS_MAX)
    rule(f"{element}.name", is_name, f"must have at most {NAME_CHARACTERS_MAX} characters of text")
    limits: dict[str, tuple[Any, float, float]] = {
        "success_percent": (gate.success_percent or 0.0, 0, PERCENT_MAX),
        "answered_min": (gate.answered_min, 0, _COUNT_MAX),
        **{
            member: (getattr(gate, member), 0, SECONDS_MAX)
            for member in Gate.__struct_fields__
            if member.endswith("_seconds")
        },
    }
    for member, (value, lowest, highest) in limits.items():
        rule(f"{element}.gate.{member}", _within(value, lowest, highest), f"must be {lowest} to {highest:g}")


def _within(value: float, lowest: float, highest: float) -> bool:
    # This order of the comparison rejects NaN, which compares false with every number.
    return lowest <= value <= highest


def _is_text(value: str, characters_max: int) -> bool:
    try:
        # JSON can hold half of a surrogate pair, which UTF-8 cannot: the log could not store the event.
        value.encode()
    except UnicodeEncodeError:
        return False
    return len(value) <= characters_max


def tag_path(tag: str) -> tuple[str, ...] | None:
    """`tags.site` -> ("tags", "site"); `None` for any other text."""
    try:
        # The parser of conditions decides, so that quoting in a path follows the rules of the query language.
        condition = parse_condition(f"{tag} = ''")
    except ConditionInvalid:
        return None
    match condition:
        case Comparison(PathOf(("tags", *_) as path)):
            return path
        case _:
            return None
