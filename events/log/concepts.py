"""The concepts whose events stand in the log: one line each."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from events.access.decider import DECIDER as ACCESS
from events.decider import Decider, prefix_of
from events.deployment.decider import DECIDER as DEPLOYMENT
from events.device.decider import DECIDER as DEVICE
from events.log.kinds import KINDS
from events.readiness.decider import DECIDER as READINESS
from events.rollout import decider as rollout
from events.update import decider as update
from events.webhook import decider as webhook

DECIDERS: tuple[Decider, ...] = (
    DEVICE,
    # Deployments know nothing of what is built on them.
    DEPLOYMENT.ruled(update.DEPLOYMENT_RULE, rollout.DEPLOYMENT_RULE),
    rollout.DECIDER.ruled(update.ROLLOUT_RULE),
    update.DECIDER,
    ACCESS,
    READINESS,
    webhook.decider(KINDS),
)
"""What producers decide by, and replay applies. A command and an event are those of one concept."""

BY_COMMAND: Mapping[type[Any], Decider] = MappingProxyType(
    {command: decider for decider in DECIDERS for command in decider.commands}
)

BY_EVENT: Mapping[type[Any], Decider] = MappingProxyType(
    {event: decider for decider in DECIDERS for event in decider.events}
)

_BY_PREFIX = {prefix: decider for decider in DECIDERS if decider.is_of_fleet for prefix in decider.prefixes}


def decode_of_fleet(subject: str, data: bytes) -> Any:
    """Read the document of a subject of the fleet's stream."""
    return _BY_PREFIX[prefix_of(subject)].decode(subject, data)


def decode_of_device(subject: str, data: bytes) -> Any:
    """Read the document of a device or of one of its modules."""
    return DEVICE.decode(subject, data)
