"""The documents that stand as snapshots, folded from the facts of a stream."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from events import canonical
from events.access import state as access_state
from events.access.facts import AccessFact
from events.deployment import state as deployment_state
from events.deployment.facts import DeploymentFact
from events.device import state as device_state
from events.device.facts import ModuleDeleted
from events.device.identifiers import module_subject
from events.device.state import DeviceDocument, ModuleDocument
from events.envelope import Envelope
from events.log.facts import LogFact
from events.log.keys import device_of
from events.log.port import Fact, Head, Stored
from events.readiness import state as readiness_state
from events.readiness.facts import WaiverFact
from events.rollout import state as rollout_state
from events.rollout.facts import RolloutFact
from events.update import state as update_state
from events.update.facts import GroupFact, UpdateFact
from events.webhook import state as webhook_state
from events.webhook.facts import WebhookFact


class _Standing(msgspec.Struct, frozen=True):
    """What a document says of its subject's head."""

    version: int = 0
    generation: int = 0
    retired: bool = False


class Documents:
    """Every document of one stream, as far as its facts are folded.

    `kept` are the documents of a partition's devices and modules at some position, to go on from; the fleet's are folded
    from its first fact on.
    """

    def __init__(self, kept: Mapping[str, bytes] | None = None) -> None:
        self._kept = dict(kept or {})
        self._standing: dict[str, Any] = {}

    def fold(self, facts: Iterable[Envelope[Fact]]) -> None:
        """Fold facts of the stream, in their order; those of subjects that nobody asks for may be left out."""
        for envelope in facts:
            self._fold(envelope)

    def subjects(self) -> list[str]:
        """Whoever has a document, sorted."""
        gone = {subject for subject, document in self._standing.items() if document is None}
        return sorted((self._kept.keys() | self._standing.keys()) - gone)

    def get(self, subject: str) -> bytes | None:
        """The document of a subject, in the bytes of its snapshot; `None` where it has none."""
        if subject not in self._standing:
            return self._kept.get(subject)
        document = self._standing[subject]
        return None if document is None else _encode(document)

    def stored(self, subject: str) -> Stored:
        """As `Log.load` answers; of a subject that is gone, its head counts no facts."""
        data = self.get(subject)
        if data is None:
            return Stored()
        standing = msgspec.json.decode(data, type=_Standing)
        is_device = "/" not in subject and not standing.retired
        return Stored(Head(standing.version, standing.generation if is_device else 0), data)

    def encoded(self) -> dict[str, bytes]:
        """All documents by subject."""
        folded = {subject: _encode(one) for subject, one in self._standing.items() if one is not None}
        rest = {subject: data for subject, data in self._kept.items() if subject not in self._standing}
        return {**rest, **folded}

    def _fold(self, envelope: Envelope[Fact]) -> None:
        subject, version, at, fact = envelope.subject, envelope.version, envelope.at, envelope.fact
        now = self._standing
        if isinstance(fact, DeploymentFact):
            now[subject] = deployment_state.evolve(now.get(subject), fact, version=version, at=at)
        elif isinstance(fact, RolloutFact):
            now[subject] = rollout_state.evolve(now.get(subject), fact, version=version, at=at)
        elif isinstance(fact, UpdateFact):
            now[subject] = update_state.evolve_update(fact, version=version, at=at)
        elif isinstance(fact, GroupFact):
            now[subject] = update_state.evolve_group(now.get(subject), fact, version=version, at=at)
        elif isinstance(fact, AccessFact):
            now[subject] = access_state.evolve(fact, version=version, at=at)
        elif isinstance(fact, WaiverFact):
            now[subject] = readiness_state.evolve(fact, version=version, at=at, by=str(envelope.by))
        elif isinstance(fact, WebhookFact):
            now[subject] = webhook_state.evolve(now.get(subject), fact, version=version, at=at)
        elif isinstance(fact, LogFact):
            return
        elif "/" in subject:
            device = self._device(device_of(subject))
            assert device is not None, subject
            now[subject] = device_state.evolve_module(
                self._module(subject), fact, generation=device.generation, version=version, at=at
            )
        else:
            now[subject] = device_state.evolve_device(self._device(subject), fact, version=version, at=at)
            if isinstance(fact, ModuleDeleted):
                now[module_subject(subject, fact.module_id)] = None

    def _device(self, subject: str) -> DeviceDocument | None:
        if subject not in self._standing and subject in self._kept:
            self._standing[subject] = device_state.decode_device(self._kept[subject])
        found: DeviceDocument | None = self._standing.get(subject)
        return found

    def _module(self, subject: str) -> ModuleDocument | None:
        if subject not in self._standing and subject in self._kept:
            self._standing[subject] = device_state.decode_module(self._kept[subject])
        found: ModuleDocument | None = self._standing.get(subject)
        return found


def _encode(document: Any) -> bytes:
    if isinstance(document, DeviceDocument | ModuleDocument):
        return device_state.encode(document)
    return canonical.encode(document)
