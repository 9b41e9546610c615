"""One stream held against what was sealed of it, entry by entry: which was changed, dropped, inserted or put elsewhere."""

from collections import deque
from collections.abc import Iterator

from events.audit.fault import Fault, FaultKind
from events.audit.seal import ENTRY_BYTES, Reached
from events.log.entries import RawEntry, digest, genesis, link
from events.log.errors import LogLostItsTail, SegmentDamaged, SegmentMissing
from events.log.raw import RawStreams

READ_AHEAD = 64
"""So far the place is looked for where what is found and what was sealed come together again."""

NAMED_MAX = 1000
"""So many faults of one stream are named; behind them nobody looks for what became of an entry."""


class Alignment:
    """Goes through one stream once, oldest first. What is found is taken in its order; its own positions prove nothing."""

    def __init__(self, streams: RawStreams, stream: str, *, epoch: str, after: Reached | None = None) -> None:
        """Begin behind a sealed place, or at the beginning."""
        self.stream = stream
        self.position = 0 if after is None else after.position
        self.checked = 0
        self._chain: bytes | None = genesis(epoch, stream) if after is None else bytes.fromhex(after.chain)
        self._found = self._entries(streams, self.position)
        self._lost: list[tuple[int, int]] = []
        self._ahead: deque[RawEntry] = deque()
        self._faults: list[Fault] = []
        self._dropped: dict[int, bytes] = {}
        self._inserted: list[RawEntry] = []

    def sealed(self, before: int, short: bytes, upto: Reached) -> None:
        """Hold the entries behind `before` up to a sealed place against their shortened digests; the chain alone speaks for others."""
        chain = bytes.fromhex(upto.chain)
        if upto.position <= self.position:
            # Nobody seals what is sealed, but a sealer that was made to begin further back.
            if upto.position < self.position or chain != self._chain:
                self._fault(
                    FaultKind.CHANGED, upto.position, self.position, "was sealed twice: a seal between was forged"
                )
            return
        start, self._is_whole = self.position, True
        self._follow(before)
        self._compare(short[(self.position - before) * ENTRY_BYTES :], upto.position)
        if self._is_whole and self._chain is not None and self._chain != chain:
            self._fault(
                FaultKind.CHANGED, start + 1, upto.position, "one of these is not what was sealed: the chain says so"
            )
        self._chain, self.position = chain, upto.position

    def faults(self) -> list[Fault]:
        """What was found, with what was taken out at one place and put in at another as one."""
        moved: dict[int, RawEntry] = {}
        for entry in self._inserted:
            for position, short in self._dropped.items():
                if position not in moved and self._digest(entry, position)[:ENTRY_BYTES] == short:
                    moved[position] = entry
                    break
        elsewhere = {entry.position for entry in moved.values()}
        found = [
            *self._faults,
            *(
                Fault(
                    FaultKind.REORDERED,
                    f"{self.stream}:{position}",
                    f"was sealed here, and stands at {entry.position} now",
                )
                for position, entry in moved.items()
            ),
            *(
                Fault(FaultKind.DROPPED, f"{self.stream}:{position}", "was sealed, and is no longer there")
                for position in self._dropped
                if position not in moved
            ),
            *(
                Fault(
                    FaultKind.INSERTED, f"{self.stream}:{entry.position}", "was never sealed, and stands among what was"
                )
                for entry in self._inserted
                if entry.position not in elsewhere
            ),
        ]
        return found[:NAMED_MAX]

    def _compare(self, short: bytes, upto: int) -> None:
        first = self.position + 1
        assert len(short) == (upto - self.position) * ENTRY_BYTES
        while self.position < upto:
            entry = self._peek()
            if self._lost and self._skip(upto):
                continue
            position = self.position + 1
            at = (position - first) * ENTRY_BYTES
            if entry is None:
                self._missing(upto)
                return
            one = digest(self.stream, entry) if entry.position == position else self._digest(entry, position)
            if one[:ENTRY_BYTES] == short[at : at + ENTRY_BYTES]:
                self._take(one)
            else:
                self._part(short[at : at + READ_AHEAD * ENTRY_BYTES])

    def _follow(self, upto: int) -> None:
        while self.position < upto:
            entry = self._peek()
            if self._lost and self._skip(upto):
                continue
            if entry is None:
                self._missing(upto)
                return
            self._take(self._digest(entry, self.position + 1))

    def _take(self, one: bytes) -> None:
        self._ahead.popleft()
        self.position += 1
        self.checked += 1
        if self._chain is not None:
            self._chain = link(self._chain, one)

    def _part(self, short: bytes) -> None:
        """Take what does not fit, up to where it fits again, and note what became of it."""
        if len(self._faults) + len(self._dropped) + len(self._inserted) >= NAMED_MAX:
            # Looking around each of millions, as where one stream stands for another, would take days.
            self._is_whole, self._chain = False, None
            self._ahead.popleft()
            self.position += 1
            self.checked += 1
            return
        sealed = [short[at : at + ENTRY_BYTES] for at in range(0, len(short), ENTRY_BYTES)]
        self._look()
        gone, come = self._together_again(sealed)
        self._is_whole, self._chain = False, None
        both = min(gone, come)
        for index in range(both):
            self._fault(
                FaultKind.CHANGED, self.position + 1 + index, self.position + 1 + index, "is not what was sealed"
            )
        for index in range(both, gone):
            self._dropped[self.position + 1 + index] = sealed[index]
        taken = [self._ahead.popleft() for _ in range(come)]
        self._inserted += taken[both:]
        self.position += gone
        self.checked += come

    def _together_again(self, sealed: list[bytes]) -> tuple[int, int]:
        """How many sealed ones, and how many found ones, are left behind: as few as can be."""
        for both in range(1, len(sealed) + len(self._ahead)):
            for gone in range(max(0, both - len(self._ahead) + 1), min(both, len(sealed) - 1) + 1):
                here = self._digest(self._ahead[both - gone], self.position + 1 + gone)
                if here[:ENTRY_BYTES] == sealed[gone]:
                    return gone, both - gone
        return 1, 1

    def _entries(self, streams: RawStreams, after: int) -> Iterator[RawEntry]:
        """The entries of the stream in their order, whatever is missing between them."""
        while True:
            try:
                for entry in streams.entries(self.stream, after=after):
                    yield entry
                    after = entry.position
            except LogLostItsTail as error:
                # What stands before it in the same batch was not answered.
                for entry in streams.read(self.stream, after=after, limit=error.expected - 1 - after):
                    yield entry
                after = error.actual - 1
                if error.actual < error.expected:
                    self._odd(error.actual)
                    after = error.expected - 1
            except (SegmentDamaged, SegmentMissing) as error:
                first = max(error.first, after + 1)
                self._lost.append((first, error.last))
                self._fault(FaultKind.SEGMENT, first, error.last, f"cannot be looked at: {error}")
                after = error.last
            else:
                return

    def _skip(self, upto: int) -> bool:
        """Go past what a file of the archive would have had."""
        for first, last in self._lost:
            if first <= self.position + 1 <= last:
                self.position, self._is_whole, self._chain = min(last, upto), False, None
                return True
        return False

    def _odd(self, position: int) -> None:
        self._is_whole = False
        self._fault(FaultKind.INSERTED, position, position, "has another behind it that has no position of its own")

    def _missing(self, upto: int) -> None:
        self._fault(FaultKind.MISSING, self.position + 1, upto, "sealed, and missing at the end of the stream")
        self._is_whole, self.position = False, upto

    def _digest(self, entry: RawEntry, position: int) -> bytes:
        return digest(self.stream, RawEntry(position, entry.fields))

    def _peek(self) -> RawEntry | None:
        if not self._ahead:
            entry = next(self._found, None)
            if entry is None:
                return None
            self._ahead.append(entry)
        return self._ahead[0]

    def _look(self) -> None:
        while len(self._ahead) < READ_AHEAD:
            entry = next(self._found, None)
            if entry is None:
                return
            self._ahead.append(entry)

    def _fault(self, kind: FaultKind, first: int, last: int, what: str) -> None:
        location = f"{self.stream}:{first}" if first == last else f"{self.stream}:{first}-{last}"
        self._faults.append(Fault(kind, location, what))
