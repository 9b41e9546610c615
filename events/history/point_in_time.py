"""Moments: when a reader looks, as it is written, and as the streams stood then."""

import datetime as dt
import re
from collections.abc import Mapping, Sequence

import msgspec

from events.device.times import time_text
from events.history.errors import PointInTimeAhead, PointInTimeInvalid, PointInTimeTooEarly
from events.log.entries import number_of
from events.log.errors import UnreadableEvent
from events.log.keys import FLEET, name
from events.log.port import Log

_TIME = "time"
_MILLISECONDS = re.compile(r"[0-9]{1,15}", re.ASCII)
_POSITION = re.compile(r"([a-z0-9]{1,8}):([0-9]{1,15})", re.ASCII)
_TEXT_CHARACTERS_MAX = 32_768


class RequestedTime(msgspec.Struct, frozen=True):
    """A moment as it is written: a time in milliseconds, positions by stream, or both."""

    time: int | None
    positions: dict[int, int]


class PointInTime(msgspec.Struct, frozen=True):
    """A moment of the whole log: how far each stream had come, and what the clock said (milliseconds).

    `decided_by` is the time that was asked for: what was recorded later was not in effect. It is `None` where positions
    alone were asked for, `asked` says of which streams; then every decision about the events up to there counts.
    """

    time: int
    positions: dict[int, int]
    decided_by: int | None = None
    asked: tuple[int, ...] = ()

    def text(self, streams: Sequence[int]) -> str:
        """`fleet:17,p03:120,time:1763…`: the part that is of some streams; asking for it finds them as they are here.

        Without a time where none was asked for: that of the positions is the same then.
        """
        named = [f"{name(one)}:{self.positions[one]}" for one in sorted({*streams, *self.asked})]
        return ",".join(named if self.decided_by is None else [*named, f"{_TIME}:{self.time}"])


def read_point_in_time(text: str) -> RequestedTime:
    """Read a moment: RFC 3339, milliseconds since 1970, or positions (`fleet:17,p03:120`, and `time:…` beside them).

    Raises:
        PointInTimeInvalid: it is none of these.
    """
    if _MILLISECONDS.fullmatch(text):
        return RequestedTime(int(text), {})
    if ":" in text and not text[:1].isdigit():
        return _positions(text)
    return RequestedTime(_milliseconds(text), {})


def _positions(text: str) -> RequestedTime:
    found: dict[int, int] = {}
    time = None
    for part in text[:_TEXT_CHARACTERS_MAX].split(","):
        fitting = _POSITION.fullmatch(part)
        if fitting is None:
            raise PointInTimeInvalid(text, f"{part[:40]!r} is no position of a stream")
        if fitting[1] == _TIME:
            time = int(fitting[2])
            continue
        try:
            stream = number_of(fitting[1])
        except ValueError as error:
            raise PointInTimeInvalid(text, str(error)) from error
        if stream in found:
            raise PointInTimeInvalid(text, f"{fitting[1]} stands there twice")
        found[stream] = int(fitting[2])
    return RequestedTime(time, found)


def _milliseconds(text: str) -> int:
    try:
        # In a query a plus sign that is not escaped is read as a space.
        time = dt.datetime.fromisoformat(text.replace(" ", "+") if text.count(" ") == 1 and "T" in text else text)
    except ValueError as error:
        raise PointInTimeInvalid(text, "it is no time") from error
    if time.tzinfo is None:
        raise PointInTimeInvalid(text, "the time has no offset (Z is UTC)")
    return int(time.timestamp() * 1000)


def point_in_time_of(text: str, log: Log, *, now: int) -> PointInTime:
    """The moment that is asked for. Streams that it does not name stand as they did at its time.

    The time, where it is not said, is that of the newest event at the positions.

    Raises:
        PointInTimeInvalid: it is not written as a moment, or names a stream that there is not.
        PointInTimeAhead: a position is beyond the head, or the time beyond `now` (milliseconds).
        PointInTimeTooEarly: there was no log yet.
        LogUnavailable: Redis does not answer.
    """
    asked = read_point_in_time(text)
    heads = log.heads()
    times = [_time_at(text, log, stream, position, heads) for stream, position in asked.positions.items()]
    reached = max(times, default=0)
    time = reached if asked.time is None else asked.time
    if time < reached:
        raise PointInTimeInvalid(text, f"an event that it names is of {time_text(reached)}, which is after its time")
    if time > max(now, reached):
        raise PointInTimeAhead(text, time_text(now))
    first = _time_of(log, FLEET, 1)
    if time < first or asked.positions.get(FLEET, 1) < 1:
        raise PointInTimeTooEarly(text, first)
    return PointInTime(
        time,
        {
            stream: asked.positions[stream] if stream in asked.positions else log.position_at(stream, time)
            for stream in heads
        },
        asked.time,
        tuple(asked.positions),
    )


def now_of(log: Log, *, now: int) -> PointInTime:
    """The moment that is now: all there is."""
    return PointInTime(now, dict(log.heads()), now)


def _time_at(text: str, log: Log, stream: int, position: int, heads: Mapping[int, int]) -> int:
    if stream not in heads:
        raise PointInTimeInvalid(text, f"this log has the partitions p00 to {name(log.partitions - 1)}")
    if position > heads[stream]:
        raise PointInTimeAhead(text, f"{name(stream)}:{heads[stream]}")
    return _time_of(log, stream, position) if position else 0


def _time_of(log: Log, stream: int, position: int) -> int:
    try:
        (envelope,) = log.read(stream, after=position - 1, limit=1)
    except UnreadableEvent:
        # Nobody can say when that was; the one before it was at most as late.
        return _time_of(log, stream, position - 1) if position > 1 else 0
    return envelope.at
