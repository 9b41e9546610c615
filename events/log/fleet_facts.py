"""The fleet's facts as far as a process has read them, without those that an operator decided to leave out."""

import contextlib
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, overload

from typing_extensions import override

from events.access.facts import SecretsRead
from events.envelope import Envelope, Principal
from events.fleet.errors import CannotFold
from events.log.errors import LogLostItsTail, UnreadableFact
from events.log.facts import LOG_SUBJECT, BlockResolved, BlockRetried
from events.log.keys import FLEET, name
from events.log.port import Log

_FLEET_BATCH = 1000
_NOBODY = Principal.parse("system:log")
_ANYWHERE = 0
_READ = SecretsRead((), 0, "", "")


class _Facts(Sequence[Envelope[Any]]):
    """Envelopes at positions from `first` on. Of one that says who read secrets only its time is kept, and who: 16 bytes.

    Nobody folds those, and they come with every look at keys, so a process that held them would grow for ever. As they are
    shown here they have version 0 and name nobody whose secrets were read; the log has all that.
    """

    def __init__(self, held: list[Envelope[Any]], at: "array[int]", first: int = 1) -> None:
        self._held, self._at, self._first = held, at, first
        self._reads: dict[tuple[str, Principal], Envelope[Any]] = {}

    def append(self, envelope: Envelope[Any]) -> None:
        """Add the one at the next position."""
        self._at.append(envelope.at)
        if isinstance(envelope.fact, SecretsRead) and not envelope.cause:
            who = (envelope.subject, envelope.by)
            if who not in self._reads:
                self._reads[who] = _read_at(_ANYWHERE, 0, envelope)
            envelope = self._reads[who]
        self._held.append(envelope)

    def leave_out(self, position: int) -> None:
        """Let the one at a position be one that was left out."""
        left_out = _left_out(position)
        self._held[position - self._first], self._at[position - self._first] = left_out, left_out.at

    @override
    def __len__(self) -> int:
        return len(self._held)

    @overload
    def __getitem__(self, index: int) -> Envelope[Any]: ...

    @overload
    def __getitem__(self, index: slice) -> "_Facts": ...

    @override
    def __getitem__(self, index: int | slice) -> "Envelope[Any] | _Facts":
        if isinstance(index, slice):
            start, _, step = index.indices(len(self))
            assert step == 1, "positions are dense"
            return _Facts(self._held[index], self._at[index], self._first + start)
        index = range(len(self))[index]
        held = self._held[index]
        return held if held.position else _read_at(self._first + index, self._at[index], held)

    @override
    def __iter__(self) -> Iterator[Envelope[Any]]:
        for position, (held, at) in enumerate(zip(self._held, self._at, strict=True), self._first):
            yield held if held.position else _read_at(position, at, held)


class FleetFacts:
    """The fleet's facts as far as this process has read them; partitions fold slices of it."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._facts = _Facts([], array("q"))
        self._resolved: dict[int, dict[int, str]] = {}
        self._retried: dict[tuple[int, int], int] = {}
        self._stopped: UnreadableFact | LogLostItsTail | None = None

    def refresh(self) -> None:
        """Read on to the head.

        Raises:
            UnreadableFact, LogLostItsTail: at a fact that nobody has decided to leave out; those before it are read.
            LogUnavailable: Redis does not answer.
        """
        self.read_on()
        if self._stopped is not None:
            raise self._stopped.with_traceback(None)

    def read_on(self) -> None:
        """Read on to the head, or as far as facts can be read; `upto` says what is in the way.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        self._stopped = None
        while True:
            try:
                more = self._read(_FLEET_BATCH)
            except (UnreadableFact, LogLostItsTail) as error:
                position = position_of(error)
                self._read(max(0, position - 1 - len(self._facts)))
                self._look_ahead(position)
                if position not in self.skipped(FLEET):
                    self._stopped = error
                    return
                self._facts.append(_left_out(position))
                continue
            if len(more) < _FLEET_BATCH:
                return

    def _read(self, limit: int) -> Sequence[Envelope[Any]]:
        more = self._log.read(FLEET, after=len(self._facts), limit=limit) if limit else []
        for envelope in more:
            self._facts.append(envelope)
            self._note(envelope)
        return more

    def _note(self, envelope: Envelope[Any]) -> None:
        fact = envelope.fact
        if isinstance(fact, BlockRetried):
            self._retried[fact.stream, fact.position] = envelope.at
        if not isinstance(fact, BlockResolved):
            return
        self._resolved.setdefault(fact.stream, {})[fact.position] = fact.reason
        if fact.stream == FLEET and fact.position <= len(self._facts):
            self._facts.leave_out(fact.position)

    def _look_ahead(self, position: int) -> None:
        """The decision on a fact that cannot be read stands after it."""
        head = self._log.head(FLEET)
        for after in range(position, head):
            with contextlib.suppress(UnreadableFact, LogLostItsTail):
                for envelope in self._log.read(FLEET, after=after, limit=1):
                    self._note(envelope)

    @property
    def position(self) -> int:
        """How far they were read."""
        return len(self._facts)

    def between(self, after: int, upto: int | None = None) -> Sequence[Envelope[Any]]:
        """The facts at positions after + 1 to `upto`, or to what was read last; who read secrets is told, not whose."""
        return self._facts[after:upto]

    def upto(self, position: int, *, after: int = 0) -> Sequence[Envelope[Any]]:
        """The facts behind one position and up to another, each of them.

        Raises:
            UnreadableFact, LogLostItsTail: one of them could not be read.
        """
        if position <= self.position:
            return self._facts[after:position]
        if self._stopped is not None:
            raise self._stopped.with_traceback(None)
        raise LogLostItsTail(name(FLEET), expected=position, found=self.position)

    def skipped(self, stream: int) -> dict[int, str]:
        """Positions of a stream that an operator decided to leave out, with the reasons."""
        return self._resolved.get(stream, {})

    def retried(self, stream: int, position: int) -> int:
        """When somebody wanted a position tried again, the last time, in milliseconds; before all times where nobody did."""
        return self._retried.get((stream, position), -1)


def _left_out(position: int) -> Envelope[Any]:
    """Stands for a fact of the fleet that was left out; it moves the vector, and nothing else."""
    return Envelope(position, LOG_SUBJECT, 0, 0, _NOBODY, "", BlockResolved(FLEET, position, ""))


def _read_at(position: int, at: int, who: Envelope[Any]) -> Envelope[Any]:
    return Envelope(position, who.subject, 0, at, who.by, "", _READ)


def position_of(error: CannotFold | UnreadableFact | LogLostItsTail) -> int:
    """The position that an error stops at."""
    return error.expected if isinstance(error, LogLostItsTail) else error.position
