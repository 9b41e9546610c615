"""The waivers as they stand in the log."""

from collections.abc import Iterator

from events.log.keys import FLEET
from events.log.port import Log
from events.readiness.state import WAIVER, WaiverDocument, decode


def waivers(log: Log) -> Iterator[tuple[str, WaiverDocument]]:
    """(id, document) of each waiver, by id; expired ones stand until they are withdrawn."""
    # A scan may name a field twice.
    names = sorted({name for name in log.subjects(FLEET) if name.startswith(WAIVER)})
    for name, stored in zip(names, log.load(names, fleet=True), strict=True):
        if stored.snapshot is not None:
            yield name.removeprefix(WAIVER), decode(stored.snapshot)
