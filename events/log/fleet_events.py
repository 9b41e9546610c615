"""The events of the fleet's stream that a process has read, without those that an operator decided to skip."""

import contextlib
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, overload

from msgspec import UNSET, UnsetType
from typing_extensions import override

from events.access.events import SecretsRead
from events.envelope import Envelope, Principal, event_digest
from events.log.errors import LogLostItsTail, TailReplaced, UnreadableEvent
from events.log.events import LOG_SUBJECT, BlockResolved, BlockRetried
from events.log.keys import FLEET, name
from events.log.port import Log

_FLEET_BATCH = 1000
_LOG_AUTHOR = Principal.parse("system:log")
_ANYWHERE = 0
_READ = SecretsRead((), 0, "", "")


class _Events(Sequence[Envelope[Any]]):
    """Envelopes at positions from `first` on. A `SecretsRead` has version 0 here and names no subjects; the log has both."""

    # Of a `SecretsRead` only its time and its reader are stored, 16 bytes. No projection applies these events, and each read
    # of keys writes one, so a process that stored them whole would grow for ever (tests/log/test_fleet_events.py).

    def __init__(self, held: list[Envelope[Any]], at: "array[int]", first: int = 1) -> None:
        self._held, self._at, self._first = held, at, first
        self._reads: dict[tuple[str, Principal], Envelope[Any]] = {}

    def append(self, envelope: Envelope[Any]) -> None:
        """Add the envelope of the next position."""
        self._at.append(envelope.at)
        if isinstance(envelope.event, SecretsRead) and not envelope.cause:
            who = (envelope.subject, envelope.by)
            if who not in self._reads:
                self._reads[who] = _read_at(_ANYWHERE, 0, envelope)
            envelope = self._reads[who]
        self._held.append(envelope)

    def skip(self, position: int) -> None:
        """Replace the event at a position by a skipped one."""
        skipped = _skipped(position)
        self._held[position - self._first], self._at[position - self._first] = skipped, skipped.at

    @override
    def __len__(self) -> int:
        return len(self._held)

    @overload
    def __getitem__(self, index: int) -> Envelope[Any]: ...

    @overload
    def __getitem__(self, index: slice) -> "_Events": ...

    @override
    def __getitem__(self, index: int | slice) -> "Envelope[Any] | _Events":
        if isinstance(index, slice):
            start, _, step = index.indices(len(self))
            assert step == 1, "positions are dense"
            return _Events(self._held[index], self._at[index], self._first + start)
        index = range(len(self))[index]
        held = self._held[index]
        return held if held.position else _read_at(self._first + index, self._at[index], held)

    @override
    def __iter__(self) -> Iterator[Envelope[Any]]:
        for position, (held, at) in enumerate(zip(self._held, self._at, strict=True), self._first):
            yield held if held.position else _read_at(position, at, held)


class FleetEventReader:
    """Reads the fleet's events once for a process; all its partitions apply slices of them."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.restarts = 0
        """How often it began again, as the log no longer had the last event that was read (a lost tail)."""
        self._begin()

    def _begin(self) -> None:
        self._events = _Events([], array("q"))
        self._resolved: dict[int, dict[int, str]] = {}
        self._retried: dict[tuple[int, int], int] = {}
        self._stopped: UnreadableEvent | LogLostItsTail | None = None

    def refresh(self) -> None:
        """Read on to the head.

        Raises:
            UnreadableEvent, LogLostItsTail: an event cannot be read and is not skipped; the events before it are read.
            LogUnavailable: Redis does not answer.
        """
        self.read_on()
        if self._stopped is not None:
            raise self._stopped.with_traceback(None)

    def read_on(self) -> None:
        """Read on to the head, or to the first event that cannot be read; `upto` raises its error then.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        self._stopped = None
        while True:
            try:
                more = self._read(_FLEET_BATCH)
            except (UnreadableEvent, LogLostItsTail) as error:
                position = error.position
                self._read(max(0, position - 1 - len(self._events)))
                self._read_ahead(position)
                if position not in self.skipped(FLEET):
                    self._stopped = error
                    return
                self._events.append(_skipped(position))
                continue
            if len(more) < _FLEET_BATCH:
                return

    def _read(self, limit: int) -> Sequence[Envelope[Any]]:
        more = self._after_last(limit) if limit else []
        for envelope in more:
            self._events.append(envelope)
            self._note(envelope)
        return more

    def _after_last(self, limit: int) -> Sequence[Envelope[Any]]:
        """The next events; from the first event on if the log has not the last one any more that was read."""
        last = self.position
        if not last or last in self.skipped(FLEET):
            return self._log.read(FLEET, after=last, limit=limit)
        # With the last one: after a failover, other events can be at the positions that this process has read.
        try:
            envelopes = self._log.read(FLEET, after=last - 1, limit=limit + 1)
        except (UnreadableEvent, LogLostItsTail) as error:
            if error.position > last:
                raise
            envelopes = []
        if not envelopes or event_digest(envelopes[0]) != event_digest(self._events[last - 1]):
            self._begin()
            self.restarts += 1
            return self._log.read(FLEET, after=0, limit=limit)
        # A read that got no events after a position checks that there are none.
        return envelopes[1:] or self._log.read(FLEET, after=last, limit=limit)

    def _note(self, envelope: Envelope[Any]) -> None:
        event = envelope.event
        if isinstance(event, BlockRetried):
            self._retried[event.stream, event.position] = envelope.at
        if not isinstance(event, BlockResolved):
            return
        self._resolved.setdefault(event.stream, {})[event.position] = event.reason
        if event.stream == FLEET and event.position <= len(self._events):
            self._events.skip(event.position)

    def _read_ahead(self, position: int) -> None:
        """Note the operator's decisions that are after an event that cannot be read."""
        # The decision to skip an event is itself an event of this stream, and always after it. One by one: other events after
        # it may be unreadable too.
        head = self._log.head(FLEET)
        for after in range(position, head):
            with contextlib.suppress(UnreadableEvent, LogLostItsTail):
                for envelope in self._log.read(FLEET, after=after, limit=1):
                    self._note(envelope)

    @property
    def position(self) -> int:
        """The last position that was read."""
        return len(self._events)

    @property
    def is_stopped(self) -> bool:
        """Whether the next event cannot be read, and is not skipped."""
        return self._stopped is not None

    def check(self, position: int, digest: str | UnsetType) -> None:
        """Check that projections which applied the event of this digest at `position` follow from this log.

        Raises:
            LogLostItsTail, UnreadableEvent: the log has no such event, or another one.
        """
        self.upto(position, after=position)
        if (
            digest is not UNSET
            and position not in self.skipped(FLEET)
            and event_digest(self._events[position - 1]) != digest
        ):
            raise TailReplaced(name(FLEET), position)

    def between(self, after: int, upto: int | None = None) -> Sequence[Envelope[Any]]:
        """The events at positions after + 1 to `upto` (default: the last one read); a `SecretsRead` names no subjects."""
        return self._events[after:upto]

    def upto(self, position: int, *, after: int = 0) -> Sequence[Envelope[Any]]:
        """All events at positions after + 1 to `position`.

        Raises:
            UnreadableEvent, LogLostItsTail: one of them could not be read.
        """
        if position <= self.position:
            return self._events[after:position]
        if self._stopped is not None:
            raise self._stopped.with_traceback(None)
        raise LogLostItsTail(name(FLEET), expected=position, actual=self.position)

    def skipped(self, stream: int) -> dict[int, str]:
        """The positions of a stream that an operator decided to skip, with the reasons."""
        return self._resolved.get(stream, {})

    def retried(self, stream: int, position: int) -> int:
        """When an operator last asked for a retry of a position, in milliseconds; -1 if never."""
        return self._retried.get((stream, position), -1)


def _skipped(position: int) -> Envelope[Any]:
    """The envelope in place of a skipped event of the fleet: applying it moves the vector and changes nothing else."""
    return Envelope(position, LOG_SUBJECT, 0, 0, _LOG_AUTHOR, "", BlockResolved(FLEET, position, ""))


def _read_at(position: int, at: int, who: Envelope[Any]) -> Envelope[Any]:
    return Envelope(position, who.subject, 0, at, who.by, "", _READ)
