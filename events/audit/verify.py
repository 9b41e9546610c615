"""Verification: recomputes every digest and chain from the streams, and compares them with the seals."""

import contextlib
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter

import msgspec

from events.audit.alignment import Alignment, Fault, FaultKind
from events.audit.errors import NothingSealed, SealUnreadable
from events.audit.seal import ENTRY_BYTES, FIRST, PublicKey, Reached, Seal, Signed
from events.audit.seal_store import SealFiles, Seals
from events.log.connect import answering, entries_of, position_of
from events.log.entries import key_of, stream_names
from events.log.object_store import ObjectStore
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from events.settings import Settings

WINDOW_ENTRIES = 1 << 20
"""How many entries' shortened digests are in memory at a time: 8 MiB."""


class UnsealedStream(msgspec.Struct, frozen=True):
    """The entries of a stream after its last seal: they cannot be verified yet."""

    stream: str
    entries: int
    after: int


class VerificationReport(msgspec.Struct, frozen=True):
    """The result of a verification.

    `keys` are the ids of the keys that signed, `last` is the number and digest of the newest seal, `in_span` is how many valid
    seals had their entries verified: with 0, no entry was verified.
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
        """Whether there are no faults."""
        return not self.faults


class SealSpan(msgspec.Struct, frozen=True):
    """The seals whose entries are verified, by number or by time (milliseconds); all seals by default."""

    first: int = 0
    last: int | None = None
    since: int = 0
    until: int | None = None

    def includes(self, seal: Seal) -> bool:
        """Returns whether a seal is in the span."""
        return (
            seal.number >= self.first
            and (self.last is None or seal.number <= self.last)
            and seal.at >= self.since
            and (self.until is None or seal.at <= self.until)
        )


Progress = Callable[[int, int], None]
"""Called with the number of verified entries, and their total."""


def verify_log(
    settings: Settings,
    log: RedisLog,
    keys: Sequence[PublicKey],
    *,
    span: SealSpan | None = None,
    progress: Progress = lambda _done, _all: None,
) -> VerificationReport:
    """Verify a log's seals with public keys, and the entries of the seals in a span; continues after every fault.

    Raises:
        NothingSealed: there is no seal.
        LogUnavailable, ObjectStoreUnavailable: the log cannot be read.
    """
    streams, seals, names = RawStreams(log.client), Seals(log.client), stream_names(log.partitions)
    files = SealFiles(ObjectStore(settings.effective_archive_url), epoch=log.epoch)
    walk, last, total = _SealWalk(seals, files, keys, log.epoch), seals.last(), 0
    # For the progress display alone: the newest seal may be unreadable, which the walk reports.
    with contextlib.suppress(SealUnreadable):
        total = 0 if last is None else sum(sealed.position for sealed in last.seal().streams.values())
    check = _EntryCheck(streams, log.epoch, span or SealSpan(), progress, total=total)
    for seal in walk.good():
        check.add(seal)
    check.flush()
    if walk.count == 0:
        raise NothingSealed
    newest, unsealed = walk.newest, list[UnsealedStream]()
    faults = [fault for alignment in check.alignments.values() for fault in alignment.faults()]
    for name in names:
        reached = None if newest is None else newest.streams.get(name)
        head, after = streams.head(name), 0 if reached is None else reached.position
        if head > after:
            unsealed.append(UnsealedStream(name, head - after, after))
    return VerificationReport(
        seals=walk.count,
        in_span=check.seals,
        entries=check.done,
        last=(0, FIRST) if newest is None else (newest.number, walk.previous),
        sealed_at=0 if newest is None else newest.at,
        keys=tuple(sorted(walk.signers)),
        faults=(*walk.faults, *faults, *(fault for name in names for fault in _between(streams, name, faults))),
        unsealed=tuple(unsealed),
    )


def _between(streams: RawStreams, name: str, faults: Sequence[Fault]) -> Iterator[Fault]:
    """The fault of entries whose id has another number after the dash than 0: they have no position of their own."""
    if any(fault.kind is FaultKind.INSERTED and fault.location.startswith(f"{name}:") for fault in faults):
        return
    client, key = streams.client, key_of(name)
    with answering():
        # In this order, a concurrent append or archiving can only lower the count, and never causes a false fault.
        first = entries_of(client.xrange(key, count=1))
        count = client.xlen(key)
        last = entries_of(client.xrevrange(key, count=1))
    if first and count > position_of(last[0][0]) - position_of(first[0][0]) + 1:
        yield Fault(FaultKind.INSERTED, name, "has more entries than positions: some entries are between two positions")


class _SealWalk:
    """Reads the seals in Redis and in the archive, and verifies their signatures and their chain."""

    def __init__(self, seals: Seals, files: SealFiles, keys: Sequence[PublicKey], epoch: str) -> None:
        self._seals, self._files, self._epoch = seals, files, epoch
        self._keys = {key.id: key for key in keys}
        self.faults: list[Fault] = []
        self.signers: set[str] = set()
        self.count = 0
        self.previous = self._digest = FIRST
        self.newest: Seal | None = None

    def good(self) -> Iterator[Seal]:
        """Yields the valid seals, oldest first; `faults` has the faults of all seals."""
        expected = 1
        for number, in_redis, file in self._pairs():
            self.count += 1
            if number > expected:
                location = f"seal {expected}" if number == expected + 1 else f"seals {expected}-{number - 1}"
                self.faults.append(Fault(FaultKind.SEAL_DROPPED, location, "is missing in Redis and in the archive"))
                self.previous = ""
            expected = number + 1
            seal = self._good_seal(number, in_redis, file)
            if seal is None:
                self.previous = ""
                continue
            if self.previous and seal.previous != self.previous:
                self._fault(FaultKind.SEAL_CHANGED, number, f"does not follow the current seal {number - 1}")
            self.previous = self._digest
            self.newest = seal
            self.signers.add(seal.key)
            yield seal

    def _pairs(self) -> Iterator[tuple[int, Signed | None, bytes | None]]:
        """(number, the seal in Redis, the file), by number; one of the two can be missing."""
        numbers = self._files.numbers()
        in_archive = ((number, None) for number in numbers)
        copies = heapq.merge(in_archive, self._in_redis(), key=itemgetter(0))
        for number, copies_of_seal in groupby(copies, key=itemgetter(0)):
            seals = [seal for _, seal in copies_of_seal]
            signed = next((seal for seal in seals if seal is not None), None)
            data = self._files.get(number) if None in seals else None
            if signed is None:
                self._fault(FaultKind.SEAL_DROPPED, number, "is in the archive and no longer in Redis")
            # Newer seals may wait for an archive that was unavailable; a gap before the newest file is a fault.
            elif data is None and numbers and number < numbers[-1]:
                self._fault(FaultKind.SEAL_DROPPED, number, "is in Redis and no longer in the archive")
            yield number, signed, data

    def _in_redis(self) -> Iterator[tuple[int, Signed]]:
        for entry_id, number, signed in self._seals.all():
            if number is None:
                self._fault(FaultKind.SEAL_INSERTED, entry_id, "has an id that is not a seal number")
            else:
                yield number, signed

    def _good_seal(self, number: int, in_redis: Signed | None, file: bytes | None) -> Seal | None:
        """The seal of a number, by the first valid copy."""
        good_seal: Seal | None = None
        for where, copy in (("in Redis", in_redis), ("in the archive", file)):
            if copy is None:
                continue
            try:
                signed = copy if isinstance(copy, Signed) else Signed.from_file(copy)
                seal = signed.seal()
            except SealUnreadable:
                self._fault(FaultKind.SEAL_CHANGED, number, f"cannot be read {where}")
                continue
            key = self._keys.get(seal.key)
            if key is None:
                what = f"is signed {where} by key {seal.key[:64]}, which is not among the given keys"
                self._fault(FaultKind.SEAL_SIGNATURE, number, what)
            elif not key.signed(signed):
                self._fault(FaultKind.SEAL_SIGNATURE, number, f"has an invalid signature {where}: it was changed")
            elif seal.number != number or seal.epoch != self._epoch:
                what = f"is seal {seal.number} of log {seal.epoch[:64]} {where}, stored in the place of another seal"
                self._fault(FaultKind.SEAL_INSERTED, number, what)
            elif good_seal is None:
                good_seal, self._digest = seal, signed.digest
            elif signed.digest != self._digest:
                # Both have a valid signature: the sealer read two different logs.
                self._fault(FaultKind.SEAL_CHANGED, number, "differs between Redis and the archive")
        return good_seal

    def _fault(self, kind: FaultKind, number: int | str, what: str) -> None:
        self.faults.append(Fault(kind, f"seal {number}", what))


class _EntryCheck:
    """Compares the entries of streams with valid seals, several seals at a time."""

    def __init__(self, streams: RawStreams, epoch: str, span: SealSpan, progress: Progress, *, total: int) -> None:
        self._streams, self._epoch, self._span = streams, epoch, span
        self._progress, self._total = progress, total
        self._before: Mapping[str, Reached] = {}
        self.alignments: dict[str, Alignment] = {}
        self._waiting: dict[str, list[tuple[int, bytes, Reached]]] = {}
        self._entries = self.done = self.seals = 0

    def add(self, seal: Seal) -> None:
        """Take the next seal; its entries are verified once WINDOW_ENTRIES are waiting."""
        if self._span.includes(seal):
            self.seals += 1
            short = {name: (before, digests) for name, before, digests in seal.digests()}
            for name, reached in seal.streams.items():
                start = self._before.get(name)
                if reached != start:
                    if name not in self.alignments:
                        self.alignments[name] = Alignment(self._streams, name, epoch=self._epoch, after=start)
                    before, digests = short.get(name, (reached.position, b""))
                    self._waiting.setdefault(name, []).append((before, digests, reached))
                    self._entries += len(digests) // ENTRY_BYTES
        self._before = seal.streams
        if self._entries >= WINDOW_ENTRIES:
            self.flush()

    def flush(self) -> None:
        """Verify the entries of the seals taken so far."""
        for name, pieces in self._waiting.items():
            alignment = self.alignments[name]
            for before, short, reached in pieces:
                already = alignment.checked
                alignment.sealed(before, short, reached)
                self.done += alignment.checked - already
                self._progress(self.done, self._total)
        self._waiting, self._entries = {}, 0
