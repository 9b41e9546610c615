"""The comparison of one stream with its seals, entry by entry: which were changed, dropped, inserted or moved."""

import enum
from collections import deque
from collections.abc import Iterator
from itertools import islice

import msgspec

from events.audit.seal import ENTRY_BYTES, Reached
from events.log.entries import RawEntry, digest, genesis, link
from events.log.errors import LogLostItsTail, SegmentDamaged, SegmentMissing
from events.log.raw import RawStreams

READ_AHEAD = 64
"""How many entries are searched for the next entry that matches its seal again."""

NAMED_MAX = 1000
"""The most faults of one stream that are named; after that, entries are no longer matched with their new places."""


class FaultKind(enum.Enum):
    """Kinds of faults: of entries, of the archive's files, and of seals."""

    CHANGED = "changed"
    DROPPED = "dropped"
    REORDERED = "reordered"
    INSERTED = "inserted"
    MISSING = "missing"
    SEGMENT = "segment"
    SEAL_CHANGED = "seal-changed"
    SEAL_DROPPED = "seal-dropped"
    SEAL_INSERTED = "seal-inserted"
    SEAL_SIGNATURE = "seal-signature"


class Fault(msgspec.Struct, frozen=True):
    """A fault: `location` is `p03:17`, `p03:17-20` or `seal 5`, `what` the rest of the sentence."""

    kind: FaultKind
    location: str
    what: str


class Alignment:
    """Reads one stream once, oldest first. Entries count in their order: an attacker can also change their positions."""

    def __init__(self, streams: RawStreams, stream: str, *, epoch: str, after: Reached | None = None) -> None:
        """Begin after a sealed position, or at the beginning of the stream."""
        self.stream = stream
        self.position = 0 if after is None else after.position
        self.checked = 0
        self._chain: bytes | None = genesis(epoch, stream) if after is None else bytes.fromhex(after.chain)
        self._unread = self._entries(streams, self.position)
        self._lost, self._ahead = list[tuple[int, int]](), deque[RawEntry]()
        self._faults, self._dropped, self._inserted = list[Fault](), dict[int, bytes](), list[RawEntry]()

    def sealed(self, before: int, short: bytes, upto: Reached) -> None:
        """Compare the entries after `before` with their shortened digests; the chain's value alone covers earlier entries."""
        chain = bytes.fromhex(upto.chain)
        if upto.position <= self.position:
            # Only a sealer that was made to begin further back seals a position twice.
            if upto.position < self.position or chain != self._chain:
                what = "was sealed twice: a seal between was forged"
                self._fault(FaultKind.CHANGED, what, upto.position, self.position)
            return
        start, self._is_whole = self.position, True
        self._advance(before)
        self._advance(upto.position, short[(self.position - before) * ENTRY_BYTES :])
        if self._is_whole and self._chain is not None and self._chain != chain:
            what = "at least one of these differs from the sealed entries, by the chain's value"
            self._fault(FaultKind.CHANGED, what, start + 1, upto.position)
        self._chain, self.position = chain, upto.position

    def faults(self) -> list[Fault]:
        """Returns the faults; an entry that was dropped at one position and inserted at another counts as moved."""
        moved: dict[int, RawEntry] = {}
        for entry in self._inserted:
            for position, short in self._dropped.items():
                if position not in moved and self._digest(entry, position)[:ENTRY_BYTES] == short:
                    moved[position] = entry
                    break
        elsewhere = {entry.position for entry in moved.values()}
        dropped = [position for position in self._dropped if position not in moved]
        inserted = [entry.position for entry in self._inserted if entry.position not in elsewhere]
        unmatched = [
            *((FaultKind.REORDERED, at, f"was sealed here, and is now at {moved[at].position}") for at in moved),
            *((FaultKind.DROPPED, at, "was sealed, and is missing") for at in dropped),
            *((FaultKind.INSERTED, at, "was never sealed, and is among sealed entries") for at in inserted),
        ]
        return [*self._faults, *(Fault(kind, f"{self.stream}:{at}", what) for kind, at, what in unmatched)][:NAMED_MAX]

    def _advance(self, upto: int, short: bytes | None = None) -> None:
        """Read the entries up to a position; compare them with their shortened digests, if there are any."""
        start = self.position
        assert short is None or len(short) == (upto - start) * ENTRY_BYTES
        while self.position < upto:
            self._read_ahead(1)
            entry = self._ahead[0] if self._ahead else None
            if self._lost and self._skip(upto):
                continue
            if entry is None:
                what = "was sealed, and is missing at the end of the stream"
                self._fault(FaultKind.MISSING, what, self.position + 1, upto)
                self._is_whole, self.position = False, upto
                return
            entry_digest = self._digest(entry, self.position + 1)
            at = (self.position - start) * ENTRY_BYTES
            if short is not None and entry_digest[:ENTRY_BYTES] != short[at : at + ENTRY_BYTES]:
                self._resynchronize(short[at : at + READ_AHEAD * ENTRY_BYTES])
                continue
            self._ahead.popleft()
            self.position += 1
            self.checked += 1
            if self._chain is not None:
                self._chain = link(self._chain, entry_digest)

    def _resynchronize(self, short: bytes) -> None:
        """Skip entries that do not match, up to the next match, and record them as changed, dropped or inserted."""
        self._is_whole, self._chain = False, None
        if len(self._faults) + len(self._dropped) + len(self._inserted) >= NAMED_MAX:
            # Searching around each of millions of entries, as with a stream that replaces another, would take days.
            self._ahead.popleft()
            self.position += 1
            self.checked += 1
            return
        sealed = [short[at : at + ENTRY_BYTES] for at in range(0, len(short), ENTRY_BYTES)]
        self._read_ahead(READ_AHEAD)
        dropped, inserted = self._next_match(sealed)
        changed = min(dropped, inserted)
        # As many changes as possible: an entry that was edited in place is one fault, not a drop and an insertion.
        for index in range(changed):
            position = self.position + 1 + index
            self._fault(FaultKind.CHANGED, "differs from the sealed entry", position)
        for index in range(changed, dropped):
            self._dropped[self.position + 1 + index] = sealed[index]
        skipped = [self._ahead.popleft() for _ in range(inserted)]
        self._inserted += skipped[changed:]
        self.position += dropped
        self.checked += inserted

    def _next_match(self, sealed: list[bytes]) -> tuple[int, int]:
        """How many sealed and how many present entries to skip until two match: the smallest sum."""
        for skipped in range(1, len(sealed) + len(self._ahead)):
            for dropped in range(max(0, skipped - len(self._ahead) + 1), min(skipped, len(sealed) - 1) + 1):
                present = self._digest(self._ahead[skipped - dropped], self.position + 1 + dropped)
                if present[:ENTRY_BYTES] == sealed[dropped]:
                    return dropped, skipped - dropped
        return 1, 1

    def _entries(self, streams: RawStreams, after: int) -> Iterator[RawEntry]:
        """The entries of the stream in their order, across gaps."""
        while True:
            try:
                for entry in streams.entries(self.stream, after=after):
                    yield entry
                    after = entry.position
            except LogLostItsTail as error:
                # The failed read did not return the entries of its batch before the gap.
                for entry in streams.read(self.stream, after=after, limit=error.expected - 1 - after):
                    yield entry
                after = error.actual - 1
                if error.actual < error.expected:
                    self._is_whole = False
                    what = "is followed by an entry without a position of its own"
                    self._fault(FaultKind.INSERTED, what, error.actual)
                    after = error.expected - 1
            except (SegmentDamaged, SegmentMissing) as error:
                first = max(error.first, after + 1)
                self._lost.append((first, error.last))
                self._fault(FaultKind.SEGMENT, f"cannot be checked: {error}", first, error.last)
                after = error.last
            else:
                return

    def _skip(self, upto: int) -> bool:
        """Skip the positions of an archive file that cannot be read."""
        for first, last in self._lost:
            if first <= self.position + 1 <= last:
                self.position, self._is_whole, self._chain = min(last, upto), False, None
                return True
        return False

    def _digest(self, entry: RawEntry, position: int) -> bytes:
        return digest(self.stream, entry if entry.position == position else RawEntry(position, entry.fields))

    def _read_ahead(self, count: int) -> None:
        self._ahead.extend(islice(self._unread, max(0, count - len(self._ahead))))

    def _fault(self, kind: FaultKind, what: str, first: int, last: int | None = None) -> None:
        location = f"{self.stream}:{first}" if last in {None, first} else f"{self.stream}:{first}-{last}"
        self._faults.append(Fault(kind, location, what))
