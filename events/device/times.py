"""Times as the hub writes them (contract/hub.md §1.5, §1.6)."""

from datetime import UTC, datetime

NEVER = "0001-01-01T00:00:00Z"

_TICKS_AT_EPOCH = 621_355_968_000_000_000
_TICKS_PER_MS = 10_000


def time_text(at: int) -> str:
    """Returns a time in milliseconds as the hub writes it; a negative time is NEVER."""
    if at < 0:
        return NEVER
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ticks(at: int) -> int:
    """Returns a time in milliseconds as ticks of 100 ns since the year 1, the hub's unit of registrations and changes."""
    return _TICKS_AT_EPOCH + at * _TICKS_PER_MS
