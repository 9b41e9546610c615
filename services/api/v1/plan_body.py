"""How a rollout's plan is written in a body (docs/guides/rollouts.md): read as `RolloutPlan`, from models that are made of it."""

import enum
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from pydantic import BeforeValidator, Field, GetPydanticSchema, create_model
from pydantic_core import core_schema

from events.camel_case import camel_json
from events.member_names import in_body_names
from events.rollout.plan import Phase, RolloutPlan, read_phase
from events.rollout.times import DurationUnreadable, read_duration
from services.api.http.body_examples import example
from services.api.v1.v1_body import V1Body


def _seconds(given: Any) -> Any:
    try:
        return read_duration(given) if isinstance(given, str) else given
    except DurationUnreadable as error:
        raise ValueError(str(error)) from error


_SECONDS = Annotated[int, BeforeValidator(_seconds, json_schema_input_type=int | str)]
"""Seconds as a number, or a duration as text: 90s, 15m, 2h, 1d."""


def _phase(given: Any) -> Any:
    if not isinstance(given, str):
        return {"count": given} if isinstance(given, int) else given
    phase = read_phase(given)
    if phase is None:
        raise ValueError("a phase is a percentage as 10%, a number of devices as 50, or an object")
    return msgspec.to_builtins(phase)


def _model_of(struct: type[msgspec.Struct]) -> Any:
    """The model of a part of a plan; what is left out of a body stays unset, and gets the default of the struct."""
    members: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        kind = _SECONDS if field.name.endswith("_seconds") else _type_of(field.type)
        members[field.name] = (kind, ... if field.required else Field(default=camel_json(field.default)))
    return create_model(
        f"{struct.__name__}Body", __base__=V1Body, __doc__=in_body_names(struct.__doc__ or ""), **members
    )


def _type_of(kind: Any) -> Any:
    """The type that a member of a model has for one of a struct."""
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
    return msgspec.convert(model.model_dump(exclude_unset=True), RolloutPlan)


PlanBody = Annotated[
    RolloutPlan,
    GetPydanticSchema(lambda _, schema_of: core_schema.no_info_after_validator_function(_read, schema_of(_MODEL))),
]
"""A plan in a body."""
