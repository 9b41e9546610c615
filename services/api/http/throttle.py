"""How much one principal, or one address without credentials, may ask of this process."""

import math
from collections import OrderedDict

_NAMES_MAX = 10_000
_NOTHING = 1e-9


class Throttle:
    """A bucket of tokens for each name: it holds a minute's worth, and fills up evenly.

    Remembers the 10,000 names that asked last; whoever is forgotten begins with a full bucket.
    """

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, *, now: float) -> int:
        """Take a token; answers 0, or after how many seconds there is one. `now` is in seconds and never goes back."""
        if not self._per_minute:
            return 0
        per_second = self._per_minute / 60
        held, at = self._buckets.get(name, (float(self._per_minute), now))
        held = min(float(self._per_minute), held + (now - at) * per_second)
        # A billionth short is what adding times up leaves over.
        lacking = 1 - held if 1 - held > _NOTHING else 0.0
        self._buckets[name] = (held if lacking else max(0.0, held - 1), now)
        self._buckets.move_to_end(name)
        while len(self._buckets) > _NAMES_MAX:
            self._buckets.popitem(last=False)
        return math.ceil(lacking / per_second)
