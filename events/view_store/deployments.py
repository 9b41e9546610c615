"""The deployments that are in the log, by id, all or those with some labels."""

from collections.abc import Iterable, Iterator, Mapping

from events.deployment import state
from events.deployment.state import DeploymentDocument
from events.log.keys import FLEET
from events.log.port import Log

_EVERY: Mapping[str, str] = {}


def deployments(log: Log, *, labels: Mapping[str, str] = _EVERY) -> Iterator[tuple[str, DeploymentDocument]]:
    """(id, document) of each deployment that carries all of some labels, by id; a caller's own writes are among them.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    # A scan may name a field twice. What is no deployment has a colon in its name, which no deployment's id has.
    names = [name for name in dict.fromkeys(log.subjects(FLEET)) if ":" not in name]
    stored = zip(names, log.load(names, fleet=True), strict=True)
    documents = [(name, state.decode(each.snapshot)) for name, each in stored if each.snapshot is not None]
    return labelled(documents, labels)


def labelled(
    documents: Iterable[tuple[str, DeploymentDocument]], labels: Mapping[str, str]
) -> Iterator[tuple[str, DeploymentDocument]]:
    """Those of some (id, document) that carry all of some labels, by id."""
    matching = [(name, document) for name, document in documents if matches_labels(document, labels)]
    return iter(sorted(matching, key=lambda pair: pair[0]))


def matches_labels(document: DeploymentDocument, labels: Mapping[str, str]) -> bool:
    """Whether a deployment carries all of some labels, with these values (seed 000, Labels); no labels match all."""
    return all(document.labels.get(name) == value for name, value in labels.items())
