"""Maintenance windows: a cron expression in a time zone, and for how long."""

import datetime as dt
import zoneinfo
from collections.abc import Sequence

from cronsim import CronSim, CronSimError

from events.rollout.plan import Window

MINUTES_MAX = 7 * 24 * 60
_MINUTE_MS = 60_000


def check_window(window: Window) -> str | None:
    """What is wrong with a window, if anything; with the member at fault."""
    try:
        zone = zoneinfo.ZoneInfo(window.zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return f"zone {window.zone[:40]!r} is no time zone of the IANA database, as Europe/Berlin is"
    try:
        next(CronSim(window.cron, dt.datetime(2000, 1, 1, tzinfo=zone)))
    except (CronSimError, StopIteration):
        return f"cron {window.cron[:80]!r} is no cron expression of five fields that ever comes true"
    if not 1 <= window.minutes <= MINUTES_MAX:
        return f"minutes is 1 to {MINUTES_MAX} (a week)"
    return None


def closes_at(windows: Sequence[Window], now: int) -> int | None:
    """When (milliseconds) the windows that are open now are all closed; `None` where none is open."""
    ends = [began + window.minutes * _MINUTE_MS for window in windows if (began := _began(window, now)) is not None]
    return max((end for end in ends if end > now), default=None)


def opens_at(windows: Sequence[Window], now: int) -> int:
    """When (milliseconds) the next window opens, after now; there is at least one window."""
    return min(_milliseconds(next(CronSim(window.cron, _local(window, now)))) for window in windows)


def _began(window: Window, now: int) -> int | None:
    # The minute that has begun counts; going back begins before what it is given.
    before = _local(window, now - now % _MINUTE_MS + _MINUTE_MS)
    try:
        began = _milliseconds(next(CronSim(window.cron, before, reverse=True)))
        # In the hour that comes twice, going back passes over what began in it the first time.
        while (after := _milliseconds(next(CronSim(window.cron, _local(window, began))))) <= now:
            began = after
    except StopIteration:
        return None
    return began


def _local(window: Window, now: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(now / 1000, zoneinfo.ZoneInfo(window.zone))


def _milliseconds(point_in_time: dt.datetime) -> int:
    return round(point_in_time.timestamp() * 1000)
