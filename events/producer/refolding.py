"""The documents that stand as snapshots, folded again from the facts alone."""

from collections.abc import Iterable

from events.access import state as access_state
from events.access.facts import AccessFact
from events.access.state import AccessDocument
from events.deployment import state as deployment_state
from events.deployment.facts import DeploymentFact
from events.deployment.state import DeploymentDocument
from events.device import state as device_state
from events.device.facts import ModuleDeleted
from events.device.identifiers import module_subject
from events.device.state import DeviceDocument, ModuleDocument
from events.envelope import Envelope
from events.log.facts import LogFact
from events.log.keys import device_of
from events.log.port import Fact
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


def refold(facts: Iterable[Envelope[Fact]]) -> dict[str, bytes]:
    """Every document of one stream by its subject, from the stream's first fact on; equal to its snapshots, byte for byte."""
    devices: dict[str, DeviceDocument] = {}
    modules: dict[str, ModuleDocument] = {}
    deployments: dict[str, DeploymentDocument | None] = {}
    access: dict[str, AccessDocument | None] = {}
    rollouts: dict[str, RolloutDocument | None] = {}
    waivers: dict[str, WaiverDocument | None] = {}
    webhooks: dict[str, WebhookDocument | None] = {}
    updates: dict[str, UpdateDocument | None] = {}
    groups: dict[str, GroupDocument | None] = {}
    for envelope in facts:
        subject, version, at = envelope.subject, envelope.version, envelope.at
        fact = envelope.fact
        if isinstance(fact, DeploymentFact):
            deployments[subject] = deployment_state.evolve(deployments.get(subject), fact, version=version, at=at)
        elif isinstance(fact, RolloutFact):
            rollouts[subject] = rollout_state.evolve(rollouts.get(subject), fact, version=version, at=at)
        elif isinstance(fact, UpdateFact):
            updates[subject] = update_state.evolve_update(fact, version=version, at=at)
        elif isinstance(fact, GroupFact):
            groups[subject] = update_state.evolve_group(groups.get(subject), fact, version=version, at=at)
        elif isinstance(fact, AccessFact):
            access[subject] = access_state.evolve(fact, version=version, at=at)
        elif isinstance(fact, WaiverFact):
            waivers[subject] = readiness_state.evolve(fact, version=version, at=at, by=str(envelope.by))
        elif isinstance(fact, WebhookFact):
            webhooks[subject] = webhook_state.evolve(webhooks.get(subject), fact, version=version, at=at)
        elif isinstance(fact, LogFact):
            continue
        elif "/" in subject:
            modules[subject] = device_state.evolve_module(
                modules.get(subject), fact, generation=devices[device_of(subject)].generation, version=version, at=at
            )
        else:
            devices[subject] = device_state.evolve_device(devices.get(subject), fact, version=version, at=at)
            if isinstance(fact, ModuleDeleted):
                modules.pop(module_subject(subject, fact.module_id), None)
    return {
        **{subject: device_state.encode(document) for subject, document in devices.items()},
        **{subject: device_state.encode(document) for subject, document in modules.items()},
        **{subject: deployment_state.encode(document) for subject, document in deployments.items() if document},
        **{subject: rollout_state.encode(document) for subject, document in rollouts.items() if document},
        **{subject: update_state.encode(document) for subject, document in updates.items() if document},
        **{subject: update_state.encode(document) for subject, document in groups.items() if document},
        **{subject: access_state.encode(document) for subject, document in access.items() if document},
        **{subject: readiness_state.encode(document) for subject, document in waivers.items() if document},
        **{subject: webhook_state.encode(document) for subject, document in webhooks.items() if document},
    }
