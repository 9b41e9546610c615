"""Advice to the author of a deployment, from all deployments in the log."""

from events.access.scope import Scope
from events.deployment.advice import Advice, advice
from events.deployment.commands import CreateDeployment, UpdateDeployment
from events.log.fleet_documents import deployments
from events.log.port import Log
from events.producer.errors import Command


def advise(log: Log, command: Command, scope: Scope | None = None) -> tuple[Advice, ...]:
    """Advice on the deployment that a command created or updated: layers it outranks, bases above it, warnings.

    Empty for other commands, and for a deployment that was deleted since. With a scope, the advice names only deployments of
    the same scope.
    """
    if not isinstance(command, CreateDeployment | UpdateDeployment):
        return ()
    # Reads every deployment; so `submit`, which writes thousands of commands, gives no advice.
    documents = dict(deployments(log))
    document = documents.get(command.deployment_id)
    in_scope = [pair for pair in documents.items() if scope is None or pair[1].scope == scope.text]
    return () if document is None else advice(command.deployment_id, document, in_scope)
