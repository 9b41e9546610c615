"""The documents and heads of one stream, replayed from its events and held against those that stand beside the log."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from events.envelope import Envelope
from events.log.errors import UnreadableEvent
from events.log.events_ahead import EventsAhead
from events.log.keys import FLEET, device_of, key, partition_of
from events.log.keys import name as name_of
from events.log.port import Head, Log, Stored
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from workers.replay.first_difference import difference_of_bytes
from workers.replay.report import ReplayDifference

_CHUNK = 500


class ReplayedDocuments(Protocol):
    """Documents of a stream as its events make them."""

    def apply(self, envelope: Envelope[Any]) -> None:
        """Replay the next event."""
        ...

    def subjects(self) -> Iterable[str]:
        """Everybody who has an event."""
        ...

    def head(self, subject: str) -> Head:
        """Where a subject stands."""
        ...

    def document(self, subject: str) -> bytes | None:
        """Its document, if it has one."""
        ...


class Beside:
    """What stands beside a stream, and what its events make of it."""

    def __init__(self, log: Log, stream: int, replayed: ReplayedDocuments) -> None:
        self._log, self._stream, self._replayed = log, stream, replayed
        self.apart: set[str] = set()
        """Subjects of events that were left out: what those wrote beside the log is nobody's to say."""
        self.faults: list[ReplayDifference] = []
        self.compared = 0

    def see(self, events: Sequence[Envelope[Any]]) -> None:
        """Replay events that came next."""
        apply = self._replayed.apply
        for envelope in events:
            try:
                apply(envelope)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it is this event that is
                self.apart.add(envelope.subject)
                location = f"{name_of(self._stream)}:{envelope.position}"
                self.faults.append(ReplayDifference("event", location, replayed=f"{type(error).__name__}: {error}"))

    def differences(self, events: EventsAhead) -> Iterable[ReplayDifference]:
        """Hold every head and document against what is stored, however the log moves meanwhile; reads the events to their end."""
        while events.read_on():
            pass
        self._set_apart(events)
        names = dict.fromkeys(self._replayed.subjects())
        beside = (
            ("heads", self._log.subjects_with_events(self._stream)),
            ("snapshots", self._log.subjects(self._stream)),
        )
        for what, stored in beside:
            for name in stored:
                if self._is_of_another(name):
                    kind = "head" if what == "heads" else "twin"
                    yield ReplayDifference(
                        kind, f"{key(self._stream, what)} {name}", stored="what another partition has"
                    )
                else:
                    names[name] = None
        waiting = (name for name in names if name not in self.apart)
        while some := list(itertools.islice(waiting, _CHUNK)):
            yield from self._compare(some, events)

    def _is_of_another(self, name: str) -> bool:
        return self._stream != FLEET and partition_of(device_of(name), self._log.partitions) != self._stream

    def _set_apart(self, events: EventsAhead) -> None:
        for position in events.skipped:
            subject = self._subject_at(position)
            if subject is not None:
                self.apart.add(subject)

    def _subject_at(self, position: int) -> str | None:
        try:
            return self._log.read(self._stream, after=position - 1, limit=1)[0].subject
        except UnreadableEvent:
            if not isinstance(self._log, RedisLog):
                return None
            entry = RawStreams(self._log.client).read(name_of(self._stream), after=position - 1, limit=1)[0]
            subject = entry.fields.get(b"subject")
            return None if subject is None else subject.decode(errors="replace")
        except LookupError:
            return None

    def _compare(self, names: Sequence[str], events: EventsAhead) -> Iterable[ReplayDifference]:
        """What is stored is at least as new as what was replayed before: events that came since explain a difference, or nothing does."""
        while names:
            stored = dict(zip(names, self._log.load(names, fleet=self._stream == FLEET), strict=True))
            differing = {
                name: self._applied_of(name) for name, one in stored.items() if self._applied_of(name) != _both(one)
            }
            self.compared += len(names) - len(differing)
            while differing and events.read_on():
                pass
            names = [name for name, before in differing.items() if self._applied_of(name) != before]
            for name in differing.keys() - set(names):
                self.compared += 1
                if name not in self.apart and events.stopped is None:
                    yield from self._difference(name, stored[name])

    def _applied_of(self, name: str) -> tuple[Head, bytes | None]:
        return self._replayed.head(name), self._replayed.document(name)

    def _difference(self, name: str, stored: Stored) -> Iterable[ReplayDifference]:
        head = self._replayed.head(name)
        if stored.head != head:
            texts = [f"{one.version}:{one.generation}" if one.version else "" for one in (stored.head, head)]
            yield ReplayDifference("head", f"{key(self._stream, 'heads')} {name}", stored=texts[0], replayed=texts[1])
        found = difference_of_bytes(stored.snapshot, self._replayed.document(name))
        if found is not None:
            kind = "document" if self._stream == FLEET else "twin"
            path, one, other = found
            yield ReplayDifference(
                kind, f"{key(self._stream, 'snapshots')} {name}", path=path, stored=one, replayed=other
            )


def _both(stored: Stored) -> tuple[Head, bytes | None]:
    return stored.head, stored.snapshot
