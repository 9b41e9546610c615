"""Builds the documents of a stream from its events, as the snapshots in Redis have them: for replay, restore and time travel."""

from collections.abc import Iterable, Mapping
from typing import Any, cast, get_args

import msgspec

from events import canonical
from events.device.events import DeviceEvent, ModuleDeleted
from events.device.identifiers import module_subject
from events.device.state import (
    DeviceDocument,
    ModuleDocument,
    OpenTwin,
    TwinDocument,
    TwinEvent,
    current_module,
    decode_device,
    decode_module,
    evolve_device,
)
from events.envelope import Envelope
from events.fleet.errors import CannotApply
from events.log.concepts import BY_EVENT
from events.log.events import LogEvent
from events.log.keys import FLEET, device_of
from events.log.port import Event, Head, Stored

_OPEN_BYTES_MAX = 16 << 20
"""The limit of JSON in open twins; as Python objects it takes about five times as much memory."""
_OPEN_BYTES = 100
_OF_TWINS = frozenset(get_args(TwinEvent))


class _HeadStatus(msgspec.Struct, frozen=True):
    """The members of a stored document that give its subject's head."""

    version: int
    generation: int
    retired: bool = False


class FleetDocuments:
    """The documents of the fleet's stream from its first event on, and the version of each subject."""

    def __init__(self) -> None:
        self._versions: dict[str, int] = {}
        self._documents: dict[str, Any] = {}

    def apply(self, envelope: Envelope[Event]) -> None:
        """Apply the next event of the stream.

        Raises:
            AssertionError, KeyError: the event does not follow from the events before it; nothing is changed.
        """
        if not isinstance(envelope.event, LogEvent):
            decider = BY_EVENT[type(envelope.event)]
            assert decider.is_of_fleet, "the fleet's stream has no other events"
            before = self._documents.get(envelope.subject)
            after = decider.evolve(before, envelope.event, envelope.version, envelope.at, str(envelope.by))
            self._documents[envelope.subject] = after
        self._versions[envelope.subject] = envelope.version

    def subjects(self) -> Iterable[str]:
        """Every subject that has an event."""
        return self._versions.keys()

    def documented(self) -> list[str]:
        """Every subject that has a document, sorted."""
        return sorted(subject for subject, document in self._documents.items() if document is not None)

    def head(self, subject: str) -> Head:
        """The head of a subject."""
        return Head(self._versions.get(subject, 0))

    def document(self, subject: str) -> bytes | None:
        """The document of a subject in the bytes of its snapshot; `None` if it has none."""
        document = self._documents.get(subject)
        return None if document is None else canonical.encode(document)


class DeviceDocuments:
    """The documents of a partition's devices and modules, and the head of each."""

    def __init__(self, documents: Mapping[str, bytes] | None = None) -> None:
        """`documents` are those of a snapshot, by subject, to continue from; without them, start with the first event.

        A snapshot does not have the versions of modules whose document was deleted before it.
        """
        # Documents stay bytes until an event or a reader needs them: few of a partition's devices change after a snapshot.
        self._undecoded = dict(documents or {})
        self._decoded: dict[str, TwinDocument] = {}
        self._module_versions: dict[str, int] = {}
        """The version of each module, also of one whose document was deleted."""
        self._open: dict[str, OpenTwin[TwinDocument]] = {}
        self._weight = 0

    def apply(self, envelope: Envelope[Event]) -> None:
        """Apply the next event of the partition; the caller may omit all events of a device that it does not need.

        Raises:
            AssertionError, KeyError: the event does not follow from the events before it; nothing is changed.
        """
        subject, event = envelope.subject, envelope.event
        if type(event) not in _OF_TWINS:
            self._apply_identity(envelope)
            return
        twin = self._open.get(subject)
        if "/" in subject:
            device = self._device_now(device_of(subject))
            if twin is None or twin.generation != device.generation:
                module = cast("ModuleDocument | None", self._closed(subject))
                twin = self._opened(subject, current_module(module, device))
            self._module_versions[subject] = envelope.version
        elif twin is None:
            twin = self._opened(subject, self._device_now(subject))
        weight = twin.weight
        twin.apply(cast("TwinEvent", event), version=envelope.version, at=envelope.at)
        self._weight += twin.weight - weight
        if self._weight > _OPEN_BYTES_MAX:
            self.close_all()

    def _apply_identity(self, envelope: Envelope[Event]) -> None:
        subject, event = envelope.subject, envelope.event
        assert isinstance(event, DeviceEvent), "a partition's stream has no other events"
        assert "/" not in subject, "a module's subject has only events of its twin"
        before = cast("DeviceDocument | None", self._closed(subject))
        self._decoded[subject] = evolve_device(before, event, version=envelope.version, at=envelope.at)
        if isinstance(event, ModuleDeleted):
            gone = module_subject(subject, event.module_id)
            for modules in (self._open, self._decoded, self._undecoded):
                modules.pop(gone, None)

    def _opened(self, subject: str, document: TwinDocument) -> OpenTwin[TwinDocument]:
        twin = self._open[subject] = OpenTwin(document)
        self._weight += _OPEN_BYTES
        return twin

    def _device_now(self, device_id: str) -> DeviceDocument:
        """A device with its current identity; its twin may be older, while it is open."""
        if device_id in self._undecoded:
            self._decoded[device_id] = decode_device(self._undecoded.pop(device_id))
        return cast("DeviceDocument", self._decoded[device_id])

    def _closed(self, subject: str) -> TwinDocument | None:
        twin = self._open.pop(subject, None)
        if twin is not None:
            self._decoded[subject] = twin.close()
        elif subject in self._undecoded and "/" in subject:
            module = decode_module(self._undecoded.pop(subject))
            self._decoded[subject], self._module_versions[subject] = module, module.version
        elif subject in self._undecoded:
            return self._device_now(subject)
        return self._decoded.get(subject)

    def close_all(self) -> None:
        """Close all open twins. Reading an open twin closes it, which changes dictionaries; after this, threads may read at once."""
        self._decoded.update({subject: twin.close() for subject, twin in self._open.items()})
        self._open, self._weight = {}, 0

    def subjects(self) -> Iterable[str]:
        """Every subject that has an event."""
        return dict.fromkeys((*self._undecoded, *self._decoded, *self._module_versions))

    def documented(self) -> list[str]:
        """Every subject that has a document, sorted."""
        return sorted({*self._undecoded, *self._decoded, *self._open})

    def head(self, subject: str) -> Head:
        """The head of a subject."""
        untouched = self._undecoded.get(subject)
        if untouched is not None:
            status = msgspec.json.decode(untouched, type=_HeadStatus)
            return Head(status.version, 0 if "/" in subject or status.retired else status.generation)
        if "/" in subject:
            return Head(self._module_versions.get(subject, 0))
        device = cast("DeviceDocument | None", self._closed(subject))
        return Head() if device is None else Head(device.version, 0 if device.retired else device.generation)

    def document(self, subject: str) -> bytes | None:
        """The document of a subject in the bytes of its snapshot; `None` if it has none."""
        untouched = self._undecoded.get(subject)
        if untouched is not None:
            return untouched
        document = self._closed(subject)
        return None if document is None else canonical.encode(document)


Documents = FleetDocuments | DeviceDocuments


def documents_of(stream: int) -> Documents:
    """Empty documents of a stream, to apply its events to from the first one on."""
    return FleetDocuments() if stream == FLEET else DeviceDocuments()


def encoded(documents: Documents) -> dict[str, bytes]:
    """All documents in the bytes of their snapshots, by subject."""
    by_subject = {subject: documents.document(subject) for subject in documents.documented()}
    return {subject: document for subject, document in by_subject.items() if document is not None}


def apply_all(documents: Documents, events: Iterable[Envelope[Event]]) -> None:
    """Apply the next events of the stream, in order.

    Raises:
        CannotApply: an event does not follow from the events before it.
    """
    for envelope in events:
        try:
            documents.apply(envelope)
        except (AssertionError, KeyError) as error:
            why, is_of_fleet = f"{type(error).__name__}: {error}", isinstance(documents, FleetDocuments)
            raise CannotApply(envelope.position, envelope.subject, why, fleet=is_of_fleet) from error
    if isinstance(documents, DeviceDocuments):
        documents.close_all()


def stored(documents: Documents, subject: str) -> Stored:
    """The answer of `Log.load` for a subject, but `Stored()` for one without a document."""
    document = documents.document(subject)
    return Stored() if document is None else Stored(documents.head(subject), document)
