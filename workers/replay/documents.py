"""Compares the stored documents and heads of one stream with those that its events give, and finds the event behind a difference."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from events.envelope import Envelope
from events.log.documents import documents_of
from events.log.errors import UnreadableEvent
from events.log.events_ahead import EventsAhead, Skips
from events.log.keys import FLEET, device_of, key, partition_of
from events.log.keys import name as name_of
from events.log.port import Head, Log, Stored
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from workers.replay.first_difference import difference_of_bytes
from workers.replay.report import ReplayDifference

_CHUNK = 500
_NOTHING = object()


class DocumentComparison:
    """Compares what is stored beside a stream with what its events give.

    `excluded` are the subjects of skipped events and of events that cannot be applied: nothing but those events says what
    they wrote, so their documents are not compared. `faults` are the events that cannot be applied.
    """

    def __init__(self, log: Log, stream: int) -> None:
        self._log, self._stream, self.replayed = log, stream, documents_of(stream)
        self.excluded: set[str] = set()
        self.faults: list[ReplayDifference] = []
        self.compared = 0

    def apply(self, events: Sequence[Envelope[Any]]) -> None:
        """Apply the next events."""
        apply = self.replayed.apply
        for envelope in events:
            try:
                apply(envelope)
            except Exception as error:  # noqa: BLE001 - any exception of an event is a fault of that event (decisions/0009)
                self.excluded.add(envelope.subject)
                location = f"{name_of(self._stream)}:{envelope.position}"
                self.faults.append(ReplayDifference("event", location, replayed=f"{type(error).__name__}: {error}"))

    def differences(self, events: EventsAhead) -> Iterable[ReplayDifference]:
        """Every head and document that differs from what is stored. Reads the events to their end; the log may grow meanwhile."""
        while events.read_on():
            pass
        self.excluded |= set(filter(None, map(self._subject_at, events.skipped)))
        differing, equal = dict[str, None](), set[str]()
        for name, stored in self._log.all_stored(self._stream):
            if self._stream != FLEET and partition_of(device_of(name), self._log.partitions) != self._stream:
                location = f"{key(self._stream, 'subjects')} {name}"
                for kind, is_stored in (("head", stored.head.version), ("twin", stored.snapshot is not None)):
                    if is_stored:
                        yield ReplayDifference(kind, location, stored="what another partition has")
            elif (stored.head, stored.snapshot) == self._replayed_of(name):
                equal.add(name)
            else:
                differing[name] = None
        equal -= self.excluded
        self.compared += len(equal)
        # Subjects that differ may have had events meanwhile, so they are read again below, as those that are stored nowhere.
        names = {**dict.fromkeys(self.replayed.subjects()), **differing}
        waiting = (name for name in names if name not in equal and name not in self.excluded)
        while chunk := list(itertools.islice(waiting, _CHUNK)):
            yield from self._compare(chunk, events)

    def _subject_at(self, position: int) -> str | None:
        try:
            return self._log.read(self._stream, after=position - 1, limit=1)[0].subject
        except UnreadableEvent:
            if not isinstance(self._log, RedisLog):
                return None
            # The entry has a readable subject even if its event is not readable.
            entry = RawStreams(self._log.client).read(name_of(self._stream), after=position - 1, limit=1)[0]
            subject = entry.fields.get(b"subject")
            return None if subject is None else subject.decode(errors="replace")
        except LookupError:
            # An operator can skip a position whose entry was deleted by hand (decisions/0009, a gap).
            return None

    def _compare(self, names: Sequence[str], events: EventsAhead) -> Iterable[ReplayDifference]:
        # Load after replaying: what is stored is then at least as new as what was replayed. A difference is explained by
        # events that came in between, or it is real (decisions/0030).
        while names:
            stored = dict(zip(names, self._log.load(names, fleet=self._stream == FLEET), strict=True))
            differing = {}
            for name, document in stored.items():
                if (here := self._replayed_of(name)) != (document.head, document.snapshot):
                    differing[name] = here
            self.compared += len(names) - len(differing)
            while differing and events.read_on():
                pass
            names = [name for name, before in differing.items() if self._replayed_of(name) != before]
            for name in differing.keys() - set(names):
                self.compared += 1
                if name not in self.excluded and events.stopped is None:
                    yield from self._difference(name, stored[name])

    def _replayed_of(self, name: str) -> tuple[Head, bytes | None]:
        return self.replayed.head(name), self.replayed.document(name)

    def _difference(self, name: str, stored: Stored) -> Iterable[ReplayDifference]:
        head, document = self._replayed_of(name)
        location = f"{key(self._stream, 'subjects')} {name}"
        if stored.head != head:
            texts = [f"{side.version}:{side.generation}" if side.version else "" for side in (stored.head, head)]
            yield ReplayDifference("head", location, stored=texts[0], replayed=texts[1])
        difference = difference_of_bytes(stored.snapshot, document)
        if difference is not None:
            kind = "document" if self._stream == FLEET else "twin"
            yield ReplayDifference(kind, location, *difference)


def traced(
    log: Log, stream: int, differences: Sequence[ReplayDifference], *, skips: Skips, upto: int
) -> list[ReplayDifference]:
    """The differences, each in a document with the last event that set the differing value as `first_event`.

    Reads the stream up to position `upto` once more if a document differs.
    """
    locations = {
        difference.location: (difference.location.partition(" ")[2], difference.path)
        for difference in differences
        if difference.kind in {"twin", "document"}
    }
    subjects = {subject for subject, _ in locations.values()}
    # A module's document begins anew when its device is registered again (decisions/0010), so devices are followed too.
    subjects |= {device_of(subject) for subject in subjects}
    documents, values, last = documents_of(stream), dict[str, Any](), dict[str, int]()

    def see(batch: Sequence[Envelope[Any]]) -> None:
        for envelope in batch:
            if envelope.subject not in subjects:
                continue
            documents.apply(envelope)
            for location, (subject, path) in locations.items():
                document = documents.document(subject)
                value = _NOTHING if document is None else _at(msgspec.json.decode(document), path)
                if value != values.get(location, _NOTHING):
                    values[location], last[location] = value, envelope.position

    if locations:
        events = EventsAhead(log, stream, skips=skips, seen=see)
        while events.position < upto and events.read_on():
            for _ in events.runs(events.position):
                pass
    return [
        msgspec.structs.replace(difference, first_event=f"{name_of(stream)}:{last[difference.location]}")
        if difference.location in last
        else difference
        for difference in differences
    ]


def _at(value: Any, path: str) -> Any:
    """The value at a path of `first_difference`, or at the longest part of it that exists."""
    for part in path.replace("[", ".[").split(".")[1:]:
        if part.startswith("[") and isinstance(value, list):
            number = int(part[1:-1])
            value = value[number] if number < len(value) else _NOTHING
        elif isinstance(value, dict):
            value = value.get(part, _NOTHING)
    return value
