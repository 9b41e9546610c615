"""The clock of this machine, for processes; what decides or projects gets its time as an argument."""

import time


def now_ms() -> int:
    """Milliseconds since 1970 UTC."""
    return time.time_ns() // 1_000_000
