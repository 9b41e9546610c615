"""Documents of a whole stream, folded from nothing but its facts."""

from collections.abc import Iterable

from events.device.facts import DeviceFact
from events.envelope import Envelope
from events.log.documents import DeviceDocuments, FleetDocuments, encoded
from events.log.port import Fact


def refold(facts: Iterable[Envelope[Fact]]) -> dict[str, bytes]:
    """Every document of one stream by its subject, from the stream's first fact on; equal to its snapshots, byte for byte."""
    devices, fleet = DeviceDocuments(), FleetDocuments()
    for envelope in facts:
        if isinstance(envelope.fact, DeviceFact):
            devices.fold(envelope)
        else:
            fleet.fold(envelope)
    return {**encoded(devices), **encoded(fleet)}
