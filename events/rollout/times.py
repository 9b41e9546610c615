"""Times and durations in the form that people read and write."""

import datetime as dt
import re
import zoneinfo

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
