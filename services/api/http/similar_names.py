"""Names that are spelled alike, for whoever mistyped one: a few compared in earnest, of however many there are."""

import bisect
import difflib
from collections.abc import Iterable

NEAR = 3
_ALIKE = 0.75
_NEIGHBOURS = 100


def near(wanted: str, names: Iterable[str], *, alike: float = _ALIKE) -> list[str]:
    """At most three names that are spelled like the wanted one, in whatever case; the most alike first.

    `alike` is how much of them has to be the same, from 0 to 1.
    """
    applied = {name.lower(): name for name in names}
    wanted = wanted.lower()
    found = difflib.get_close_matches(wanted, candidates(wanted, applied), n=NEAR, cutoff=alike)
    return [applied[name] for name in found]


def candidates(wanted: str, names: Iterable[str]) -> list[str]:
    """At most some hundred names that begin or end most like the wanted one: comparing costs much, sorting little."""
    names = list(names)
    turned = [name[::-1] for name in _neighbours(wanted[::-1], [name[::-1] for name in names])]
    return list(dict.fromkeys([*_neighbours(wanted, names), *turned]))


def _neighbours(wanted: str, names: list[str]) -> list[str]:
    """Those that stand around it in the order of the alphabet: whoever shares the longest beginning is among them."""
    names.sort()
    location = bisect.bisect_left(names, wanted)
    return names[max(0, location - _NEIGHBOURS // 2) : location + _NEIGHBOURS // 2]
