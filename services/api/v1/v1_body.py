"""What all bodies under `/v1` have in common: members that are not known are refused."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from events.camel_case import camel_case
from services.api.http.unknown_members import messages_of


class V1Body(BaseModel):
    """A body under `/v1`, or a part of one. A member that is not known is refused: a limit with a slip in its name would be none."""

    model_config = ConfigDict(alias_generator=camel_case, extra="forbid", populate_by_name=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _know_members(cls, given: Any) -> Any:
        if isinstance(given, dict) and not given.keys() <= cls.model_fields.keys():
            known = [field.alias or name for name, field in cls.model_fields.items()]
            named = [member for member in given if member not in cls.model_fields]
            if message := messages_of(dict.fromkeys(named), known):
                raise PydanticCustomError("unknown_member", "{message}", {"message": message})
        return given
