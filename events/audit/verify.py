"""Verification: everything is computed again from the streams and held against the seals."""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from events.audit.alignment import Alignment
from events.audit.errors import NothingSealed, SealUnreadable
from events.audit.fault import Fault, FaultKind
from events.audit.seal import ENTRY_BYTES, FIRST, PublicKey, Reached, Seal, Signed
from events.audit.seal_store import SealFiles, Seals
from events.log.codec import position_of
from events.log.connect import answering, entries_of
from events.log.entries import key_of, stream_names
from events.log.object_store import ObjectStore
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from events.settings import Settings

WINDOW_ENTRIES = 1 << 20
"""So many entries' shortened digests are held at a time."""


class UnsealedStream(msgspec.Struct, frozen=True):
    """What came to a stream since it was last sealed: nobody can say yet that it is as it was written."""

    stream: str
    entries: int
    after: int


class VerificationReport(msgspec.Struct, frozen=True):
    """What verification found.

    `keys` are the ids of the keys that signed, `last` the number and digest of the newest seal, `in_span` how many of the good
    seals had their entries looked at: with 0 nothing is said of any entry.
    """

    seals: int
    in_span: int
    entries: int
    last: tuple[int, str]
    sealed_at: int
    keys: tuple[str, ...]
    faults: tuple[Fault, ...]
    unsealed: tuple[UnsealedStream, ...]

    @property
    def is_fine(self) -> bool:
        """Whether nothing was found."""
        return not self.faults


class SealSpan(msgspec.Struct, frozen=True):
    """Which seals' entries are looked at, by number or by the time they were made (milliseconds); all of them by default."""

    first: int = 0
    last: int | None = None
    since: int = 0
    until: int | None = None

    def includes(self, seal: Seal) -> bool:
        """Whether a seal's entries are."""
        return (
            seal.number >= self.first
            and (self.last is None or seal.number <= self.last)
            and seal.at >= self.since
            and (self.until is None or seal.at <= self.until)
        )


Progress = Callable[[int, int], None]
"""Told how many entries are done, of how many."""


def verify_log(
    settings: Settings,
    log: RedisLog,
    keys: Sequence[PublicKey],
    *,
    span: SealSpan | None = None,
    progress: Progress = lambda _done, _all: None,
) -> VerificationReport:
    """Verify a log's seals by public keys alone, and the entries of those in a span; nothing that is found stops it.

    Raises:
        NothingSealed: there is nothing to verify by.
        LogUnavailable, ObjectStoreUnavailable: it cannot be read.
    """
    streams, seals, names = RawStreams(log.client), Seals(log.client), stream_names(log.partitions)
    files = SealFiles(ObjectStore(settings.effective_archive_url), epoch=log.epoch)
    walk = _Walk(seals, files, keys, log.epoch)
    check = _Check(streams, log.epoch, span or SealSpan(), progress, total=_total(seals))
    for seal in walk.good():
        check.add(seal)
    check.finish()
    if walk.count == 0:
        raise NothingSealed
    newest, found = walk.newest, tuple(check.faults())
    heads = {name: streams.head(name) for name in names}
    reached = {} if newest is None else newest.streams
    unsealed = [
        UnsealedStream(name, head - after, after)
        for name, head in heads.items()
        if head > (after := reached[name].position if name in reached else 0)
    ]
    return VerificationReport(
        seals=walk.count,
        in_span=check.seals,
        entries=check.done,
        last=(0, FIRST) if newest is None else (newest.number, walk.previous),
        sealed_at=0 if newest is None else newest.at,
        keys=tuple(sorted(walk.signers)),
        faults=(*walk.faults, *found, *(fault for name in names for fault in _between(streams, name, found))),
        unsealed=tuple(unsealed),
    )


def _between(streams: RawStreams, name: str, found: Sequence[Fault]) -> Iterator[Fault]:
    """Whether there are entries that have no position of their own: their ids have another number behind the dash."""
    if any(fault.kind is FaultKind.INSERTED and fault.location.startswith(f"{name}:") for fault in found):
        return
    client, key = streams.client, key_of(name)
    with answering():
        # In this order what is appended or archived meanwhile only makes it seem fewer.
        first = entries_of(client.xrange(key, count=1))
        count = client.xlen(key)
        last = entries_of(client.xrevrange(key, count=1))
    if first and count > position_of(last[0][0]) - position_of(first[0][0]) + 1:
        yield Fault(FaultKind.INSERTED, name, "has more entries than positions: some stand between two of them")


class _Walk:
    """Goes through the seals, from Redis and from the archive, and answers those that are good, each once."""

    def __init__(self, seals: Seals, files: SealFiles, keys: Sequence[PublicKey], epoch: str) -> None:
        self._seals, self._files, self._epoch = seals, files, epoch
        self._keys = {key.id: key for key in keys}
        self.faults: list[Fault] = []
        self.signers: set[str] = set()
        self.count = 0
        self.previous = self._digest = FIRST
        self.newest: Seal | None = None

    def good(self) -> Iterator[Seal]:
        """The good seals, oldest first; what is wrong with the others is in `faults`."""
        expected = 1
        for number, in_redis, file in self._pairs():
            self.count += 1
            if number > expected:
                self._missing(expected, number - 1)
                self.previous = ""
            expected = number + 1
            seal = self._one(number, in_redis, file)
            if seal is None:
                self.previous = ""
                continue
            if self.previous and seal.previous != self.previous:
                self._fault(FaultKind.SEAL_CHANGED, number, f"does not follow seal {number - 1} as that one stands now")
            self.previous = self._digest
            self.newest = seal
            self.signers.add(seal.key)
            yield seal

    def _pairs(self) -> Iterator[tuple[int, Signed | None, bytes | None]]:
        """(number, the seal in Redis, the file), wherever there is one of the two."""
        numbers = self._files.numbers()
        newest_kept = numbers[-1] if numbers else 0
        entries = heapq.merge(
            ((number, 1, None) for number in numbers), ((number, 0, signed) for number, signed in self._in_redis())
        )
        at: int | None = None
        signed: Signed | None = None
        kept = False
        for number, is_file, one in entries:
            if at is not None and number != at:
                yield self._pair(at, signed, kept=kept, newest_kept=newest_kept)
                signed, kept = None, False
            at = number
            if is_file:
                kept = True
            else:
                signed = one
        if at is not None:
            yield self._pair(at, signed, kept=kept, newest_kept=newest_kept)

    def _pair(
        self, number: int, signed: Signed | None, *, kept: bool, newest_kept: int
    ) -> tuple[int, Signed | None, bytes | None]:
        data = self._files.get(number) if kept else None
        if signed is None:
            self._fault(FaultKind.SEAL_DROPPED, number, "is in the archive and no longer in Redis")
        elif data is None and number < newest_kept:
            self._fault(FaultKind.SEAL_DROPPED, number, "is in Redis and no longer in the archive")
        return number, signed, data

    def _in_redis(self) -> Iterator[tuple[int, Signed]]:
        for placed in self._seals.all():
            if placed.number is None:
                self.faults.append(
                    Fault(FaultKind.SEAL_INSERTED, f"seal {placed.entry_id}", "has no number that a seal could have")
                )
            else:
                yield placed.number, placed.signed

    def _one(self, number: int, in_redis: Signed | None, file: bytes | None) -> Seal | None:
        """The seal of a number by whichever copy is good."""
        found: Seal | None = None
        for where, copy in (("in Redis", in_redis), ("in the archive", file)):
            if copy is None:
                continue
            try:
                signed = copy if isinstance(copy, Signed) else Signed.from_file(copy)
                seal = signed.seal()
            except SealUnreadable:
                self._fault(FaultKind.SEAL_CHANGED, number, f"cannot be read as it stands {where}")
                continue
            if not self._is_good(number, seal, signed, where):
                continue
            if found is None:
                found, self._digest = seal, signed.digest
            elif signed.digest != self._digest:
                # Both are signed: whoever sealed was shown another past meanwhile.
                self._fault(FaultKind.SEAL_CHANGED, number, "says one thing in Redis and another in the archive")
        return found

    def _is_good(self, number: int, seal: Seal, signed: Signed, where: str) -> bool:
        key = self._keys.get(seal.key)
        if key is None:
            self._fault(
                FaultKind.SEAL_SIGNATURE, number, f"is signed {where} by key {seal.key[:64]}, which was not given"
            )
            return False
        if not key.signed(signed):
            self._fault(
                FaultKind.SEAL_SIGNATURE, number, f"has a signature {where} that is not of its key: it was changed"
            )
            return False
        if seal.number != number or seal.epoch != self._epoch:
            self._fault(
                FaultKind.SEAL_INSERTED,
                number,
                f"is seal {seal.number} of log {seal.epoch[:64]} {where}, in another's place",
            )
            return False
        return True

    def _missing(self, first: int, last: int) -> None:
        location = f"seal {first}" if first == last else f"seals {first}-{last}"
        self.faults.append(Fault(FaultKind.SEAL_DROPPED, location, "is nowhere, neither in Redis nor in the archive"))

    def _fault(self, kind: FaultKind, number: int, what: str) -> None:
        self.faults.append(Fault(kind, f"seal {number}", what))


class _Check:
    """Holds streams against good seals, some seals at a time."""

    def __init__(self, streams: RawStreams, epoch: str, span: SealSpan, progress: Progress, *, total: int) -> None:
        self._streams, self._epoch, self._span = streams, epoch, span
        self._progress, self._total = progress, total
        self._before: Mapping[str, Reached] = {}
        self._alignments: dict[str, Alignment] = {}
        self._waiting: dict[str, list[tuple[int, bytes, Reached]]] = {}
        self._entries = 0
        self.done = 0
        self.seals = 0

    def add(self, seal: Seal) -> None:
        """Take another seal; its entries are looked at by and by."""
        if self._span.includes(seal):
            self.seals += 1
            short = {name: (before, some) for name, before, some in seal.digests()}
            for name, reached in seal.streams.items():
                start = self._before.get(name)
                if reached != start:
                    if name not in self._alignments:
                        self._alignments[name] = Alignment(self._streams, name, epoch=self._epoch, after=start)
                    before, some = short.get(name, (reached.position, b""))
                    self._waiting.setdefault(name, []).append((before, some, reached))
                    self._entries += len(some) // ENTRY_BYTES
        self._before = seal.streams
        if self._entries >= WINDOW_ENTRIES:
            self._work()

    def finish(self) -> None:
        """Look at what is left."""
        self._work()

    def faults(self) -> Iterable[Fault]:
        """All that was found, stream by stream."""
        for alignment in self._alignments.values():
            yield from alignment.faults()

    def _work(self) -> None:
        for name, pieces in self._waiting.items():
            alignment = self._alignments[name]
            for before, short, reached in pieces:
                already = alignment.checked
                alignment.sealed(before, short, reached)
                self.done += alignment.checked - already
                self._progress(self.done, self._total)
        self._waiting, self._entries = {}, 0


def _total(seals: Seals) -> int:
    """About how many entries are sealed, for who waits; 0 where the newest seal cannot be read."""
    last = seals.last()
    try:
        return 0 if last is None else sum(one.position for one in last.seal().streams.values())
    except SealUnreadable:
        return 0
