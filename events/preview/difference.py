"""The differences between two configurations, property by property."""

import enum
from collections.abc import Iterator, Mapping

import msgspec

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
        for difference in _between(module, before.get(module), after.get(module))
    ]
    return tuple(
        sorted(unsorted, key=lambda difference: (_ORDER.index(difference.how), difference.module, difference.path))
    )


def _between(module: str, before: Json, after: Json) -> Iterator[PropertyDifference]:
    """The differences of two sections. Objects on both sides are compared by property; a value on one side is one difference."""
    locations: list[tuple[tuple[str, ...], bool, Json, bool, Json]] = [
        ((), before is not None, before, after is not None, after)
    ]
    for path, was, old, is_, new in locations:
        if was and is_ and _is_object(old) and _is_object(new):
            locations += [
                ((*path, name), name in old, old.get(name), name in new, new.get(name))
                for name in sorted(old.keys() | new.keys())
            ]
        elif not is_:
            yield PropertyDifference(module, ".".join(path), DifferenceKind.REMOVED, before=mask(old))
        elif not was:
            yield PropertyDifference(module, ".".join(path), DifferenceKind.ADDED, after=mask(new))
        elif _is_other(old, new):
            yield PropertyDifference(module, ".".join(path), DifferenceKind.CHANGED, mask(old), mask(new))


def _is_object(value: Json) -> bool:
    return isinstance(value, dict) and not is_secret(value)


def _is_other(old: Json, new: Json) -> bool:
    # True == 1 == 1.0 in Python but not in JSON, also within lists. Texts are equal in both or in neither.
    return bool(old != new) or (not isinstance(old, str) and encode(old) != encode(new))
