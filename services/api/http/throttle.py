"""How many requests a principal, or an address without valid credentials, may send to this process."""

import math
from collections import OrderedDict

_NAMES_MAX = 10_000
_NOTHING = 1e-9


class Throttle:
    """A token bucket for each name: it holds the tokens of a minute, and fills up evenly.

    Remembers the 10,000 names with the latest requests; any other name starts with a full bucket.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, *, now: float) -> int:
        """Take a token, and return 0; without a token, return the seconds until there is one. `now` is in monotonic seconds."""
        if not self._per_minute:
            return 0
        per_second = self._per_minute / 60
        held, at = self._buckets.get(name, (float(self._per_minute), now))
        held = min(float(self._per_minute), held + (now - at) * per_second)
        # A token that lacks a billionth is whole: that is the rounding error of adding times up.
        lacking = 1 - held if 1 - held > _NOTHING else 0.0
        self._buckets[name] = (held if lacking else max(0.0, held - 1), now)
        self._buckets.move_to_end(name)
        while len(self._buckets) > _NAMES_MAX:
            self._buckets.popitem(last=False)
        return math.ceil(lacking / per_second)
