"""The documents that commands are decided on: loaded in few round trips, and decoded when they are first read."""

from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from typing_extensions import override

from events.log.concepts import decode_of_device, decode_of_fleet
from events.log.port import Head, Log, Proposed, Stored

_UNKNOWN = Stored()


class LoadedDocuments(Mapping[str, Any]):
    """Loaded documents by subject, of the fleet or of devices; `None` for a subject without one."""

    def __init__(self, *, fleet: bool) -> None:
        self._fleet = fleet
        self._decode: Callable[[str, bytes], Any] = decode_of_fleet if fleet else decode_of_device
        self._stored: MutableMapping[str, Stored] = {}
        self._documents: MutableMapping[str, Any] = {}

    def load(self, log: Log, subjects: Iterable[str]) -> bool:
        """Load the subjects that are not loaded yet; returns whether there were any.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        names = [subject for subject in dict.fromkeys(subjects) if subject not in self._stored]
        if names:
            self._stored.update(zip(names, log.load(names, fleet=self._fleet), strict=True))
        return bool(names)

    def head(self, subject: str) -> Head:
        """The head of a subject; `Head()` if it was not loaded."""
        return self.stored(subject).head

    def stored(self, subject: str) -> Stored:
        """What the log has of a subject; `Stored()` if it was not loaded."""
        return self._stored.get(subject, _UNKNOWN)

    def over(self) -> "LoadedDocuments":
        """A copy to `put` changes into; this one does not change."""
        # Layered, not copied: each command of a `Together` gets one, and a batch can have loaded a thousand documents.
        over = LoadedDocuments(fleet=self._fleet)
        over._stored, over._documents = ChainMap({}, self._stored), ChainMap({}, self._documents)
        return over

    def put(self, proposed: Proposed) -> None:
        """Replace the documents and heads of the subjects that a proposed event changes."""
        for subject, snapshot in proposed.snapshots:
            self._stored[subject] = stored_after(proposed, subject, self.stored(subject))
            self._documents[subject] = None if snapshot is None else self._decode(subject, snapshot)

    @override
    def __getitem__(self, subject: str) -> Any:
        if subject not in self._documents:
            data = self._stored[subject].snapshot
            self._documents[subject] = None if data is None else self._decode(subject, data)
        return self._documents[subject]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    @override
    def __len__(self) -> int:
        return len(self._stored)


def stored_after(proposed: Proposed, subject: str, before: Stored) -> Stored:
    """What the log has of a subject after a proposed event, with AT_APPEND in the place of the event's time."""
    for name, snapshot in proposed.snapshots:
        if name == subject:
            if subject != proposed.subject:
                return Stored(before.head, snapshot)
            generation = before.head.generation if proposed.generation is None else proposed.generation
            return Stored(Head(proposed.expected_version + 1, generation), snapshot)
    return before


LoadedState = dict[bool, LoadedDocuments]
"""The documents of the fleet (true) and of devices (false), apart: a deployment and a device can have the same id."""
