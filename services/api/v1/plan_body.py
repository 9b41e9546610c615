"""How a rollout's plan is written in a body (docs/guides/rollouts.md)."""

from typing import Annotated, Any, Literal

import msgspec
from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from events.rollout.plan import Plan
from events.rollout.times import DurationUnreadable, read_duration
from services.api.http.body_examples import example
from services.api.v1.v1_body import V1Body


class _PlanPart(V1Body):
    """A part of a plan."""

    model_config = ConfigDict(alias_generator=to_camel)


def _seconds(given: Any) -> Any:
    try:
        return read_duration(given) if isinstance(given, str) else given
    except DurationUnreadable as error:
        raise ValueError(str(error)) from error


Seconds = Annotated[int, BeforeValidator(_seconds, json_schema_input_type=int | str)]
"""Seconds as a number, or a duration as text: 90s, 15m, 2h, 1d."""


def _phase(given: Any) -> Any:
    """`10%` is a percentage, and `50` a number of devices."""
    if not isinstance(given, str):
        return {"count": given} if isinstance(given, int) else given
    number, percent, rest = given.strip().partition("%")
    try:
        if not rest:
            return {"percent": float(number)} if percent else {"count": int(number)}
    except ValueError:
        pass
    raise ValueError("a phase is a percentage as 10%, a number of devices as 50, or an object")


class GateBody(_PlanPart):
    """What must hold before the next phase (events/rollout/plan.py)."""

    success_percent: float | None = None
    answered_min: int = 0
    soak_seconds: Seconds = 0
    device_timeout_seconds: Seconds = 0
    phase_timeout_seconds: Seconds = 0


class PhaseBody(_PlanPart):
    """Who is admitted up to here: one of `percent`, `count` and `condition`."""

    percent: float | None = None
    count: int | None = None
    condition: str | None = None
    gate: GateBody = GateBody()
    approval: bool = False
    name: str = ""


class FailureBody(_PlanPart):
    """When a rollout has failed (every threshold that is given is reached), and what it does then."""

    percent: float | None = None
    count: int | None = None
    answered_min: int = 0
    then: Literal["pause", "roll back"] = "pause"


class SpreadBody(_PlanPart):
    """At most so many devices of one value of a tag at once."""

    tag: str
    at_most: int = 1


class RateBody(_PlanPart):
    """How many devices a minute."""

    per_minute: float
    growth_percent: float = 0.0


class WindowBody(_PlanPart):
    """When devices may be admitted."""

    cron: str
    zone: str = "UTC"
    minutes: int = 60


_PLAN: dict[str, Any] = {
    "phases": ["5%", {"percent": 100, "approval": True, "gate": {"successPercent": 95, "soakSeconds": "30m"}}],
    "failure": {"percent": 5, "count": 3, "then": "roll back"},
    "windows": [{"cron": "0 22 * * *", "zone": "Europe/Berlin", "minutes": 240}],
}


class PlanBody(_PlanPart):
    """How a deployment reaches its devices (docs/guides/rollouts.md). A phase may be written `10%` or `50`."""

    model_config = example(_PLAN)

    phases: list[Annotated[PhaseBody, BeforeValidator(_phase, json_schema_input_type=PhaseBody | int | str)]]
    failure: FailureBody = FailureBody()
    rollback_to: str = ""
    restore: bool = False
    offline: Literal["wait", "exclude", "unknown"] = "wait"
    offline_seconds: Seconds = 3600
    joiners: Literal["cohort", "end"] = "cohort"
    spread: SpreadBody | None = None
    rate: RateBody | None = None
    windows: list[WindowBody] = Field(default=[])
    approval_by_another: bool = False

    @property
    def plan(self) -> Plan:
        """As the log has it."""
        return msgspec.convert(self.model_dump(), Plan)
