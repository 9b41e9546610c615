"""What differs between two configurations, property by property, as somebody reads it who is about to cause it."""

import enum
from collections.abc import Iterator, Mapping

import msgspec

from events.canonical import Json, JsonObject, encode
from events.properties import is_secret
from events.secrets.references import mask


class How(enum.Enum):
    """What becomes of a property."""

    REMOVED = "removed"
    CHANGED = "changed"
    ADDED = "added"


class PropertyDifference(msgspec.Struct, frozen=True):
    """One property of one module, with its value before and after; `None` where there is none. Secrets show as `***`.

    A secret that gives way to another one is `changed` from `***` to `***`. `path` is dotted below the desired properties, and
    empty for the whole section.
    """

    module: str
    path: str
    how: How
    before: Json = None
    after: Json = None


_ORDER = list(How)


def differences(before: Mapping[str, JsonObject], after: Mapping[str, JsonObject]) -> tuple[PropertyDifference, ...]:
    """Removals first, then changes, then additions; each by module and path."""
    found = [
        one
        for module in before.keys() | after.keys()
        for one in _between(module, before.get(module), after.get(module))
    ]
    return tuple(sorted(found, key=lambda one: (_ORDER.index(one.how), one.module, one.path)))


def _between(module: str, before: Json, after: Json) -> Iterator[PropertyDifference]:
    """Walk both together; what is an object on both sides is looked into, what is on one side alone is told whole."""
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
            yield PropertyDifference(module, ".".join(path), How.REMOVED, before=mask(old))
        elif not was:
            yield PropertyDifference(module, ".".join(path), How.ADDED, after=mask(new))
        elif _is_other(old, new):
            yield PropertyDifference(module, ".".join(path), How.CHANGED, mask(old), mask(new))


def _is_object(value: Json) -> bool:
    return isinstance(value, dict) and not is_secret(value)


def _is_other(old: Json, new: Json) -> bool:
    # True == 1 == 1.0 in Python, though not in JSON, also within lists; of texts alone that need not be looked at.
    return bool(old != new) or (not isinstance(old, str) and encode(old) != encode(new))
