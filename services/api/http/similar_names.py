"""Similar names for a mistyped name."""

import bisect
import difflib
from collections.abc import Iterable

NEAR = 3
_ALIKE = 0.75
_NEIGHBOURS = 100


def near(name: str, names: Iterable[str], *, alike: float = _ALIKE) -> list[str]:
    """At most three names that are similar to a name, whatever their case; the most similar first.

    `alike` is the required similarity, from 0 to 1.
    """
    applied = {name.lower(): name for name in names}
    name = name.lower()
    closest = difflib.get_close_matches(name, candidates(name, applied), n=NEAR, cutoff=alike)
    return [applied[name] for name in closest]


def candidates(name: str, names: Iterable[str]) -> list[str]:
    """At most 200 names that share the longest beginning or end with a name."""
    # Among 100,000 ids that differ in their last digits, difflib alone takes 1 s, and sorting them 0.05 s.
    names = list(names)
    turned = [name[::-1] for name in _neighbours(name[::-1], [name[::-1] for name in names])]
    return list(dict.fromkeys([*_neighbours(name, names), *turned]))


def _neighbours(name: str, names: list[str]) -> list[str]:
    """The names around a name in alphabetical order, among which are those that share the longest beginning."""
    names.sort()
    location = bisect.bisect_left(names, name)
    return names[max(0, location - _NEIGHBOURS // 2) : location + _NEIGHBOURS // 2]
