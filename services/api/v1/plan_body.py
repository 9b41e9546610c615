"""A rollout's plan in a body (docs/guides/rollouts.md): pydantic models that are derived from `RolloutPlan`."""

import enum
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from pydantic import BeforeValidator, Field, GetPydanticSchema, create_model
from pydantic_core import core_schema

from events.member_names import camel_json, in_body_names
from events.rollout.plan import Phase, RolloutPlan, read_phase
from events.rollout.times import DurationUnreadable, read_duration
from services.api.http.body_examples import example
from services.api.v1.v1_body import V1Body


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
