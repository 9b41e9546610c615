"""JSON pointers (RFC 6901), and the operations of a JSON patch (RFC 6902) in a fix."""

from collections.abc import Sequence

import msgspec

from events.canonical import Json


class Operation(msgspec.Struct, frozen=True):
    """One step of a patch: `add`, `replace` or `remove` at a pointer; `value` is unused for `remove`."""

    op: str
    path: str
    value: Json = None


def pointer(*names: object) -> str:
    """Return the pointer through the members and items with these names."""
    return "".join("/" + str(name).replace("~", "~0").replace("/", "~1") for name in names)


def names_of(path: str) -> list[str]:
    """Return the names in a pointer; the inverse of `pointer`."""
    return [name.replace("~1", "/").replace("~0", "~") for name in path.split("/")[1:]]


def overlap(patch: Sequence[Operation], other: Sequence[Operation]) -> bool:
    """Return whether two patches change the same element, or one changes a part of an element of the other."""
    pairs = [(f"{mine.path}/", f"{theirs.path}/") for mine in patch for theirs in other]
    return any(mine.startswith(theirs) or theirs.startswith(mine) for mine, theirs in pairs)
