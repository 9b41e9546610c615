"""Deployments that the caller of a request sees."""

from collections import Counter
from collections.abc import Iterator, Mapping

from fastapi import Request

from events.deployment.errors import DeploymentNotFound
from events.deployment.state import DeploymentDocument, decode
from events.log.fleet_documents import deployments
from services.api.context.api_context import ApiContext
from services.api.context.request import caller_of, context_of, reach_of


def deployment_of(context: ApiContext, name: str) -> DeploymentDocument:
    """A deployment's document; raises DeploymentNotFound if there is none."""
    (stored,) = context.log.load([name], fleet=True)
    if stored.snapshot is None:
        raise DeploymentNotFound(name)
    return decode(stored.snapshot)


def deployment_seen(request: Request, name: str) -> tuple[DeploymentDocument, Counter[str]]:
    """As `deployment_of` if the caller sees it, and the sizes of its status sets among the devices that they reach."""
    context = context_of(request)
    document = deployment_of(context, name)
    counts = context.fleet_projection.status(name, within=reach_of(request))[name]
    if not caller_of(request).sees(document, counts):
        raise DeploymentNotFound(name)
    return document, counts


def deployments_seen(
    request: Request, labels: Mapping[str, str] | None = None
) -> Iterator[tuple[str, DeploymentDocument, Counter[str] | None]]:
    """Every deployment with these labels that the caller sees. Its counts are `None` until workers apply its creation."""
    context, caller = context_of(request), caller_of(request)
    counts = context.fleet_projection.status(within=reach_of(request))
    for name, document in deployments(context.log, labels=labels or {}):
        known_counts = counts.get(name)
        if caller.sees(document, known_counts or Counter()):
            yield name, document, known_counts
