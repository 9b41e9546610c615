"""The reference: what a condition says of one twin."""

import operator
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from events.targeting.tree import And, Comparison, Condition, Everyone, IsDefined, Literal, Nobody, Not, Op, Or, Path


class TwinLike(Protocol):
    """What a condition can be about."""

    @property
    def device_id(self) -> str:
        """The device's id."""
        ...

    @property
    def tags(self) -> Mapping[str, Any]:
        """Its tags."""
        ...

    @property
    def reported(self) -> Mapping[str, Any]:
        """Its reported properties."""
        ...


MISSING = object()
"""What `value_at` answers where there is no such property."""
COMPARE: dict[Op, Callable[[Any, Any], bool]] = {
    Op.EQ: operator.eq,
    Op.NE: operator.ne,
    Op.LT: operator.lt,
    Op.LE: operator.le,
    Op.GT: operator.gt,
    Op.GE: operator.ge,
}


def evaluate(condition: Condition, twin: TwinLike) -> bool | None:
    """True, false, or `None` for unknown; only true targets the device.

    A missing property, or one of another type than the literal, makes any comparison unknown, `!=` too.
    """
    match condition:
        case Everyone():
            return True
        case Nobody():
            return False
        case Comparison(path, op, literal):
            return _compare(value_at(path, twin), op, literal)
        case IsDefined(path):
            return value_at(path, twin) is not MISSING
        case Not(term):
            verdict = evaluate(term, twin)
            return None if verdict is None else not verdict
        case And(terms):
            verdicts = {evaluate(term, twin) for term in terms}
            return False if False in verdicts else None if None in verdicts else True
        case Or(terms):
            verdicts = {evaluate(term, twin) for term in terms}
            return True if True in verdicts else None if None in verdicts else False


def value_at(path: Path, twin: TwinLike) -> object:
    """The value that a comparison of a property is about; MISSING where it is not there, or null."""
    match path:
        case ("deviceId",):
            return twin.device_id
        case ("tags", *names):
            found: Any = twin.tags
        case (_, _, *names):
            found = twin.reported
        case _:
            raise AssertionError(path)
    for name in names:
        if not isinstance(found, Mapping) or found.get(name) is None:
            return MISSING
        found = found[name]
    return found


def _compare(actual: object, op: Op, literal: Literal) -> bool | None:
    # bool is an int in Python; without this, true = 1 would hold.
    if isinstance(actual, bool) or isinstance(literal, bool):
        comparable = isinstance(actual, bool) and isinstance(literal, bool)
    elif isinstance(literal, str):
        comparable = isinstance(actual, str)
    else:
        comparable = isinstance(actual, int | float)
    return COMPARE[op](actual, literal) if comparable else None
