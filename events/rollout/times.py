"""Times and durations in the form that people read and write, and maintenance windows: when they open and close."""

import datetime as dt
import re
import zoneinfo
from collections.abc import Sequence

from cronsim import CronSim, CronSimError

from events.rollout.plan import Window

MINUTES_MAX = 7 * 24 * 60
_MINUTE_MS = 60_000

_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"))
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?([Zz]|[+-]\d\d:\d\d)?", re.ASCII)
_DURATION = re.compile(r"(\d{1,12}) ?(s|min|m|h|d)?", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def duration(milliseconds: int) -> str:
    """`4_320_000` -> `1 h 12 min`: the two largest units; below a second `0 s`."""
    parts, remaining = [], max(0, milliseconds)
    for size, unit in _UNITS:
        count, remaining = divmod(remaining, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def local_time(milliseconds: int, zone: str) -> str:
    """A time as RFC 3339 in a zone, to the second."""
    return dt.datetime.fromtimestamp(milliseconds // 1000, zoneinfo.ZoneInfo(zone)).isoformat()


class TimeUnreadable(Exception):
    """A text is not a time, or names a local time that clocks skip; `rule` says what is wrong and what is allowed."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


class DurationUnreadable(Exception):
    """A text is not a duration."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text[:40]!r} is not a duration; write 90s, 15m, 2h or 1d, or a number of seconds")
        self.text = text


def read_duration(text: str) -> int:
    """`90s`, `15m`, `2h`, `1d` or a number of seconds, as seconds.

    Raises:
        DurationUnreadable: the text has another form.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise DurationUnreadable(text)
    return int(match[1]) * _SECONDS[match[2] or "s"]


def read_time(text: str, zone: str) -> int:
    """An RFC 3339 time as milliseconds; a time without an offset is read in an IANA time zone.

    When clocks are put back, a repeated local time means its first occurrence.

    Raises:
        TimeUnreadable: the text is not such a time, or clocks in the zone skip it.
    """
    # `fromisoformat` also accepts dates, week dates and times without colons, which no document promises.
    if not _TIME.fullmatch(text):
        raise TimeUnreadable(
            "must be a time such as 2026-11-21T08:00:00+01:00; without an offset it is read in the zone"
        )
    try:
        parsed = dt.datetime.fromisoformat(text.upper())
        local = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=zoneinfo.ZoneInfo(zone))
        # A skipped local time comes back from UTC as another one.
        if local.astimezone(dt.UTC).astimezone(local.tzinfo).replace(tzinfo=None) != parsed.replace(tzinfo=None):
            raise TimeUnreadable(f"does not exist in {zone}: clocks are put forward over it")
        return (local - _EPOCH) // dt.timedelta(milliseconds=1)
    except (ValueError, OverflowError) as error:
        raise TimeUnreadable(f"is not a time: {error}") from error
    except (zoneinfo.ZoneInfoNotFoundError, OSError):
        raise TimeUnreadable(
            "is in an unknown time zone; use a name of the IANA database such as Europe/Berlin"
        ) from None


# -- maintenance windows


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
