"""Deployments as they stand, as far as the caller of a request sees them."""

from collections import Counter
from collections.abc import Iterator, Mapping

from fastapi import Request

from events.deployment.errors import DeploymentNotFound
from events.deployment.state import DeploymentDocument, decode
from events.log.fleet_documents import deployments
from services.api.context.api_context import ApiContext
from services.api.context.request import caller_of, context_of


def deployment_of(context: ApiContext, name: str) -> DeploymentDocument:
    """A deployment as it stands.

    Raises:
        DeploymentNotFound: it does not.
    """
    (stored,) = context.log.load([name], fleet=True)
    if stored.snapshot is None:
        raise DeploymentNotFound(name)
    return decode(stored.snapshot)


def deployment_seen(request: Request, name: str) -> tuple[DeploymentDocument, Counter[str]]:
    """A deployment as it stands, and the counts of its status sets, for the caller.

    Raises:
        DeploymentNotFound: it does not stand, or they do not see it.
    """
    context, caller = context_of(request), caller_of(request)
    document = deployment_of(context, name)
    counts = context.fleet_projection.status(name, within=context.within(caller))[name]
    if not caller.sees(document, counts):
        raise DeploymentNotFound(name)
    return document, counts


def deployments_seen(
    request: Request, labels: Mapping[str, str] | None = None
) -> Iterator[tuple[str, DeploymentDocument, Counter[str] | None]]:
    """Every deployment that the caller sees and that carries some labels, with counts as soon as workers know it."""
    context, caller = context_of(request), caller_of(request)
    counts = context.fleet_projection.status(within=context.within(caller))
    for name, document in deployments(context.log, labels=labels or {}):
        found = counts.get(name)
        if caller.sees(document, found or Counter()):
            yield name, document, found
