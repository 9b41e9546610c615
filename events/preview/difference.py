"""The differences between two configurations, property by property."""

import enum
from collections.abc import Iterator, Mapping

import msgspec
from msgspec import UNSET, UnsetType

from events.canonical import Json, JsonObject, encode
from events.properties import is_secret
from events.secrets.references import mask


class DifferenceKind(enum.Enum):
    """What happens to a property."""

    REMOVED = "removed"
    CHANGED = "changed"
    ADDED = "added"


class PropertyDifference(msgspec.Struct, frozen=True):
    """One property of one module, with its value before and after; `None` if there is none. Secrets show as `***`.

    A secret that is replaced by another one is `changed` from `***` to `***`. `path` is dotted below the desired
    properties, and empty for the whole section.
    """

    module: str
    path: str
    how: DifferenceKind
    before: Json = None
    after: Json = None


_ORDER = list(DifferenceKind)


def differences(before: Mapping[str, JsonObject], after: Mapping[str, JsonObject]) -> tuple[PropertyDifference, ...]:
    """The differences by kind (removals, changes, additions), module and path."""
    unsorted = [
        difference
        for module in before.keys() | after.keys()
        for difference in _between(module, (), before.get(module, UNSET), after.get(module, UNSET))
    ]
    return tuple(
        sorted(unsorted, key=lambda difference: (_ORDER.index(difference.how), difference.module, difference.path))
    )


def _between(
    module: str, path: tuple[str, ...], before: Json | UnsetType, after: Json | UnsetType
) -> Iterator[PropertyDifference]:
    """The differences of two values. Objects on both sides are compared by property; a value on one side is one difference."""
    if after is UNSET:
        yield PropertyDifference(module, ".".join(path), DifferenceKind.REMOVED, before=mask(before))
    elif before is UNSET:
        yield PropertyDifference(module, ".".join(path), DifferenceKind.ADDED, after=mask(after))
    elif isinstance(before, dict) and isinstance(after, dict) and not is_secret(before) and not is_secret(after):
        for name in sorted(before.keys() | after.keys()):
            yield from _between(module, (*path, name), before.get(name, UNSET), after.get(name, UNSET))
    # True == 1 == 1.0 in Python but not in JSON, also within lists. Texts are equal in both or in neither.
    elif before != after or (not isinstance(before, str) and encode(before) != encode(after)):
        yield PropertyDifference(module, ".".join(path), DifferenceKind.CHANGED, mask(before), mask(after))
