"""Compatibility: the properties that an import requires of devices, as a target condition."""

from collections.abc import Mapping, Sequence

from events.query.condition import parse_condition
from events.query.errors import ConditionInvalid
from events.query.text import printed_literal

CONDITION = "condition"
"""The member of a compatibility that holds a target condition; it excludes all other members."""

ALL_DEVICES = "*"


def condition_of(compatibility: Sequence[Mapping[str, str]]) -> str:
    """The condition that is true where at least one compatibility fits; `*` without any compatibility.

    A compatibility fits where each of its properties has the value: `{"tags.model": "x"}`; a name without a dot is a tag. Or it is
    a target condition, `{"condition": "tags.model = 'x'"}`.
    """
    if not compatibility:
        return ALL_DEVICES
    conditions = [_fits(properties) for properties in compatibility]
    # A condition can hold an OR of its own and AND binds tighter, so several are joined in parentheses.
    return conditions[0] if len(conditions) == 1 else " OR ".join(f"({condition})" for condition in conditions)


def both(first: str, second: str) -> str:
    """The condition that is true where both conditions are true."""
    if ALL_DEVICES in {first.strip(), second.strip()}:
        return second if first.strip() == ALL_DEVICES else first
    return f"({first}) AND ({second})"


def problem_of(compatibility: Sequence[Mapping[str, str]]) -> str:
    """What is wrong with the compatibilities of an import; empty if they are valid."""
    for properties in compatibility:
        if not properties or (CONDITION in properties and len(properties) > 1):
            return "each compatibility must have properties with their values, or `condition` alone"
    try:
        text = condition_of(compatibility)
        parse_condition(text)
    except ConditionInvalid as error:
        return f"its compatibility is not a valid condition: {error}"
    # The language accepts an empty condition and it is false for every device; an update that fits no device is a mistake.
    return "" if text.strip() else "its compatibility fits no device: `condition` is empty"


def _fits(properties: Mapping[str, str]) -> str:
    if CONDITION in properties:
        return properties[CONDITION]
    return " AND ".join(
        f"{name if '.' in name else f'tags.{name}'} = {printed_literal(value)}"
        for name, value in sorted(properties.items())
    )
