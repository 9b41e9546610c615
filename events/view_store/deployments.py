"""The deployments as they stand in the log, for whoever lists them."""

from collections.abc import Iterator, Mapping

from events.deployment import state
from events.deployment.listing import labelled
from events.deployment.state import DeploymentDocument
from events.log.keys import FLEET
from events.log.port import Log

_EVERY: Mapping[str, str] = {}


def deployments(log: Log, *, labels: Mapping[str, str] = _EVERY) -> Iterator[tuple[str, DeploymentDocument]]:
    """(id, document) of each deployment that carries all of some labels, by id; whoever wrote one finds it here."""
    # A scan may name a field twice.
    names = [name for name in dict.fromkeys(log.subjects(FLEET)) if ":" not in name]
    stored = zip(names, log.load(names, fleet=True), strict=True)
    documents = [(name, state.decode(one.snapshot)) for name, one in stored if one.snapshot is not None]
    return labelled(documents, labels)
