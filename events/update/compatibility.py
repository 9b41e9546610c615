"""Which devices an update is for: what an import says of it, as a target condition."""

from collections.abc import Mapping, Sequence

from events.query.condition import parse_condition
from events.query.errors import ConditionInvalid
from events.query.text import printed_literal

CONDITION = "condition"
"""The member that holds a target condition, beside none other."""

EVERYBODY = "*"


def condition_of(compatibility: Sequence[Mapping[str, str]]) -> str:
    """The condition that is true where one of the compatibilities fits, and `*` where there is none.

    One fits where each of its properties has its value: `{"tags.model": "x"}`; a name without a dot is that of a tag. Or it is
    a target condition, `{"condition": "tags.model = 'x'"}`.
    """
    if not compatibility:
        return EVERYBODY
    return " OR ".join(_grouped(_fits(properties), more=len(compatibility) > 1) for properties in compatibility)


def both(first: str, second: str) -> str:
    """The condition that is true where both are."""
    if EVERYBODY in {first.strip(), second.strip()}:
        return second if first.strip() == EVERYBODY else first
    return f"({first}) AND ({second})"


def problem_of(compatibility: Sequence[Mapping[str, str]]) -> str:
    """What is wrong with some compatibilities; empty where nothing is."""
    for properties in compatibility:
        if not properties or (CONDITION in properties and len(properties) > 1):
            return "a compatibility has properties and their values, or one condition"
    try:
        text = condition_of(compatibility)
        parse_condition(text)
    except ConditionInvalid as error:
        return f"its compatibility is no condition: {error}"
    return "" if text.strip() else "its compatibility fits nobody"


def _fits(properties: Mapping[str, str]) -> str:
    if CONDITION in properties:
        return properties[CONDITION]
    return " AND ".join(f"{_path(name)} = {printed_literal(value)}" for name, value in sorted(properties.items()))


def _path(name: str) -> str:
    return name if "." in name else f"tags.{name}"


def _grouped(text: str, *, more: bool) -> str:
    return f"({text})" if more else text
