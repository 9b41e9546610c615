"""The rules that a command on updates and groups must satisfy in every state."""

import datetime as dt

from events.deployment.decider import PRIORITY_MAX, TIME_MAX
from events.manifest.document import ContentKind, kind_of
from events.manifest.validate import validate
from events.query.condition import parse_condition
from events.query.errors import ConditionInvalid
from events.rollout.commands import CreateRollout
from events.rollout.errors import PlanInvalid
from events.rollout.plan import PERCENT_MAX
from events.rollout.rules import check as check_rollout
from events.update.commands import (
    CancelUpdateDeployment,
    DefineGroup,
    DeleteUpdate,
    DeployUpdate,
    OfGroup,
    OfUpdate,
    RemoveGroup,
    UpdateCommand,
)
from events.update.compatibility import problem_of
from events.update.errors import GroupInvalid, UpdateInvalid
from events.update.names import UPDATE_DEPLOYMENT_CHARACTERS_MAX, is_group_name, is_name, update_deployment_of

TEXT_CHARACTERS_MAX = 512
_COUNT_MAX = 2**31 - 1
_NAME_RULE = "must have 1 to 128 ASCII letters, digits and . _ ~ -, other than . and .."


def check(command: UpdateCommand) -> None:
    """Reject a command that no state could allow.

    Raises:
        UpdateInvalid, GroupInvalid, ManifestInvalid: names the element and the rule.
    """
    if isinstance(command, OfUpdate):
        _check_update(command)
    else:
        _check_group(command)


def _check_update(command: OfUpdate) -> None:
    name = command.update.text
    if command.update.problem:
        raise UpdateInvalid(name, command.update.problem)
    if isinstance(command, DeleteUpdate):
        return
    if kind_of(command.content) is not ContentKind.EDGE:
        raise UpdateInvalid(name, "`content` must be a manifest or a layer, in modulesContent")
    validate(command.content)
    for member in ("description", "friendly_name"):
        if len(getattr(command, member)) > TEXT_CHARACTERS_MAX:
            raise UpdateInvalid(name, f"`{member}` must have at most {TEXT_CHARACTERS_MAX} characters")
    if problem := problem_of(command.compatibility):
        raise UpdateInvalid(name, problem)


def _check_group(command: OfGroup) -> None:
    name = command.group

    def rule(element: str, holds: object, text: str) -> None:
        if not holds:
            raise GroupInvalid(name, element, text)

    rule("id", is_group_name(name), f"{_NAME_RULE}, or be $default")
    if isinstance(command, DefineGroup):
        rule("priority", 0 <= command.priority <= PRIORITY_MAX, f"must be 0 to {PRIORITY_MAX}")
        try:
            parse_condition(command.condition)
        except ConditionInvalid as error:
            raise GroupInvalid(name, "condition", f"is not a valid target condition: {error}") from error
    elif not isinstance(command, RemoveGroup):
        rule("deployment", is_name(command.deployment), _NAME_RULE)
    if isinstance(command, CancelUpdateDeployment):
        is_short = len(command.reason) <= TEXT_CHARACTERS_MAX
        rule("reason", is_short, f"must have at most {TEXT_CHARACTERS_MAX} characters")
    if not isinstance(command, DeployUpdate):
        return
    deployment_id = update_deployment_of(command.group, command.deployment)
    # Capital letters and some signs take three characters in the id, so the limit is on the id and not on both names.
    is_short = len(deployment_id) <= UPDATE_DEPLOYMENT_CHARACTERS_MAX
    rule("deployment", is_short, "and the name of the group are too long together; choose a shorter id")
    for member in ("start_at", "end_at"):
        is_time = 0 <= getattr(command, member) <= TIME_MAX
        rule(member, is_time, "must be a time from 1970 to the year 9999, in milliseconds")
    start = dt.datetime.fromtimestamp(command.start_at / 1000, dt.UTC)
    later = not command.end_at or command.start_at < command.end_at
    rule("end_at", later, f"must be after `start_at` ({start:%Y-%m-%d %H:%M} UTC)")
    if policy := command.policy:
        rule("policy.percent", 0 <= policy.percent <= PERCENT_MAX, "must be 0 to 100")
        rule("policy.count", 1 <= policy.count <= _COUNT_MAX, "must be a positive number")
        rule("policy.answered_min", 0 <= policy.answered_min <= _COUNT_MAX, "must not be negative")
        rule("policy.update", policy.update != command.update, "must differ from the update that is deployed")
    if command.plan is not None:
        names_no_target = not command.plan.rollback_to
        rule("plan.rollback_to", names_no_target, "must be empty: `policy.update` names the rollback target")
        try:
            check_rollout(CreateRollout(deployment_id, command.plan))
        except PlanInvalid as error:
            raise GroupInvalid(command.group, f"plan.{error.element}", error.rule) from error
