"""The changes of a backtest: a rollback policy, plans, and deployments that are replaced, added or removed."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from events.canonical import JsonObject
from events.deployment.commands import CreateDeployment
from events.deployment.events import DeploymentCreated, DeploymentEvent, Everyone, NotStarted
from events.envelope import Envelope
from events.log.port import Event
from events.member_names import snake_json
from events.producer.decision import REFUSALS, check
from events.producer.secrecy import refuse_plain_secrets
from events.rollout.commands import CreateRollout
from events.rollout.events import RolloutCreated, RolloutEvent
from events.rollout.plan import Failure, RolloutPlan
from events.rollout.state import ROLLOUT

T = TypeVar("T")


class ChangeInvalid(Exception):
    """A change of a backtest is invalid, or names what is not recorded."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")
        self.what, self.why = what, why


class BacktestDeployment(msgspec.Struct, frozen=True):
    """A deployment that the backtest adds or replaces; an added one is created `at` a time (milliseconds), 0 is the beginning."""

    command: CreateDeployment
    at: int = 0
    plan: RolloutPlan | None = None


class PolicyOverride(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """When a rollout has failed and what it does then; `None` keeps what its plan says."""

    percent: float | None = None
    count: int | None = None
    answered_min: int | None = None
    then: str | None = None
    rollback_to: str | None = None
    restore: bool | None = None

    def on(self, plan: RolloutPlan) -> RolloutPlan:
        """The plan with this policy in place of its own."""
        overrides = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}
        beside = {name: overrides.pop(name) for name in ("rollback_to", "restore") if name in overrides}
        failure = msgspec.convert({**msgspec.to_builtins(plan.failure), **overrides}, Failure)
        return msgspec.structs.replace(plan, failure=failure, **beside)


class Changes(msgspec.Struct, frozen=True):
    """All changes of a backtest. The policy is for the rollouts named in `rollouts`, or for all when it is empty."""

    policy: PolicyOverride | None = None
    rollouts: frozenset[str] = frozenset()
    plans: Mapping[str, RolloutPlan] = {}
    deployments: Mapping[str, BacktestDeployment] = {}
    without: frozenset[str] = frozenset()

    def of(self, envelope: Envelope[Event]) -> Event | None:
        """The event that replaces a recorded one in the backtest; `None` when it is skipped."""
        event, name = envelope.event, envelope.subject.removeprefix(ROLLOUT)
        if not isinstance(event, DeploymentEvent | RolloutEvent):
            return event
        if name in self.without:
            return None
        if isinstance(event, DeploymentCreated) and name in self.deployments:
            command = self.deployments[name].command
            return msgspec.structs.replace(
                event, content=command.content, target_condition=command.target_condition, priority=command.priority
            )
        if isinstance(event, RolloutCreated):
            plan = self.plans.get(name, event.plan)
            if self.policy is not None and (not self.rollouts or name in self.rollouts):
                plan = self.policy.on(plan)
            return msgspec.structs.replace(event, plan=plan)
        return event


def check_names(changes: Changes, fleet: Iterable[Envelope[Event]]) -> None:
    """Check that every name in the changes is recorded in the fleet's events.

    Raises:
        ChangeInvalid: a name is not recorded.
    """
    deployments, rollouts = set(), set()
    for envelope in fleet:
        if isinstance(envelope.event, DeploymentCreated):
            deployments.add(envelope.subject)
        elif isinstance(envelope.event, RolloutCreated):
            rollouts.add(envelope.subject.removeprefix(ROLLOUT))
    for name in sorted(changes.without - deployments):
        raise ChangeInvalid(name, "no deployment of that name is recorded")
    for name in sorted((changes.rollouts | changes.plans.keys()) - rollouts):
        raise ChangeInvalid(name, "no rollout of that name is recorded")


def policy_of(body: JsonObject) -> PolicyOverride:
    """A policy from JSON: `{"percent": 5, "count": 10, "answeredMin": 20, "then": "roll back", "rollbackTo": "…", "restore": true}`.

    Raises:
        ChangeInvalid: it is invalid.
    """
    policy = _read("the rollback policy", lambda: msgspec.convert(body, PolicyOverride))
    _read("the rollback policy", lambda: policy.on(RolloutPlan(())))
    return policy


def plan_of(name: str, body: JsonObject) -> RolloutPlan:
    """A plan from JSON, as the API takes it.

    Raises:
        ChangeInvalid: it is invalid.
    """
    plan = _read(f"the plan of {name}", lambda: msgspec.convert(snake_json(body), RolloutPlan))
    _read(f"the plan of {name}", lambda: check(CreateRollout(name, plan)))
    return plan


def deployment_of(body: JsonObject) -> BacktestDeployment:
    """A deployment from JSON: `id`, `content`, `targetCondition`, `priority`; an added one may have `createdAt` and `plan`.

    Raises:
        ChangeInvalid: it is invalid.
    """
    body = dict(body)
    what = f"the deployment {body.get('id')!r}"
    plan = body.pop("plan", None)
    at = _point_in_time(what, body.pop("createdAt", None))
    names = {"id": "deployment_id", "targetCondition": "target_condition", "content": "content", "priority": "priority"}
    if unknown := body.keys() - names.keys():
        raise ChangeInvalid(
            what, f"unknown member {min(unknown)!r}; allowed are {', '.join(names)}, createdAt and plan"
        )
    fields = {names[name]: value for name, value in body.items()}
    waits = {"admission": Everyone() if plan is None else NotStarted()}
    command = _read(what, lambda: refuse_plain_secrets(CreateDeployment(**{"target_condition": "", **fields, **waits})))
    _read(what, lambda: check(command))
    assert isinstance(command, CreateDeployment)
    return BacktestDeployment(command, at, None if plan is None else plan_of(command.deployment_id, plan))


def _point_in_time(what: str, text: Any) -> int:
    if text is None:
        return 0
    try:
        point_in_time = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        raise ChangeInvalid(what, "createdAt is a time, as in 2026-01-31T12:00:00Z") from None
    return int((point_in_time if point_in_time.tzinfo else point_in_time.replace(tzinfo=UTC)).timestamp() * 1000)


def _read(what: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except (*REFUSALS, msgspec.ValidationError, TypeError) as error:
        raise ChangeInvalid(what, str(error)) from error
