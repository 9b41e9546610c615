"""Which stream a fact belongs to."""

from events.device.facts import DeviceFact
from events.log.keys import FLEET, device_of, partition_of
from events.log.port import Fact


def stream_of(subject: str, fact: Fact, *, partitions: int) -> int:
    """The fleet's stream for all that is not of a device, else the partition of the subject's device."""
    return partition_of(device_of(subject), partitions) if isinstance(fact, DeviceFact) else FLEET
