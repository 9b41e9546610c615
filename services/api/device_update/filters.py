"""Filters and orders of the update service's lists: the part of OData that the service documents."""

import re
from collections.abc import Collection, Mapping

from events.canonical import Json
from services.api.http.errors import BodyInvalid

# OData doubles a quote within a text.
_CLAUSE = re.compile(r"\s*([A-Za-z/]+)\s+eq\s+('(?:[^']|'')*'|null|true|false)\s*", re.IGNORECASE)
_AND = re.compile(r"\band\b", re.IGNORECASE)


def read_filter(text: str | None, names: Collection[str]) -> dict[str, Json]:
    """The required value of each property in a filter as `groupId eq 'a' and deploymentStatus eq null`; empty without a filter.

    Raises:
        BodyInvalid: the filter has another form, or another property than `names`.
    """
    selection: dict[str, Json] = {}
    properties = {name.lower(): name for name in names}
    remaining = (text or "").strip()
    while remaining:
        clause = _CLAUSE.match(remaining)
        name = None if clause is None else properties.get(clause[1].lower())
        if clause is None or name is None or name in selection:
            raise _unsupported(text, names)
        selection[name] = _value(clause[2])
        remaining = remaining[clause.end() :]
        if remaining:
            joint = _AND.match(remaining)
            remaining = "" if joint is None else remaining[joint.end() :]
            if not remaining.strip():
                raise _unsupported(text, names)
    return selection


def read_order(text: str | None, names: Mapping[str, str]) -> tuple[str, bool] | None:
    """The member to order by in an order as `deviceCount desc`, and whether the largest is first; `None` without an order.

    Raises:
        BodyInvalid: the list cannot be ordered by that.
    """
    words = (text or "").split()
    if not words:
        return None
    members = {name.lower(): member for name, member in names.items()}
    direction = [word.lower() for word in words[1:]]
    if words[0].lower() not in members or direction not in ([], ["asc"], ["desc"]):
        raise BodyInvalid(f"orderby is one of {', '.join(names)}, with asc or desc, not {text!r}")
    return members[words[0].lower()], direction == ["desc"]


def _value(literal: str) -> Json:
    plain = {"null": None, "true": True, "false": False}
    return plain[literal.lower()] if literal.lower() in plain else literal[1:-1].replace("''", "'")


def _unsupported(text: str | None, names: Collection[str]) -> BodyInvalid:
    form = " and ".join(f"{name} eq ..." for name in names)
    return BodyInvalid(f"this filter is not supported: {(text or '')[:200]!r}; supported is {form}")
