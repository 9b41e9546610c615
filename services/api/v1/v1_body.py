"""What all bodies under `/v1` have in common: unknown members are refused."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from events.member_names import camel_case
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
            named = [member for member in value if member not in cls.model_fields]
            if message := messages_of(dict.fromkeys(named), allowed):
                raise PydanticCustomError("unknown_member", "{message}", {"message": message})
        return value
