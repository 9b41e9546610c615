"""The concepts whose events are in the log, each with its decider."""

from collections.abc import Mapping
from typing import Any

from events.access.decider import DECIDER as ACCESS
from events.decider import Decider, prefix_of
from events.deployment.decider import DECIDER as DEPLOYMENT
from events.device.decider import DECIDER as DEVICE
from events.log.port import KINDS
from events.readiness.decider import DECIDER as READINESS
from events.rollout import decider as rollout
from events.update import decider as update
from events.webhook import decider as webhook

DECIDERS: tuple[Decider, ...] = (
    DEVICE,
    # Updates and rollouts restrict what may happen to their deployments. Their rules are joined here, so that the package of
    # deployments need not import theirs.
    DEPLOYMENT.with_rules(update.DEPLOYMENT_RULE, rollout.DEPLOYMENT_RULE),
    rollout.DECIDER.with_rules(update.ROLLOUT_RULE),
    update.DECIDER,
    ACCESS,
    READINESS,
    webhook.decider(KINDS),
)
"""The deciders of producers and of replay. Each command and each event belongs to exactly one."""

BY_COMMAND: Mapping[type[Any], Decider] = {command: decider for decider in DECIDERS for command in decider.commands}
BY_EVENT: Mapping[type[Any], Decider] = {event: decider for decider in DECIDERS for event in decider.events}
_BY_PREFIX = {prefix: decider for decider in DECIDERS if decider.is_of_fleet for prefix in decider.prefixes}


decode_of_device = DEVICE.decode


def decode_of_fleet(subject: str, data: bytes) -> Any:
    """The document of a subject of the fleet's stream."""
    return _BY_PREFIX[prefix_of(subject)].decode(subject, data)
