"""Follows the fleet's stream of a log for the ranks of its deployments."""

import threading
from collections.abc import Iterable

from events.log.errors import LogError, LogLostItsTail, LogUnavailable
from events.log.keys import FLEET, name
from events.log.port import Log
from events.log.ranked_deployments import RankedDeployments, is_deployment

_BATCH = 1000
_EVENTS_MAX = 10_000
"""Beyond this many new events all documents are read instead: reads of secrets are events of the fleet, too."""


def read_ranked(log: Log) -> RankedDeployments:
    """The ranks of all deployments, from their documents."""
    return RankedDeployments({}).after(_documents(log, log.subjects(FLEET)))


def _documents(log: Log, subjects: Iterable[str]) -> Iterable[tuple[str, bytes | None]]:
    # HSCAN may return a field twice.
    deployment_ids = sorted({subject for subject in subjects if is_deployment(subject)})
    stored = log.load(deployment_ids, fleet=True) if deployment_ids else ()
    return zip(deployment_ids, (document.snapshot for document in stored), strict=True)


class RankFollower:
    """Follows the fleet's stream of a log, so that a process reads each document once. Thread-safe."""

    def __init__(self, log: Log) -> None:
        self._log, self._lock = log, threading.Lock()
        self._position, self._ranked = -1, RankedDeployments({})

    def current(self) -> RankedDeployments:
        """The ranks at the head of the log.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        with self._lock:
            # The head is read before the documents, so that what is written meanwhile is read again the next time.
            head = self._log.head(FLEET)
            try:
                is_near = self._position >= 0 and head - self._position <= _EVENTS_MAX
                news = self._news(head) if is_near else None
            except LogUnavailable:
                raise
            except LogError:
                # The documents can be read without the events, which may be lost, unreadable, or in an archive that is away.
                news = None
            if news is None:
                self._ranked = read_ranked(self._log)
            elif news:
                self._ranked = self._ranked.after(_documents(self._log, news))
            self._position = head
            return self._ranked

    def _news(self, head: int) -> set[str]:
        """The deployments that events up to a head are about."""
        if head < self._position:
            raise LogLostItsTail(name(FLEET), expected=self._position, actual=head)
        names: set[str] = set()
        position = self._position
        while position < head:
            events = self._log.read(FLEET, after=position, limit=min(_BATCH, head - position))
            names.update(envelope.subject for envelope in events if is_deployment(envelope.subject))
            position = events[-1].position
        return names
