"""Documents of a whole stream, applied from nothing but its events."""

from collections.abc import Iterable

from events.device.events import DeviceEvent
from events.envelope import Envelope
from events.log.documents import DeviceDocuments, FleetDocuments, encoded
from events.log.port import Event


def replay(events: Iterable[Envelope[Event]]) -> dict[str, bytes]:
    """Every document of one stream by its subject, from the stream's first event on; equal to its snapshots, byte for byte."""
    devices, fleet = DeviceDocuments(), FleetDocuments()
    for envelope in events:
        if isinstance(envelope.event, DeviceEvent):
            devices.apply(envelope)
        else:
            fleet.apply(envelope)
    return {**encoded(devices), **encoded(fleet)}
