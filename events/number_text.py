"""Numbers and times as texts."""

import datetime as dt
from functools import lru_cache


def counted(count: int, what: str) -> str:
    """A number with its noun: `1 device`, `2 devices`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def iso_text(at: int) -> str:
    """A time in milliseconds as `2026-11-21T14:03:22Z`."""
    return dt.datetime.fromtimestamp(at / 1000, dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


# An explanation of one device can name thousands of events, and many of them have the same second.
@lru_cache(10_000)
def utc_text(at: int) -> str:
    """A time in milliseconds as `2026-11-21 14:03:22 UTC`."""
    return dt.datetime.fromtimestamp(at // 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
