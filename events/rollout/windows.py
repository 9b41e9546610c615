"""Maintenance windows: when they open and close."""

import datetime as dt
import zoneinfo
from collections.abc import Sequence

from cronsim import CronSim, CronSimError

from events.rollout.plan import Window

MINUTES_MAX = 7 * 24 * 60
_MINUTE_MS = 60_000


def check_window(window: Window) -> str | None:
    """What is wrong with a window, with the member at fault; `None` if it is valid."""
    try:
        zone = zoneinfo.ZoneInfo(window.zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return f"zone {window.zone[:40]!r} must be a time zone of the IANA database, such as Europe/Berlin"
    try:
        # The 30th of February is a valid expression that never occurs: only a search for an occurrence tells.
        next(CronSim(window.cron, dt.datetime(2000, 1, 1, tzinfo=zone)))
    except (CronSimError, StopIteration):
        return f"cron {window.cron[:80]!r} must be a cron expression of five fields that occurs at some time"
    if not 1 <= window.minutes <= MINUTES_MAX:
        return f"minutes must be 1 to {MINUTES_MAX} (a week)"
    return None


def closes_at(windows: Sequence[Window], now: int) -> int | None:
    """The time (milliseconds) when all currently open windows are closed; `None` if no window is open."""
    ends = [began + window.minutes * _MINUTE_MS for window in windows if (began := _began(window, now)) is not None]
    return max((end for end in ends if end > now), default=None)


def opens_at(windows: Sequence[Window], now: int) -> int:
    """The time (milliseconds) when the next window opens after now; `windows` has at least one."""
    return min(_milliseconds(next(CronSim(window.cron, _local(window, now)))) for window in windows)


def _began(window: Window, now: int) -> int | None:
    # CronSim in reverse starts before its argument, so the current minute is included by the start of the next one.
    before = _local(window, now - now % _MINUTE_MS + _MINUTE_MS)
    try:
        began = _milliseconds(next(CronSim(window.cron, before, reverse=True)))
        # In reverse, CronSim misses the first of two equal local times in the hour that clocks repeat.
        while (after := _milliseconds(next(CronSim(window.cron, _local(window, began))))) <= now:
            began = after
    except StopIteration:
        return None
    return began


def _local(window: Window, now: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(now / 1000, zoneinfo.ZoneInfo(window.zone))


def _milliseconds(time: dt.datetime) -> int:
    return round(time.timestamp() * 1000)
