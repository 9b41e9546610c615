"""The log as it was at a moment, for whoever reads it: nothing is appended in the past."""

import threading
from collections.abc import Iterable, Mapping, Sequence

from events.envelope import Envelope, Principal
from events.history.documents import PastDocuments
from events.history.errors import PastIsFixed
from events.history.point_in_time import PointInTime
from events.log.documents import Documents, FleetDocuments
from events.log.fleet_events import FleetEventReader
from events.log.keys import FLEET, device_of, partition_of
from events.log.log_overlay import LogOverlay
from events.log.port import Chunk, Event, Log, Proposed, Stored

_SUBJECTS_MAX = 200
"""More subjects of one partition at once are a reason to replay its other documents with them."""


class LogAt(LogOverlay):
    """One for each request: it remembers what it replayed."""

    def __init__(self, log: Log, point_in_time: PointInTime, documents: PastDocuments, fleet: FleetEventReader) -> None:
        super().__init__(log)
        self._point_in_time, self._documents, self._fleet = point_in_time, documents, fleet
        self._all: dict[int, Documents] = {}
        self._some: dict[str, Stored] = {}
        self._lock = threading.RLock()

    def append(
        self,
        batch: Sequence[Proposed],
        *,
        command_id: str,
        by: Principal,
        at: int,
        cause: str = "",
        fence: int | None = None,
    ) -> tuple[Chunk, ...]:
        """Refuse.

        Raises:
            PastIsFixed: always.
        """
        del batch, command_id, by, at, cause, fence
        raise PastIsFixed

    def clear_wake(self, stream: int) -> None:
        """Refuse.

        Raises:
            PastIsFixed: always.
        """
        del stream
        raise PastIsFixed

    def load(self, subjects: Sequence[str], *, fleet: bool = False) -> list[Stored]:
        """Snapshots of subjects as they were; heads as their documents say."""
        if fleet:
            documents = self._every(FLEET)
            return [documents.stored(subject) for subject in subjects]
        by_partition: dict[int, list[str]] = {}
        for subject in subjects:
            by_partition.setdefault(partition_of(device_of(subject), self.partitions), []).append(subject)
        for number, some in by_partition.items():
            self._bring(number, some)
        return [self._known(subject) for subject in subjects]

    def snapshots(self, partition: int, subjects: Sequence[str]) -> list[bytes | None]:
        """Snapshots of subjects of one partition, in their order."""
        self._bring(partition, subjects)
        return [self._known(subject).snapshot for subject in subjects]

    def subjects(self, stream: int, *, prefix: str = "") -> Iterable[str]:
        """Every subject of a stream that had a snapshot and begins so."""
        return [subject for subject in self._every(stream).documented() if subject.startswith(prefix)]

    def subjects_with_events(self, stream: int) -> Iterable[str]:
        """Every subject of a stream that has a document; what is forgotten of the others nobody asks for in the past."""
        return self._every(stream).documented()

    def head(self, stream: int) -> int:
        """How far a stream had come."""
        return self._point_in_time.positions[stream]

    def heads(self) -> Mapping[int, int]:
        """`head` of every stream."""
        return self._point_in_time.positions

    def read(self, stream: int, *, after: int, limit: int) -> list[Envelope[Event]]:
        """Events at positions after + 1 and on, as far as the stream had come."""
        left = min(limit, self.head(stream) - after)
        return self._log.read(stream, after=after, limit=left) if left > 0 else []

    def position_at(self, stream: int, at: int) -> int:
        """The last position whose time is <= `at` (milliseconds), as far as the stream had come."""
        return min(self._log.position_at(stream, at), self.head(stream))

    # -- what was replayed

    def _known(self, subject: str) -> Stored:
        number = partition_of(device_of(subject), self.partitions)
        return self._all[number].stored(subject) if number in self._all else self._some[subject]

    def _bring(self, number: int, subjects: Sequence[str]) -> None:
        with self._lock:
            missing = [subject for subject in subjects if subject not in self._some]
            if number in self._all or not missing:
                return
            if len(missing) > _SUBJECTS_MAX:
                self._every(number)
                return
            found = self._documents.at(number, self.head(number), missing, fleet=self._fleet)
            self._some.update({subject: found.stored(subject) for subject in missing})

    def _every(self, stream: int) -> Documents:
        with self._lock:
            found = self._all.get(stream)
            if found is None:
                if stream == FLEET:
                    found = FleetDocuments()
                    found.apply_all(self._fleet.upto(self.head(FLEET)))
                else:
                    found = self._documents.at(stream, self.head(stream), fleet=self._fleet)
                self._all[stream] = found
            return found
