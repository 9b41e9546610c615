"""Documents and heads of one stream folded again, past entries that nothing can be made of."""

from collections.abc import Callable, Collection, Iterator

from events.envelope import Envelope
from events.log.codec import decode_entry
from events.log.documents import Documents, documents_of, encoded
from events.log.entries import RawEntry, number_of
from events.log.errors import UnreadableFact
from events.log.port import Fact


class Folding:
    """The documents and heads of one stream, without what was left out or does not fold."""

    def __init__(self, stream: str, entries: Callable[[], Iterator[RawEntry]], left_out: Collection[int]) -> None:
        self._stream, self._entries = stream, entries
        self._left_out = set(left_out)
        self.heads: dict[str, bytes] = {}
        self.unfolded: list[str] = []
        self.at = 0

    def run(self) -> dict[str, bytes]:
        """Fold the stream, without entries that nothing can be made of, as its partition stops there, too."""
        while (documents := self._folded()) is None:
            pass
        heads = {subject: documents.head(subject) for subject in documents.subjects()}
        self.heads = {subject: b"%d:%d" % (head.version, head.generation) for subject, head in heads.items()}
        return encoded(documents)

    def _folded(self) -> Documents | None:
        documents, self.at = documents_of(number_of(self._stream)), 0
        for envelope in self._facts():
            try:
                documents.fold(envelope)
            except (AssertionError, KeyError):
                # It changed nothing. All facts of a device whose registration is lost end here, and may be many.
                self._note(envelope.position)
            except Exception:  # noqa: BLE001 - whatever it is, it may have left a half of something: once more without it
                self._note(envelope.position)
                return None
        return documents

    def _note(self, position: int) -> None:
        self._left_out.add(position)
        self.unfolded.append(f"{self._stream}:{position}")

    def _facts(self) -> Iterator[Envelope[Fact]]:
        for entry in self._entries():
            at = entry.fields.get(b"at", b"")
            # A damaged entry may say anything; what comes after it may not be given an older time all the same.
            self.at = max(self.at, int(at) if at.isdigit() else 0)
            if entry.position in self._left_out:
                continue
            try:
                yield decode_entry(self._stream, entry.position, entry.fields)
            except UnreadableFact:
                self._note(entry.position)
