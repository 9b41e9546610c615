"""The fleet's events as far as a process has read them, without those that an operator decided to leave out."""

import contextlib
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, overload

from typing_extensions import override

from events.access.events import SecretsRead
from events.envelope import Envelope, Principal
from events.fleet.errors import CannotApply
from events.log.errors import LogLostItsTail, UnreadableEvent
from events.log.events import LOG_SUBJECT, BlockResolved, BlockRetried
from events.log.keys import FLEET, name
from events.log.port import Log

_FLEET_BATCH = 1000
_NOBODY = Principal.parse("system:log")
_ANYWHERE = 0
_READ = SecretsRead((), 0, "", "")


class _Events(Sequence[Envelope[Any]]):
    """Envelopes at positions from `first` on. Of one that says who read secrets only its time is kept, and who: 16 bytes.

    Nobody applies those, and they come with every look at keys, so a process that held them would grow for ever. As they are
    shown here they have version 0 and name nobody whose secrets were read; the log has all that.
    """

    def __init__(self, held: list[Envelope[Any]], at: "array[int]", first: int = 1) -> None:
        self._held, self._at, self._first = held, at, first
        self._reads: dict[tuple[str, Principal], Envelope[Any]] = {}

    def append(self, envelope: Envelope[Any]) -> None:
        """Add the one at the next position."""
        self._at.append(envelope.at)
        if isinstance(envelope.event, SecretsRead) and not envelope.cause:
            who = (envelope.subject, envelope.by)
            if who not in self._reads:
                self._reads[who] = _read_at(_ANYWHERE, 0, envelope)
            envelope = self._reads[who]
        self._held.append(envelope)

    def skip(self, position: int) -> None:
        """Let the one at a position be one that was left out."""
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
    """The fleet's events as far as this process has read them; partitions apply slices of it."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._events = _Events([], array("q"))
        self._resolved: dict[int, dict[int, str]] = {}
        self._retried: dict[tuple[int, int], int] = {}
        self._stopped: UnreadableEvent | LogLostItsTail | None = None

    def refresh(self) -> None:
        """Read on to the head.

        Raises:
            UnreadableEvent, LogLostItsTail: at an event that nobody has decided to leave out; those before it are read.
            LogUnavailable: Redis does not answer.
        """
        self.read_on()
        if self._stopped is not None:
            raise self._stopped.with_traceback(None)

    def read_on(self) -> None:
        """Read on to the head, or as far as events can be read; `upto` says what is in the way.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        self._stopped = None
        while True:
            try:
                more = self._read(_FLEET_BATCH)
            except (UnreadableEvent, LogLostItsTail) as error:
                position = position_of(error)
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
        more = self._log.read(FLEET, after=len(self._events), limit=limit) if limit else []
        for envelope in more:
            self._events.append(envelope)
            self._note(envelope)
        return more

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
        """The decision on an event that cannot be read stands after it."""
        head = self._log.head(FLEET)
        for after in range(position, head):
            with contextlib.suppress(UnreadableEvent, LogLostItsTail):
                for envelope in self._log.read(FLEET, after=after, limit=1):
                    self._note(envelope)

    @property
    def position(self) -> int:
        """How far they were read."""
        return len(self._events)

    def between(self, after: int, upto: int | None = None) -> Sequence[Envelope[Any]]:
        """The events at positions after + 1 to `upto`, or to what was read last; who read secrets is told, not whose."""
        return self._events[after:upto]

    def upto(self, position: int, *, after: int = 0) -> Sequence[Envelope[Any]]:
        """The events behind one position and up to another, each of them.

        Raises:
            UnreadableEvent, LogLostItsTail: one of them could not be read.
        """
        if position <= self.position:
            return self._events[after:position]
        if self._stopped is not None:
            raise self._stopped.with_traceback(None)
        raise LogLostItsTail(name(FLEET), expected=position, found=self.position)

    def skipped(self, stream: int) -> dict[int, str]:
        """Positions of a stream that an operator decided to leave out, with the reasons."""
        return self._resolved.get(stream, {})

    def retried(self, stream: int, position: int) -> int:
        """When somebody wanted a position tried again, the last time, in milliseconds; before all times where nobody did."""
        return self._retried.get((stream, position), -1)


def _skipped(position: int) -> Envelope[Any]:
    """Stands for an event of the fleet that was left out; it moves the vector, and nothing else."""
    return Envelope(position, LOG_SUBJECT, 0, 0, _NOBODY, "", BlockResolved(FLEET, position, ""))


def _read_at(position: int, at: int, who: Envelope[Any]) -> Envelope[Any]:
    return Envelope(position, who.subject, 0, at, who.by, "", _READ)


def position_of(error: CannotApply | UnreadableEvent | LogLostItsTail) -> int:
    """The position that an error stops at."""
    return error.expected if isinstance(error, LogLostItsTail) else error.position
