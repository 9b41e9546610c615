"""Follows the fleet's stream of a log for the ranks of its deployments, and for the subjects of its waivers."""

import threading
from collections.abc import Iterable

from events.envelope import Envelope
from events.log.errors import LogError, LogUnavailable
from events.log.keys import FLEET
from events.log.port import Event, Log
from events.log.ranked_deployments import RankedDeployments, is_deployment
from events.readiness.state import WAIVER

_BATCH = 1000
_EVENTS_MAX = 10_000
"""Beyond this many new events all documents are read instead: reads of secrets are events of the fleet, too."""


def read_ranked(log: Log) -> RankedDeployments:
    """The ranks of all deployments, from their documents."""
    return RankedDeployments().after(_documents(log, log.subjects(FLEET)))


def _documents(log: Log, subjects: Iterable[str]) -> Iterable[tuple[str, bytes | None]]:
    # HSCAN may return a field twice.
    deployment_ids = sorted({subject for subject in subjects if is_deployment(subject)})
    stored = log.load(deployment_ids, fleet=True) if deployment_ids else ()
    return zip(deployment_ids, (document.snapshot for document in stored), strict=True)


class RankFollower:
    """Follows the fleet's stream of a log, so that a process reads each document once. Thread-safe."""

    def __init__(self, log: Log) -> None:
        self._log, self._lock = log, threading.Lock()
        self._last: Envelope[Event] | None = None
        """The event up to which documents were read; `None` if it cannot be read."""
        self._ranked = RankedDeployments()
        self._waivers = set[str]()
        """The subjects of waivers, withdrawn ones included."""

    def current(self) -> RankedDeployments:
        """The ranks at the head of the log.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        with self._lock:
            self._follow()
            return self._ranked

    def waivers(self) -> set[str]:
        """The subjects of waivers at the head of the log; those of withdrawn waivers can be among them.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        with self._lock:
            self._follow()
            return self._waivers

    def _follow(self) -> None:
        # The head is read before the documents, so that what is written meanwhile is read again the next time.
        head = self._log.head(FLEET)
        try:
            subjects, last = self._news(head)
        except LogUnavailable:
            raise
        except LogError:
            # The documents can be read without the events, which may be lost, unreadable, or in an archive that is away.
            subjects, last = None, None
        ranked, waivers = self._ranked, self._waivers
        if subjects is None:
            subjects, ranked, waivers = set(self._log.subjects(FLEET)), RankedDeployments(), set()
        if documents := list(_documents(self._log, subjects)):
            ranked = ranked.after(documents)
        self._waivers = waivers | {subject for subject in subjects if subject.startswith(WAIVER)}
        self._ranked, self._last = ranked, last

    def _news(self, head: int) -> tuple[set[str] | None, Envelope[Event] | None]:
        """The subjects that events up to a head are about, `None` if all have to be read; and the event at the head."""
        last, subjects = self._last, set[str]()
        if last is not None and 0 <= head - last.position <= _EVENTS_MAX:
            news = self._log.read(FLEET, after=last.position - 1, limit=min(_BATCH, head - last.position + 1))
            # After a failover that lost the end of the log, other events have its positions.
            while news and (news[0].position > last.position or news[0] == last):
                subjects.update(envelope.subject for envelope in news if envelope != last)
                if news[-1].position == head:
                    return subjects, news[-1]
                news = self._log.read(FLEET, after=news[-1].position, limit=min(_BATCH, head - news[-1].position))
        newest = self._log.read(FLEET, after=max(0, head - 1), limit=1)
        return None, newest[-1] if newest else None
