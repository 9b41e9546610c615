"""The documents that stand as snapshots, folded again from the facts alone."""

from collections.abc import Iterable
from typing import cast

from events.access import state as access_state
from events.access.facts import AccessFact
from events.access.state import AccessDocument
from events.deployment import state as deployment_state
from events.deployment.facts import DeploymentFact
from events.deployment.state import DeploymentDocument
from events.device import state as device_state
from events.device.facts import DeviceFact, DeviceRegistered, DeviceRetired, ModuleDeleted
from events.device.identifiers import module_subject
from events.device.state import DeviceDocument, ModuleDocument
from events.envelope import Envelope
from events.log.facts import LogFact
from events.log.keys import device_of
from events.log.port import Fact, Head
from events.readiness import state as readiness_state
from events.readiness.facts import WaiverFact
from events.readiness.state import WaiverDocument
from events.rollout import state as rollout_state
from events.rollout.facts import RolloutFact
from events.rollout.state import RolloutDocument
from events.update import state as update_state
from events.update.facts import GroupFact, UpdateFact
from events.update.state import GroupDocument, UpdateDocument
from events.webhook import state as webhook_state
from events.webhook.facts import WebhookFact
from events.webhook.state import WebhookDocument

FleetDocument = (
    DeploymentDocument
    | RolloutDocument
    | UpdateDocument
    | GroupDocument
    | AccessDocument
    | WaiverDocument
    | WebhookDocument
)


class FleetDocuments:
    """The documents of the fleet's stream, and how many facts each subject has."""

    def __init__(self) -> None:
        self._versions: dict[str, int] = {}
        self._documents: dict[str, FleetDocument | None] = {}

    def fold(self, envelope: Envelope[Fact]) -> None:
        """Fold the next fact of the stream."""
        self._versions[envelope.subject] = envelope.version
        if not isinstance(envelope.fact, LogFact):
            self._documents[envelope.subject] = _evolved(self._documents.get(envelope.subject), envelope)

    def subjects(self) -> Iterable[str]:
        """Everybody who has a fact."""
        return self._versions.keys()

    def head(self, subject: str) -> Head:
        """Where a subject stands."""
        return Head(self._versions.get(subject, 0))

    def document(self, subject: str) -> bytes | None:
        """The document of a subject, as its snapshot is to be; `None` where it has none, or no longer."""
        document = self._documents.get(subject)
        return None if document is None else _encoded(document)


class DeviceDocuments:
    """The documents of a partition's devices and their modules, and where each subject stands."""

    def __init__(self) -> None:
        self._heads: dict[str, Head] = {}
        self._devices: dict[str, DeviceDocument] = {}
        self._modules: dict[str, ModuleDocument] = {}

    def fold(self, envelope: Envelope[Fact]) -> None:
        """Fold the next fact of the partition."""
        subject, version, at = envelope.subject, envelope.version, envelope.at
        fact = cast("DeviceFact", envelope.fact)
        if "/" in subject:
            self._heads[subject] = Head(version)
            self._modules[subject] = device_state.evolve_module(
                self._modules.get(subject),
                fact,
                generation=self._devices[device_of(subject)].generation,
                version=version,
                at=at,
            )
            return
        document = device_state.evolve_device(self._devices.get(subject), fact, version=version, at=at)
        self._devices[subject] = document
        generation = self._heads[subject].generation if subject in self._heads else 0
        if isinstance(fact, DeviceRegistered):
            generation = document.generation
        elif isinstance(fact, DeviceRetired):
            generation = 0
        elif isinstance(fact, ModuleDeleted):
            self._modules.pop(module_subject(subject, fact.module_id), None)
        self._heads[subject] = Head(version, generation)

    def subjects(self) -> Iterable[str]:
        """Everybody who has a fact."""
        return self._heads.keys()

    def head(self, subject: str) -> Head:
        """Where a subject stands."""
        return self._heads.get(subject, Head())

    def document(self, subject: str) -> bytes | None:
        """The document of a subject, as its snapshot is to be; `None` where it has none, or no longer."""
        found = self._modules.get(subject) if "/" in subject else self._devices.get(subject)
        return None if found is None else device_state.encode(found)


Documents = FleetDocuments | DeviceDocuments


def refold(facts: Iterable[Envelope[Fact]]) -> dict[str, bytes]:
    """Every document of one stream by its subject, from the stream's first fact on; equal to its snapshots, byte for byte."""
    devices, fleet = DeviceDocuments(), FleetDocuments()
    for envelope in facts:
        if isinstance(envelope.fact, DeviceFact):
            devices.fold(envelope)
        else:
            fleet.fold(envelope)
    found = {subject: one.document(subject) for one in (devices, fleet) for subject in one.subjects()}
    return {subject: document for subject, document in found.items() if document is not None}


def _evolved(document: FleetDocument | None, envelope: Envelope[Fact]) -> FleetDocument | None:
    fact, version, at = envelope.fact, envelope.version, envelope.at
    if isinstance(fact, DeploymentFact):
        return deployment_state.evolve(cast("DeploymentDocument | None", document), fact, version=version, at=at)
    if isinstance(fact, RolloutFact):
        return rollout_state.evolve(cast("RolloutDocument | None", document), fact, version=version, at=at)
    if isinstance(fact, UpdateFact):
        return update_state.evolve_update(fact, version=version, at=at)
    if isinstance(fact, GroupFact):
        return update_state.evolve_group(cast("GroupDocument | None", document), fact, version=version, at=at)
    if isinstance(fact, AccessFact):
        return access_state.evolve(fact, version=version, at=at)
    if isinstance(fact, WaiverFact):
        return readiness_state.evolve(fact, version=version, at=at, by=str(envelope.by))
    assert isinstance(fact, WebhookFact), "the fleet's stream has no other facts"
    return webhook_state.evolve(cast("WebhookDocument | None", document), fact, version=version, at=at)


def _encoded(document: FleetDocument) -> bytes:
    match document:
        case DeploymentDocument():
            return deployment_state.encode(document)
        case RolloutDocument():
            return rollout_state.encode(document)
        case UpdateDocument() | GroupDocument():
            return update_state.encode(document)
        case WaiverDocument():
            return readiness_state.encode(document)
        case WebhookDocument():
            return webhook_state.encode(document)
        case _:
            return access_state.encode(document)
