"""The documents and heads of one stream, folded from its facts and held against those that stand beside the log."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from events.envelope import Envelope
from events.log.errors import UnreadableFact
from events.log.events_ahead import EventsAhead
from events.log.keys import FLEET, device_of, key, partition_of
from events.log.keys import name as name_of
from events.log.port import Head, Log, Stored
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from workers.replay.differing import difference_of_bytes
from workers.replay.report import Difference

_CHUNK = 500


class Folded(Protocol):
    """Documents of a stream as its facts make them."""

    def fold(self, envelope: Envelope[Any]) -> None:
        """Fold the next fact."""
        ...

    def subjects(self) -> Iterable[str]:
        """Everybody who has a fact."""
        ...

    def head(self, subject: str) -> Head:
        """Where a subject stands."""
        ...

    def document(self, subject: str) -> bytes | None:
        """Its document, if it has one."""
        ...


class Beside:
    """What stands beside a stream, and what its facts make of it."""

    def __init__(self, log: Log, stream: int, folded: Folded) -> None:
        self._log, self._stream, self._folded = log, stream, folded
        self.apart: set[str] = set()
        """Subjects of facts that were left out: what those wrote beside the log is nobody's to say."""
        self.faults: list[Difference] = []
        self.compared = 0

    def see(self, facts: Sequence[Envelope[Any]]) -> None:
        """Fold facts that came next."""
        fold = self._folded.fold
        for envelope in facts:
            try:
                fold(envelope)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it is this fact that is
                self.apart.add(envelope.subject)
                place = f"{name_of(self._stream)}:{envelope.position}"
                self.faults.append(Difference("fact", place, folded=f"{type(error).__name__}: {error}"))

    def differences(self, facts: EventsAhead) -> Iterable[Difference]:
        """Hold every head and document against what is stored, however the log moves meanwhile; reads the facts to their end."""
        while facts.read_on():
            pass
        self._set_apart(facts)
        names = dict.fromkeys(self._folded.subjects())
        beside = (("heads", self._log.known(self._stream)), ("snapshots", self._log.subjects(self._stream)))
        for what, stored in beside:
            for name in stored:
                if self._is_of_another(name):
                    kind = "head" if what == "heads" else "twin"
                    yield Difference(kind, f"{key(self._stream, what)} {name}", stored="what another partition has")
                else:
                    names[name] = None
        waiting = (name for name in names if name not in self.apart)
        while some := list(itertools.islice(waiting, _CHUNK)):
            yield from self._compare(some, facts)

    def _is_of_another(self, name: str) -> bool:
        return self._stream != FLEET and partition_of(device_of(name), self._log.partitions) != self._stream

    def _set_apart(self, facts: EventsAhead) -> None:
        for position in facts.skipped:
            subject = self._subject_at(position)
            if subject is not None:
                self.apart.add(subject)

    def _subject_at(self, position: int) -> str | None:
        try:
            return self._log.read(self._stream, after=position - 1, limit=1)[0].subject
        except UnreadableFact:
            if not isinstance(self._log, RedisLog):
                return None
            entry = RawStreams(self._log.client).read(name_of(self._stream), after=position - 1, limit=1)[0]
            subject = entry.fields.get(b"subject")
            return None if subject is None else subject.decode(errors="replace")
        except LookupError:
            return None

    def _compare(self, names: Sequence[str], facts: EventsAhead) -> Iterable[Difference]:
        """What is stored is at least as new as what was folded before: facts that came since explain a difference, or nothing does."""
        while names:
            stored = dict(zip(names, self._log.load(names, fleet=self._stream == FLEET), strict=True))
            differing = {
                name: self._folded_of(name) for name, one in stored.items() if self._folded_of(name) != _both(one)
            }
            self.compared += len(names) - len(differing)
            while differing and facts.read_on():
                pass
            names = [name for name, before in differing.items() if self._folded_of(name) != before]
            for name in differing.keys() - set(names):
                self.compared += 1
                if name not in self.apart and facts.stopped is None:
                    yield from self._difference(name, stored[name])

    def _folded_of(self, name: str) -> tuple[Head, bytes | None]:
        return self._folded.head(name), self._folded.document(name)

    def _difference(self, name: str, stored: Stored) -> Iterable[Difference]:
        head = self._folded.head(name)
        if stored.head != head:
            texts = [f"{one.version}:{one.generation}" if one.version else "" for one in (stored.head, head)]
            yield Difference("head", f"{key(self._stream, 'heads')} {name}", stored=texts[0], folded=texts[1])
        found = difference_of_bytes(stored.snapshot, self._folded.document(name))
        if found is not None:
            kind = "document" if self._stream == FLEET else "twin"
            path, one, other = found
            yield Difference(kind, f"{key(self._stream, 'snapshots')} {name}", path=path, stored=one, folded=other)


def _both(stored: Stored) -> tuple[Head, bytes | None]:
    return stored.head, stored.snapshot
