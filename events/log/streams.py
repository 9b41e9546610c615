"""Which stream a fact belongs to."""

from events.access.facts import AccessFact
from events.deployment.facts import DeploymentFact
from events.log.facts import LogFact
from events.log.keys import FLEET, device_of, partition_of
from events.log.port import Fact
from events.readiness.facts import WaiverFact
from events.rollout.facts import RolloutFact
from events.update.facts import GroupFact, UpdateFact
from events.webhook.facts import WebhookFact

_OF_THE_FLEET = DeploymentFact | RolloutFact | UpdateFact | GroupFact | AccessFact | WaiverFact | WebhookFact | LogFact


def stream_of(subject: str, fact: Fact, *, partitions: int) -> int:
    """The fleet's stream for all that is not of a device, else the partition of the subject's device."""
    if isinstance(fact, _OF_THE_FLEET):
        return FLEET
    return partition_of(device_of(subject), partitions)
