"""What happened to each rollout, act by act: kept up from the fleet's stream as far as somebody asks."""

import threading
from collections import deque

import msgspec
from msgspec import UNSET

from events.log.keys import FLEET
from events.log.port import Fact, Log
from events.log.reader import Reader
from events.rollout.facts import Counts, Evidence, RolloutCreated, RolloutDeleted, RolloutFact
from events.rollout.state import ROLLOUT

LINES_MAX = 10_000


class Line(msgspec.Struct, frozen=True):
    """One act: when (milliseconds), who, what, and why. `phase` counts from 1, `count` are devices."""

    position: int
    at: int
    by: str
    act: str
    reason: str | None = None
    phase: int | None = None
    count: int | None = None
    counts: Counts | None = None


class Past(msgspec.Struct, eq=False):
    """The acts of one rollout, oldest first (the newest LINES_MAX), and the last one with evidence."""

    lines: deque[Line] = msgspec.field(default_factory=lambda: deque(maxlen=LINES_MAX))
    last: tuple[Line, Evidence] | None = None


class History:
    """Acts without the sets of devices in them, by deployment."""

    def __init__(self, log: Log) -> None:
        self._reader = Reader(log, FLEET)
        self._position = 0
        self._pasts: dict[str, Past] = {}
        self._lock = threading.Lock()

    def of(self, deployment_id: str) -> Past:
        """The acts of a rollout up to the head of the fleet's stream; not to be changed.

        Raises:
            LogUnavailable: Redis did not answer.
            UnreadableFact, LogLostItsTail: the fleet's stream stops at a fact.
        """
        with self._lock:
            for envelope in self._reader.facts(after=self._position):
                self._position = envelope.position
                if isinstance(envelope.fact, RolloutFact):
                    name = envelope.subject.removeprefix(ROLLOUT)
                    line = _line(envelope.fact, envelope.position, envelope.at, str(envelope.by))
                    self._keep(name, line, envelope.fact)
            found = self._pasts.get(deployment_id, Past())
            return Past(found.lines.copy(), found.last)

    def _keep(self, name: str, line: Line, fact: RolloutFact) -> None:
        if isinstance(fact, RolloutCreated | RolloutDeleted):
            self._pasts.pop(name, None)
        if isinstance(fact, RolloutDeleted):
            return
        past = self._pasts.setdefault(name, Past())
        past.lines.append(line)
        evidence = getattr(fact, "evidence", UNSET)
        if isinstance(evidence, Evidence):
            past.last = line, evidence


def _line(fact: Fact, position: int, at: int, by: str) -> Line:
    evidence, phase = getattr(fact, "evidence", UNSET), getattr(fact, "phase", None)
    return Line(
        position,
        at,
        by,
        type(fact).__name__,
        getattr(fact, "reason", None) or None,
        None if phase is None else phase + 1,
        getattr(fact, "count", None),
        evidence.counts if isinstance(evidence, Evidence) else None,
    )
