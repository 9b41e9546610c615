"""The bodies of requests under `/v1`."""

import enum
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetPydanticSchema, create_model, model_validator
from pydantic_core import PydanticCustomError, core_schema

from events.member_names import camel_case, camel_json, in_body_names
from events.rollout.plan import Phase, RolloutPlan, read_phase
from events.rollout.rules import PHASES_MAX, REASON_CHARACTERS_MAX
from events.rollout.times import DurationUnreadable, read_duration
from events.update.commands import PRIORITY_DEFAULT
from services.api.http.body_examples import CONTENT, example
from services.api.http.unknown_members import messages_of


class V1Body(BaseModel):
    """A body under `/v1`, or a part of one. An unknown member is refused."""

    # A misspelled member would be a limit that the caller believes to be in force: `"condition"` in place of
    # `"targetCondition"` once created a deployment that targeted no device, with a 201 (decision 0040).
    model_config = ConfigDict(alias_generator=camel_case, extra="forbid", populate_by_name=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _know_members(cls, value: Any) -> Any:
        # Before the fields are read: pydantic's own error of `extra` names no similar member.
        if isinstance(value, dict):
            allowed = [field.alias or name for name, field in cls.model_fields.items()]
            if message := messages_of({name: None for name in value if name not in cls.model_fields}, allowed):
                raise PydanticCustomError("unknown_member", "{message}", {"message": message})
        return value


# The plan of a rollout (docs/guides/rollouts.md): pydantic models that are derived from `RolloutPlan`.


def _seconds(value: Any) -> Any:
    try:
        return read_duration(value) if isinstance(value, str) else value
    except DurationUnreadable as error:
        raise ValueError(str(error)) from error


_SECONDS = Annotated[int, BeforeValidator(_seconds, json_schema_input_type=int | str)]
"""Seconds as a number, or a duration as text: 90s, 15m, 2h, 1d."""


def _phase(value: Any) -> Any:
    if not isinstance(value, str):
        return {"count": value} if isinstance(value, int) else value
    phase = read_phase(value)
    if phase is None:
        raise ValueError("a phase must be a percentage (10%), a number of devices (50) or an object")
    return msgspec.to_builtins(phase)


def _model_of(struct: type[msgspec.Struct]) -> Any:
    """The model of a struct. A member that a body leaves out stays unset, and gets the default of the struct."""
    members: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        kind = _SECONDS if field.name.endswith("_seconds") else _type_of(field.type)
        members[field.name] = (kind, ... if field.required else Field(default=camel_json(field.default)))
    return create_model(
        f"{struct.__name__}Body", __base__=V1Body, __doc__=in_body_names(struct.__doc__ or ""), **members
    )


def _type_of(kind: Any) -> Any:
    """The type of a model's member, from the type of the struct's."""
    if get_origin(kind) is types.UnionType:
        return Union[tuple(map(_type_of, get_args(kind)))]  # noqa: UP007 - the alternatives are known at run time alone
    if get_origin(kind) is tuple:
        return types.GenericAlias(list, _type_of(get_args(kind)[0]))
    if issubclass(kind, enum.Enum):
        return Literal[tuple(member.value for member in kind)]
    if kind is Phase:
        model = _model_of(kind)
        return Annotated[model, BeforeValidator(_phase, json_schema_input_type=model | int | str)]
    return _model_of(kind) if issubclass(kind, msgspec.Struct) else kind


_MODEL = _model_of(RolloutPlan)
_EXAMPLE: dict[str, Any] = {
    "phases": ["5%", {"percent": 100, "approval": True, "gate": {"successPercent": 95, "soakSeconds": "30m"}}],
    "failure": {"percent": 5, "count": 3, "then": "roll back"},
    "windows": [{"cron": "0 22 * * *", "zone": "Europe/Berlin", "minutes": 240}],
}
_MODEL.model_config |= example(_EXAMPLE)
_MODEL.model_rebuild(force=True)


def _read(model: V1Body) -> RolloutPlan:
    # Without the unset members: an absent threshold means something else than one that is given (decision 0034).
    return msgspec.convert(model.model_dump(exclude_unset=True), RolloutPlan)


PlanBody = Annotated[
    RolloutPlan,
    GetPydanticSchema(lambda _, schema_of: core_schema.no_info_after_validator_function(_read, schema_of(_MODEL))),
]
"""The type of a plan in a body: validated by the model, and handed to the route as `RolloutPlan`."""


class ReportBody(V1Body):
    """A merge patch to the reported properties of a device, or of the module `moduleId`."""

    model_config = example({"patch": {"model": "x-200"}})

    patch: dict[str, Any]
    module_id: str | None = None


class DecisionBody(V1Body):
    """The decision about an event that partitions are stopped at, and its reason."""

    model_config = example({"decision": "skip", "reason": "written by a faulty script"})

    decision: Literal["skip", "retry"]
    reason: str


class WebhookBody(V1Body):
    """A webhook: where to deliver, and which events. Without `secret`, a new one is made, or the present one is kept.

    An empty list selects all kinds, all deployments or all devices.
    """

    model_config = example(
        {
            "url": "https://hooks.example/twinfold",
            "kinds": ["DeploymentCreated", "AssignmentChange"],
            "deployments": ["north"],
        }
    )

    url: str
    secret: str | None = None
    kinds: tuple[str, ...] = Field(default=(), strict=False)
    deployments: tuple[str, ...] = Field(default=(), strict=False)
    devices: tuple[str, ...] = Field(default=(), strict=False)


class PauseBody(V1Body):
    """The reason for a pause."""

    model_config = example({"why": "the receiver moves"})

    why: str


class UpdateBody(V1Body):
    """The members of a deployment that change."""

    model_config = example({"priority": 20, "targetCondition": "tags.site = 'south'"})

    content: dict[str, Any] | None = None
    target_condition: str | None = None
    priority: int | None = None
    labels: dict[str, str] | None = None
    metrics: dict[str, str] | None = None


class ScheduleBody(V1Body):
    """When a deployment starts and ends, as RFC 3339. A time without an offset is read in `zone`.

    A time that is left out stays as it is. `null` removes a time.
    """

    model_config = example({"end": "2099-01-01T08:00:00", "zone": "Europe/Berlin"})

    start: str | None = None
    end: str | None = None
    zone: str | None = None


class ActBody(V1Body):
    """The reason for a command, and its phase, counted from 1.

    The default is the next phase without approval for `approve`, and the open phase for `skip`.
    """

    model_config = example({"reason": "the first site looks well"})

    reason: Annotated[str, Field(max_length=REASON_CHARACTERS_MAX)] = ""
    phase: Annotated[int, Field(ge=1, le=PHASES_MAX)] | None = None


class CreateBody(V1Body):
    """A deployment to create.

    With `hold` it waits until an operator starts it. With a `rollout` it reaches its devices in phases, from the rollout's
    start or its scheduled time on.
    """

    model_config = example(
        {"content": CONTENT, "targetCondition": "tags.site = 'south'", "priority": 10, "labels": {"team": "x"}}
    )

    content: dict[str, Any]
    target_condition: str = ""
    priority: int = 0
    labels: dict[str, str] = Field(default={})
    metrics: dict[str, str] = Field(default={})
    hold: bool = False
    schedule: ScheduleBody | None = None
    rollout: PlanBody | None = None


class WaiverBody(V1Body):
    """A decision to accept the findings of a rule up to and including the day `until` (UTC).

    `null` as `module` or `deployment` means every one.
    """

    model_config = example(
        {
            "rule": "privileged",
            "module": "driver",
            "reason": "the driver of the press needs it until its next release",
            "until": "2027-03-31",
        }
    )

    rule: str
    reason: str
    until: str = Field(json_schema_extra={"format": "date"})
    module: str | None = None
    deployment: str | None = None


class UpdateImportBody(V1Body):
    """An update to import. `compatibility` has properties with their values, or a target condition as `condition`."""

    model_config = example({"content": CONTENT, "compatibility": [{"model": "x-200"}], "description": "the first"})

    content: dict[str, Any]
    compatibility: list[dict[str, str]] = Field(default=[])
    description: str = ""
    friendly_name: str = ""


class GroupBody(V1Body):
    """A group. Its devices are those of the condition; an empty condition means the tag `ADUGroup`.

    Updates are deployed to it with the priority.
    """

    model_config = example({"condition": "tags.site = 'north'"})

    condition: str = ""
    priority: int = PRIORITY_DEFAULT


class PolicyBody(V1Body):
    """When a group is rolled back: both thresholds are reached, and at least `answeredMin` devices have answered.

    Without an update, each device returns to its last healthy configuration.
    """

    update: str | None = None
    percent: float
    count: int = 1
    answered_min: int = 0


class DeployBody(V1Body):
    """An update to deploy, as provider/name/version. `startAt` and `endAt` are in milliseconds, `plan` is a rollout's plan."""

    model_config = example({"update": "contoso/camera/1.0"})

    update: str
    start_at: int = 0
    end_at: int = 0
    policy: PolicyBody | None = None
    plan: PlanBody | None = None


class CancelBody(V1Body):
    """The reason to cancel a deployment."""

    model_config = example({"reason": "the wrong one"})

    reason: str = ""
