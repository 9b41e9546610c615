"""Points in time: how they are written, and the positions of the streams at them."""

import datetime as dt
import re
from collections.abc import Sequence

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


class PointInTime(msgspec.Struct, frozen=True):
    """A point in time of the whole log: the position of each stream, and the time (milliseconds).

    `decided_by` is the requested time: decisions that were recorded later were not in effect. It is `None` if only positions
    were requested; then every decision about the events up to them counts. `named_streams` are the streams of requested
    positions.
    """

    time: int
    positions: dict[int, int]
    decided_by: int | None = None
    named_streams: tuple[int, ...] = ()

    def text(self, streams: Sequence[int]) -> str:
        """The positions of some streams as text, `fleet:17,p03:120,time:1763…`; a read at this text finds the same state.

        The text has a time only if one was requested.
        """
        named = [f"{name(stream)}:{self.positions[stream]}" for stream in sorted({*streams, *self.named_streams})]
        return ",".join(named if self.decided_by is None else [*named, f"{_TIME}:{self.time}"])


def read_point_in_time(text: str) -> tuple[int | None, dict[int, int]]:
    """Parse RFC 3339, milliseconds since 1970, or positions (`fleet:17,p03:120`, optionally with `time:…`).

    Returns the time in milliseconds and positions by stream, as far as they are given.

    Raises:
        PointInTimeInvalid: the text is none of these.
    """
    if _MILLISECONDS.fullmatch(text):
        return int(text), {}
    if ":" not in text or text[:1].isdigit():
        try:
            # Clients forget to escape the plus sign of an offset; in a query it is then read as a space.
            day = dt.datetime.fromisoformat(text.replace(" ", "+") if text.count(" ") == 1 and "T" in text else text)
        except ValueError as error:
            raise PointInTimeInvalid(text, "it is no RFC 3339 time") from error
        if day.tzinfo is None:
            raise PointInTimeInvalid(text, "the time has no offset; add Z for UTC, or an offset as in +01:00")
        return int(day.timestamp() * 1000), {}
    positions: dict[int, int] = {}
    time = None
    for part in text[:_TEXT_CHARACTERS_MAX].split(","):
        match = _POSITION.fullmatch(part)
        if match is None:
            raise PointInTimeInvalid(text, f"{part[:40]!r} is no position, as in p03:120")
        if match[1] == _TIME:
            time = int(match[2])
            continue
        try:
            stream = number_of(match[1])
        except ValueError as error:
            raise PointInTimeInvalid(text, str(error)) from error
        if stream in positions:
            raise PointInTimeInvalid(text, f"{match[1]} has two positions")
        positions[stream] = int(match[2])
    return time, positions


def point_in_time_of(text: str, log: Log, *, now: int) -> PointInTime:
    """The point in time of a text. Streams without a position in it have their position at its time.

    Without a time, it is the time of the newest event at the positions.

    Raises:
        PointInTimeInvalid: the text is no point in time, or names an unknown stream.
        PointInTimeAhead: a position is after the head, or the time is after `now` (milliseconds).
        PointInTimeTooEarly: the log did not exist yet.
        LogUnavailable: Redis does not answer.
    """
    requested_time, positions = read_point_in_time(text)
    heads, reached = log.heads(), 0
    for stream, position in positions.items():
        if stream not in heads:
            raise PointInTimeInvalid(text, f"this log has the partitions p00 to {name(log.partitions - 1)}")
        if position > heads[stream]:
            raise PointInTimeAhead(text, f"{name(stream)}:{heads[stream]}")
        reached = max(reached, _time_of(log, stream, position) if position else 0)
    time = reached if requested_time is None else requested_time
    if time < reached:
        why = f"its time is before {time_text(reached)}, the time of an event at its positions"
        raise PointInTimeInvalid(text, why)
    # Times of events are clamped to the one before, so that after a clock was ahead they can be later than now.
    if time > max(now, reached):
        raise PointInTimeAhead(text, time_text(now))
    first = _time_of(log, FLEET, 1)
    if time < first or positions.get(FLEET, 1) < 1:
        raise PointInTimeTooEarly(text, first)
    all_positions = {
        stream: positions[stream] if stream in positions else log.position_at(stream, time) for stream in heads
    }
    return PointInTime(time, all_positions, requested_time, tuple(positions))


def _time_of(log: Log, stream: int, position: int) -> int:
    try:
        (envelope,) = log.read(stream, after=position - 1, limit=1)
    except UnreadableEvent:
        # The time cannot be read. The event before it is at most as late, since times of a stream never fall.
        return _time_of(log, stream, position - 1) if position > 1 else 0
    return envelope.at
