"""Similar names for a mistyped name."""

import bisect
import difflib
from collections.abc import Iterable

_NEIGHBOURS = 100


def near(name: str, names: Iterable[str], *, alike: float = 0.75) -> list[str]:
    """At most three similar names, whatever their case, the most similar first; `alike` (0 to 1) is required."""
    by_lower_case = {each.lower(): each for each in names}
    name = name.lower()
    closest = difflib.get_close_matches(name, candidates(name, by_lower_case), n=3, cutoff=alike)
    return [by_lower_case[each] for each in closest]


def candidates(name: str, names: Iterable[str]) -> list[str]:
    """At most 200 names that share the longest beginning or end with a name."""
    # Among 100,000 ids that differ in their last digits, difflib alone takes 1 s, and sorting them 0.05 s.
    names = list(names)
    turned = [each[::-1] for each in _neighbours(name[::-1], [each[::-1] for each in names])]
    return list(dict.fromkeys([*_neighbours(name, names), *turned]))


def _neighbours(name: str, names: list[str]) -> list[str]:
    """The names around a name in alphabetical order, among which are those that share the longest beginning."""
    names.sort()
    index = bisect.bisect_left(names, name)
    return names[max(0, index - _NEIGHBOURS // 2) : index + _NEIGHBOURS // 2]
