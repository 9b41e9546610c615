"""What the fleet's stream has documents of, as they are in the log now: deployments, waivers, webhooks."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from events.deployment import state as deployment_state
from events.deployment.state import DeploymentDocument
from events.log.keys import FLEET
from events.log.port import Log
from events.readiness import state as waiver_state
from events.readiness.state import WAIVER, WaiverDocument
from events.rollout import state as rollout_state
from events.rollout.state import ROLLOUT, RolloutDocument
from events.webhook import state as webhook_state
from events.webhook.errors import WebhookNotFound
from events.webhook.state import WEBHOOK, WebhookDocument

D = TypeVar("D")
_EVERY: Mapping[str, str] = {}


def fleet_documents(log: Log, subjects: Iterable[str], decode: Callable[[bytes], D]) -> Iterator[tuple[str, D]]:
    """(subject, document) of those subjects that have one, by subject; the caller's own writes are among them.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    # A scan may name a subject twice.
    ordered = sorted(set(subjects))
    for subject, stored in zip(ordered, log.load(ordered, fleet=True), strict=True):
        if stored.snapshot is not None:
            yield subject, decode(stored.snapshot)


def deployments(log: Log, *, labels: Mapping[str, str] = _EVERY) -> Iterator[tuple[str, DeploymentDocument]]:
    """(id, deployment) of each that carries all of some labels, by id.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    # Every other subject has a colon in its name, which no deployment's id has.
    ids = (subject for subject in log.subjects(FLEET) if ":" not in subject)
    documents = fleet_documents(log, ids, deployment_state.decode)
    return ((name, document) for name, document in documents if matches_labels(document, labels))


def deployments_of(log: Log, names: Iterable[str]) -> dict[str, DeploymentDocument]:
    """The deployments of some ids, without those that do not exist.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    return dict(fleet_documents(log, names, deployment_state.decode))


def rollouts_of(log: Log, deployment_ids: Iterable[str]) -> dict[str, RolloutDocument]:
    """The rollouts of some deployments, by their ids; without those that have none.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    documents = fleet_documents(log, map(rollout_state.subject_of, deployment_ids), rollout_state.decode)
    return {subject.removeprefix(ROLLOUT): document for subject, document in documents}


def matches_labels(document: DeploymentDocument, labels: Mapping[str, str]) -> bool:
    """Whether a deployment carries all of some labels, with these values (seed 000, Labels); no labels match all."""
    return all(document.labels.get(name) == value for name, value in labels.items())


def waivers(log: Log) -> Iterator[tuple[str, WaiverDocument]]:
    """(id, waiver), by id; an expired waiver is among them until it is withdrawn.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    return _of_prefix(log, WAIVER, waiver_state.decode)


def webhooks(log: Log) -> Iterator[tuple[str, WebhookDocument]]:
    """(id, webhook), by id.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    return _of_prefix(log, WEBHOOK, webhook_state.decode)


def webhook_of(log: Log, webhook_id: str) -> WebhookDocument:
    """A webhook as it is now.

    Raises:
        WebhookNotFound: there is none of that id.
        LogUnavailable: Redis did not answer.
    """
    (stored,) = log.load([WEBHOOK + webhook_id], fleet=True)
    if stored.snapshot is None:
        raise WebhookNotFound(webhook_id)
    return webhook_state.decode(stored.snapshot)


def _of_prefix(log: Log, prefix: str, decode: Callable[[bytes], D]) -> Iterator[tuple[str, D]]:
    documents = fleet_documents(log, log.subjects(FLEET, prefix=prefix), decode)
    return ((subject.removeprefix(prefix), document) for subject, document in documents)
