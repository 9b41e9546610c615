"""Which stream a fact belongs to."""

from events.access.facts import AccessFact
from events.deployment.facts import DeploymentFact
from events.log.facts import LogFact
from events.log.keys import FLEET, device_of, partition_of
from events.log.port import Fact
from events.rollout.facts import RolloutFact
from events.update.facts import GroupFact, UpdateFact


def stream_of(subject: str, fact: Fact, *, partitions: int) -> int:
    """The fleet's stream for deployments, rollouts, updates, access and the log itself, else the partition of the subject's device."""
    if isinstance(fact, DeploymentFact | RolloutFact | UpdateFact | GroupFact | AccessFact | LogFact):
        return FLEET
    return partition_of(device_of(subject), partitions)
