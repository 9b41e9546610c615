"""Documents and heads of one stream replayed again, past entries that nothing can be made of."""

from collections.abc import Callable, Collection, Iterator

from events.envelope import Envelope
from events.log.codec import decode_entry
from events.log.documents import Documents, documents_of, encoded
from events.log.entries import RawEntry, number_of
from events.log.errors import UnreadableEvent
from events.log.port import Event


class StreamReplay:
    """The documents and heads of one stream, without what was left out or does not replay."""

    def __init__(self, stream: str, entries: Callable[[], Iterator[RawEntry]], skipped: Collection[int]) -> None:
        self._stream, self._entries = stream, entries
        self._skipped = set(skipped)
        self.heads: dict[str, bytes] = {}
        self.unapplied: list[str] = []
        self.at = 0

    def run(self) -> dict[str, bytes]:
        """Replay the stream, without entries that nothing can be made of, as its partition stops there, too."""
        while (documents := self._replayed()) is None:
            pass
        heads = {subject: documents.head(subject) for subject in documents.subjects()}
        self.heads = {subject: b"%d:%d" % (head.version, head.generation) for subject, head in heads.items()}
        return encoded(documents)

    def _replayed(self) -> Documents | None:
        documents, self.at = documents_of(number_of(self._stream)), 0
        for envelope in self._events():
            try:
                documents.apply(envelope)
            except (AssertionError, KeyError):
                # It changed nothing. All events of a device whose registration is lost end here, and may be many.
                self._note(envelope.position)
            except Exception:  # noqa: BLE001 - whatever it is, it may have left a half of something: once more without it
                self._note(envelope.position)
                return None
        return documents

    def _note(self, position: int) -> None:
        self._skipped.add(position)
        self.unapplied.append(f"{self._stream}:{position}")

    def _events(self) -> Iterator[Envelope[Event]]:
        for entry in self._entries():
            at = entry.fields.get(b"at", b"")
            # A damaged entry may say anything; what comes after it may not be given an older time all the same.
            self.at = max(self.at, int(at) if at.isdigit() else 0)
            if entry.position in self._skipped:
                continue
            try:
                yield decode_entry(self._stream, entry.position, entry.fields)
            except UnreadableEvent:
                self._note(entry.position)
