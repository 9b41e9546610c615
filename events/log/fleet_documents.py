"""Reads the current documents of the fleet's stream from the log: deployments, rollouts, waivers, webhooks.

Every function raises `LogUnavailable` if Redis did not answer.
"""

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
    """(subject, document) of the subjects that have a document, sorted by subject; includes the caller's own writes."""
    # HSCAN may return a field twice.
    ordered = sorted(set(subjects))
    for subject, stored in zip(ordered, log.load(ordered, fleet=True), strict=True):
        if stored.snapshot is not None:
            yield subject, decode(stored.snapshot)


def deployments(log: Log, *, labels: Mapping[str, str] = _EVERY) -> Iterator[tuple[str, DeploymentDocument]]:
    """(id, deployment) of each deployment that has all these labels, sorted by id."""
    # The process knows the ids; a scan for them would have Redis send all documents of the fleet's stream a second time.
    documents = fleet_documents(log, log.ranked_deployments().by_id, deployment_state.decode)
    return ((name, document) for name, document in documents if matches_labels(document, labels))


def deployments_of(log: Log, names: Iterable[str]) -> dict[str, DeploymentDocument]:
    """The deployments of these ids that exist."""
    return dict(fleet_documents(log, names, deployment_state.decode))


def rollouts_of(log: Log, deployment_ids: Iterable[str]) -> dict[str, RolloutDocument]:
    """The rollouts of these deployments, by deployment id; a deployment without a rollout is not in the answer."""
    documents = fleet_documents(log, map(rollout_state.subject_of, deployment_ids), rollout_state.decode)
    return {subject.removeprefix(ROLLOUT): document for subject, document in documents}


def matches_labels(document: DeploymentDocument, labels: Mapping[str, str]) -> bool:
    """Whether a deployment has all these labels with these values (seed 000, Labels); no labels match every deployment."""
    return all(document.labels.get(name) == value for name, value in labels.items())


def waivers(log: Log) -> Iterator[tuple[str, WaiverDocument]]:
    """(id, waiver), sorted by id; an expired waiver is included until it is withdrawn."""
    return _of_prefix(log, WAIVER, waiver_state.decode)


def webhooks(log: Log) -> Iterator[tuple[str, WebhookDocument]]:
    """(id, webhook), sorted by id."""
    return _of_prefix(log, WEBHOOK, webhook_state.decode)


def webhook_of(log: Log, webhook_id: str) -> WebhookDocument:
    """The current document of a webhook.

    Raises:
        WebhookNotFound: no webhook has this id.
    """
    (stored,) = log.load([WEBHOOK + webhook_id], fleet=True)
    if stored.snapshot is None:
        raise WebhookNotFound(webhook_id)
    return webhook_state.decode(stored.snapshot)


def _of_prefix(log: Log, prefix: str, decode: Callable[[bytes], D]) -> Iterator[tuple[str, D]]:
    documents = fleet_documents(log, log.subjects(FLEET, prefix=prefix), decode)
    return ((subject.removeprefix(prefix), document) for subject, document in documents)
