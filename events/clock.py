"""The clock of this machine, for processes. Deciders and projections get the time as an argument, so that replay is exact."""

import time


def now_ms() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000
