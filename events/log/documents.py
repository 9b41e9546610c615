"""The documents that stand as snapshots, applied from the events of a stream: for replay, restore, reads of the past, snapshots."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast, get_args

import msgspec

from events import canonical
from events.device import state as device_state
from events.device.events import DeviceEvent, ModuleDeleted
from events.device.identifiers import module_subject
from events.device.state import DeviceDocument, ModuleDocument, OpenTwin, TwinEvent, current_module
from events.envelope import Envelope
from events.fleet.errors import CannotApply
from events.log.concepts import BY_EVENT
from events.log.events import LogEvent
from events.log.keys import FLEET, device_of
from events.log.port import Event, Head, Stored

_OPEN_BYTES_MAX = 16 << 20
"""How much JSON of open twins is held as objects, which take some five times as much."""
_OPEN_BYTES = 100
_OF_TWINS = frozenset(get_args(TwinEvent))


class _HeadStatus(msgspec.Struct, frozen=True):
    """What a kept document says of its subject's head."""

    version: int
    generation: int
    retired: bool = False


class FleetDocuments:
    """The documents of the fleet's stream from its first event on, and how many events each subject has."""

    def __init__(self) -> None:
        self._versions: dict[str, int] = {}
        self._documents: dict[str, Any] = {}

    def apply(self, envelope: Envelope[Event]) -> None:
        """Apply the next event of the stream.

        Raises:
            AssertionError, KeyError: it does not follow from the ones before it; nothing is changed.
        """
        if not isinstance(envelope.event, LogEvent):
            decider = BY_EVENT[type(envelope.event)]
            assert decider.is_of_fleet, "the fleet's stream has no other events"
            before = self._documents.get(envelope.subject)
            after = decider.evolve(before, envelope.event, envelope.version, envelope.at, str(envelope.by))
            self._documents[envelope.subject] = after
        self._versions[envelope.subject] = envelope.version

    def apply_all(self, events: Iterable[Envelope[Event]]) -> None:
        """Apply the next events of the stream, in their order.

        Raises:
            CannotApply: one does not follow from those before it.
        """
        _apply_each(self.apply, events, fleet=True)

    def subjects(self) -> Iterable[str]:
        """Everybody who has an event."""
        return self._versions.keys()

    def documented(self) -> list[str]:
        """Whoever has a document, sorted."""
        return sorted(subject for subject, document in self._documents.items() if document is not None)

    def head(self, subject: str) -> Head:
        """Where a subject stands."""
        return Head(self._versions.get(subject, 0))

    def document(self, subject: str) -> bytes | None:
        """The document of a subject, as its snapshot is to be; `None` where it has none, or no longer."""
        document = self._documents.get(subject)
        return None if document is None else canonical.encode(document)

    def stored(self, subject: str) -> Stored:
        """As `Log.load` answers; of a subject that has no document, its head counts no events."""
        return _stored(self, subject)


class DeviceDocuments:
    """The documents of a partition's devices and their modules, and where each subject stands."""

    def __init__(self, kept: Mapping[str, bytes] | None = None) -> None:
        """`kept` are documents by subject at some position, to go on from; without them it begins with the first event.

        Of a module whose document is gone there, nobody knows how many events it had.
        """
        self._kept = dict(kept or {})
        """Those that no event has come to yet."""
        self._devices: dict[str, DeviceDocument] = {}
        self._modules: dict[str, ModuleDocument] = {}
        self._module_versions: dict[str, int] = {}
        """How many events each module has; its document can be gone."""
        self._open_devices: dict[str, OpenTwin[DeviceDocument]] = {}
        self._open_modules: dict[str, OpenTwin[ModuleDocument]] = {}
        self._weight = 0

    def apply(self, envelope: Envelope[Event]) -> None:
        """Apply the next event of the partition; those of devices that nobody asks for may be left out.

        Raises:
            AssertionError, KeyError: it does not follow from the ones before it; nothing is changed.
        """
        subject, event = envelope.subject, envelope.event
        twin: OpenTwin[DeviceDocument] | OpenTwin[ModuleDocument]
        if "/" in subject:
            if type(event) not in _OF_TWINS:
                raise AssertionError(subject)
            twin = self._open_module(subject)
            self._module_versions[subject] = envelope.version
        elif type(event) in _OF_TWINS:
            twin = self._open_devices.get(subject) or self._open_device(subject)
        else:
            self._apply_identity(envelope)
            return
        weight = twin.weight
        twin.apply(cast("TwinEvent", event), version=envelope.version, at=envelope.at)
        self._weight += twin.weight - weight
        if self._weight > _OPEN_BYTES_MAX:
            self._close_all()

    def apply_all(self, events: Iterable[Envelope[Event]]) -> None:
        """Apply the next events of the partition, in their order; several threads may read afterwards.

        Raises:
            CannotApply: one does not follow from those before it.
        """
        _apply_each(self.apply, events, fleet=False)
        self._close_all()

    def _apply_identity(self, envelope: Envelope[Event]) -> None:
        subject, event = envelope.subject, envelope.event
        assert isinstance(event, DeviceEvent), "a partition's stream has no other events"
        former = self._device(subject)
        self._devices[subject] = device_state.evolve_device(former, event, version=envelope.version, at=envelope.at)
        if isinstance(event, ModuleDeleted):
            gone = module_subject(subject, event.module_id)
            for some in (self._open_modules, self._modules, self._kept):
                some.pop(gone, None)

    def _open_device(self, subject: str) -> OpenTwin[DeviceDocument]:
        found = self._open_devices[subject] = OpenTwin(self._device_now(subject))
        self._weight += _OPEN_BYTES
        return found

    def _open_module(self, subject: str) -> OpenTwin[ModuleDocument]:
        device = self._device_now(device_of(subject))
        found = self._open_modules.get(subject)
        if found is not None and found.generation == device.generation:
            return found
        opened = self._open_modules[subject] = OpenTwin(current_module(self._module(subject), device))
        self._weight += _OPEN_BYTES
        return opened

    def _device_now(self, device_id: str) -> DeviceDocument:
        """Its identity, whatever stands in its twin."""
        if device_id in self._kept:
            self._devices[device_id] = device_state.decode_device(self._kept.pop(device_id))
        return self._devices[device_id]

    def _device(self, subject: str) -> DeviceDocument | None:
        twin = self._open_devices.pop(subject, None)
        if twin is not None:
            self._devices[subject] = twin.close()
        elif subject in self._kept:
            return self._device_now(subject)
        return self._devices.get(subject)

    def _module(self, subject: str) -> ModuleDocument | None:
        twin = self._open_modules.pop(subject, None)
        if twin is not None:
            self._modules[subject] = twin.close()
        elif subject in self._kept:
            found = device_state.decode_module(self._kept.pop(subject))
            self._modules[subject], self._module_versions[subject] = found, found.version
        return self._modules.get(subject)

    def _close_all(self) -> None:
        self._devices.update({subject: twin.close() for subject, twin in self._open_devices.items()})
        self._modules.update({subject: twin.close() for subject, twin in self._open_modules.items()})
        self._open_devices, self._open_modules, self._weight = {}, {}, 0

    def subjects(self) -> Iterable[str]:
        """Everybody who has an event."""
        return dict.fromkeys((*self._kept, *self._devices, *self._module_versions))

    def documented(self) -> list[str]:
        """Whoever has a document, sorted."""
        return sorted({*self._kept, *self._devices, *self._modules, *self._open_modules})

    def head(self, subject: str) -> Head:
        """Where a subject stands."""
        kept = self._kept.get(subject)
        if kept is not None:
            status = msgspec.json.decode(kept, type=_HeadStatus)
            return Head(status.version, 0 if "/" in subject or status.retired else status.generation)
        if "/" in subject:
            return Head(self._module_versions.get(subject, 0))
        document = self._device(subject)
        return Head() if document is None else Head(document.version, 0 if document.retired else document.generation)

    def document(self, subject: str) -> bytes | None:
        """The document of a subject, as its snapshot is to be; `None` where it has none, or no longer."""
        kept = self._kept.get(subject)
        if kept is not None:
            return kept
        found = self._module(subject) if "/" in subject else self._device(subject)
        return None if found is None else device_state.encode(found)

    def stored(self, subject: str) -> Stored:
        """As `Log.load` answers; of a subject that has no document, its head counts no events."""
        return _stored(self, subject)


Documents = FleetDocuments | DeviceDocuments


def documents_of(stream: int) -> Documents:
    """What applies the events of a stream, from its first on."""
    return FleetDocuments() if stream == FLEET else DeviceDocuments()


def encoded(documents: Documents) -> dict[str, bytes]:
    """All documents by subject."""
    found = {subject: documents.document(subject) for subject in documents.documented()}
    return {subject: document for subject, document in found.items() if document is not None}


def _apply_each(apply: Callable[[Envelope[Event]], None], events: Iterable[Envelope[Event]], *, fleet: bool) -> None:
    for envelope in events:
        try:
            apply(envelope)
        except (AssertionError, KeyError) as error:
            why = f"{type(error).__name__}: {error}"
            raise CannotApply(envelope.position, envelope.subject, why, fleet=fleet) from error


def _stored(documents: Documents, subject: str) -> Stored:
    document = documents.document(subject)
    return Stored() if document is None else Stored(documents.head(subject), document)
