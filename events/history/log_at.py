"""The log as it was at a point in time: it can be read, and nothing can be appended."""

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NoReturn

from events.envelope import Envelope, Vector
from events.history.errors import PastIsFixed
from events.history.point_in_time import PointInTime
from events.history.snapshots import Snapshots
from events.log.documents import DeviceDocuments, Documents, FleetDocuments, apply_all, stored
from events.log.fleet_events import FleetEventReader
from events.log.keys import FLEET, device_of, partition_of
from events.log.port import Event, Log, Stored, read_all
from events.log.rank_follower import read_ranked
from events.log.ranked_deployments import RankedDeployments
from events.log.raw import RawStreams
from events.log.scan import events_of

# For more subjects of one partition, replaying all of its documents at once is cheaper than reading their events apart.
_SUBJECTS_MAX = 200
_BATCH_EVENTS = 4096
_ANY_FLEET = 2**53


class PastDocuments:
    """Replays documents from the newest snapshot before a position, or from the first event."""

    def __init__(self, log: Log, streams: RawStreams, snapshots: Snapshots | None) -> None:
        self._log, self._streams, self._snapshots = log, streams, snapshots

    def at(
        self, number: int, upto: int, subjects: Collection[str] | None = None, *, fleet: FleetEventReader | None = None
    ) -> DeviceDocuments:
        """The documents of a partition at a position; of `subjects` only, if given.

        Raises:
            LogUnavailable, ObjectStoreUnavailable, LogLostItsTail, UnreadableEvent: events cannot be read.
            CannotApply: an event does not follow from the ones before it.
        """
        if fleet is None:
            fleet = FleetEventReader(self._log)
            fleet.read_on()
        snapshot = None if self._snapshots is None else self._snapshots.newest(number, Vector(upto, _ANY_FLEET))
        after = 0 if snapshot is None else snapshot.stored_partition.checkpoint.vector.partition
        before: Mapping[str, bytes] = {} if snapshot is None else snapshot.documents
        if subjects is not None:
            # A module's document begins and ends with a registration of its device, so the device's events are read too.
            subjects = sorted({*subjects, *map(device_of, subjects)})
            before = {subject: before[subject] for subject in subjects if subject in before}
        documents, skipped = DeviceDocuments(before), fleet.skipped(number)
        while after < upto:
            if after + 1 in skipped:
                after += 1
                continue
            end = min([upto, *(bad - 1 for bad in skipped if bad > after)])
            if subjects is None:
                apply_all(documents, read_all(self._log, number, batch=_BATCH_EVENTS, after=after, upto=end))
            elif subjects:
                partitions = self._log.partitions
                apply_all(documents, events_of(self._streams, subjects, partitions=partitions, after=after, upto=end))
            after = end
        return documents


class LogAt:
    """The log of one request at a point in time; keeps what it replayed for further reads of the request."""

    def __init__(self, log: Log, point_in_time: PointInTime, documents: PastDocuments, fleet: FleetEventReader) -> None:
        self._log, self.partitions, self.epoch, self.remembered = log, log.partitions, log.epoch, log.remembered
        self._point_in_time, self._documents, self._fleet = point_in_time, documents, fleet
        self._whole_streams: dict[int, Documents] = {}
        self._stored_subjects: dict[str, Stored] = {}
        self._lock = threading.RLock()

    def append(self, *_: object, **__: object) -> NoReturn:
        """Raise `PastIsFixed`: nothing is appended in the past."""
        raise PastIsFixed

    prepare_append = append

    def load(self, subjects: Sequence[str], *, fleet: bool = False) -> list[Stored]:
        """Snapshots of subjects as they were, and heads as their documents give them."""
        if fleet:
            documents = self._whole_stream(FLEET)
            return [stored(documents, subject) for subject in subjects]
        by_partition: dict[int, list[str]] = {}
        for subject in subjects:
            by_partition.setdefault(partition_of(device_of(subject), self.partitions), []).append(subject)
        for number, partition_subjects in by_partition.items():
            self._replay_subjects(number, partition_subjects)
        return [self._stored(subject) for subject in subjects]

    def snapshots(self, partition: int, subjects: Sequence[str]) -> list[bytes | None]:
        """Snapshots of subjects of one partition, in their order."""
        self._replay_subjects(partition, subjects)
        return [self._stored(subject).snapshot for subject in subjects]

    def subjects(self, stream: int, *, prefix: str = "") -> Iterable[str]:
        """Every subject of a stream that had a snapshot and starts with `prefix`."""
        return [subject for subject in self._whole_stream(stream).documented() if subject.startswith(prefix)]

    def all_stored(self, stream: int) -> Iterable[tuple[str, Stored]]:
        """Every subject of a stream that had a snapshot, with its head and snapshot as they were."""
        documents = self._whole_stream(stream)
        return [(subject, stored(documents, subject)) for subject in documents.documented()]

    def ranked_deployments(self) -> RankedDeployments:
        """The ranks of the deployments as they were."""
        return read_ranked(self)

    def head(self, stream: int) -> int:
        """The last position of a stream at the point in time."""
        return self._point_in_time.positions[stream]

    def heads(self) -> Mapping[int, int]:
        """`head` of every stream."""
        return self._point_in_time.positions

    def read(self, stream: int, *, after: int, limit: int) -> list[Envelope[Event]]:
        """Events at positions after + 1 and on, up to the stream's head at the point in time."""
        left = min(limit, self.head(stream) - after)
        return self._log.read(stream, after=after, limit=left) if left > 0 else []

    def position_at(self, stream: int, at: int) -> int:
        """The last position whose time is <= `at` (milliseconds), up to the stream's head at the point in time."""
        return min(self._log.position_at(stream, at), self.head(stream))

    def _stored(self, subject: str) -> Stored:
        documents = self._whole_streams.get(partition_of(device_of(subject), self.partitions))
        return self._stored_subjects[subject] if documents is None else stored(documents, subject)

    def _replay_subjects(self, number: int, subjects: Sequence[str]) -> None:
        with self._lock:
            missing = [subject for subject in subjects if subject not in self._stored_subjects]
            if number in self._whole_streams or not missing:
                return
            if len(missing) > _SUBJECTS_MAX:
                self._whole_stream(number)
                return
            documents = self._documents.at(number, self.head(number), missing, fleet=self._fleet)
            self._stored_subjects.update({subject: stored(documents, subject) for subject in missing})

    def _whole_stream(self, stream: int) -> Documents:
        with self._lock:
            if stream not in self._whole_streams and stream != FLEET:
                self._whole_streams[stream] = self._documents.at(stream, self.head(stream), fleet=self._fleet)
            elif stream not in self._whole_streams:
                documents = FleetDocuments()
                apply_all(documents, self._fleet.upto(self.head(FLEET)))
                self._whole_streams[stream] = documents
            return self._whole_streams[stream]
