"""The replay of one stream into documents and heads, without entries that cannot be applied."""

from collections.abc import Callable, Collection, Iterator

from events.envelope import Envelope
from events.log.codec import decode_entry
from events.log.documents import Documents, documents_of, encoded
from events.log.entries import RawEntry, number_of
from events.log.errors import UnreadableEvent
from events.log.port import Event


class StreamReplay:
    """The documents and heads of one stream, without entries that operators skipped or that cannot be applied."""

    def __init__(self, stream: str, entries: Callable[[], Iterator[RawEntry]], skipped: Collection[int]) -> None:
        self._stream, self._entries = stream, entries
        self._skipped = set(skipped)
        self.heads: dict[str, bytes] = {}
        self.unapplied: list[str] = []
        self.at = 0

    def run(self) -> dict[str, bytes]:
        """Replay the stream; returns the encoded documents by subject. `unapplied` names the entries that cannot be applied."""
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
                # The event changed nothing, so the replay can continue: without its registration, all events of a device end here.
                self._note(envelope.position)
            except Exception:  # noqa: BLE001 - it may have applied half of the event: replay again without it
                self._note(envelope.position)
                return None
        return documents

    def _note(self, position: int) -> None:
        self._skipped.add(position)
        self.unapplied.append(f"{self._stream}:{position}")

    def _events(self) -> Iterator[Envelope[Event]]:
        for entry in self._entries():
            # The time of a damaged entry counts too: the log's next entry must not get an older one.
            self.at = max(self.at, entry.at)
            if entry.position in self._skipped:
                continue
            try:
                yield decode_entry(self._stream, entry.position, entry.fields)
            except UnreadableEvent:
                self._note(entry.position)
