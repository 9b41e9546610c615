"""Which deployments a list shows: those that carry some labels."""

from collections.abc import Iterable, Iterator, Mapping

from events.deployment.state import DeploymentDocument


def matches_labels(document: DeploymentDocument, wanted: Mapping[str, str]) -> bool:
    """Whether a deployment carries all of some labels, with these values (seed 000, Labels); no labels match all."""
    return all(document.labels.get(name) == value for name, value in wanted.items())


def labelled(
    documents: Iterable[tuple[str, DeploymentDocument]], wanted: Mapping[str, str]
) -> Iterator[tuple[str, DeploymentDocument]]:
    """Those of some (id, document) that carry all of some labels, by id."""
    found = [(name, document) for name, document in documents if matches_labels(document, wanted)]
    return iter(sorted(found, key=lambda pair: pair[0]))
