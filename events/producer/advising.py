"""What the author of a deployment should know of it, from what stands in the log."""

from events.deployment.advice import Advice, advice
from events.deployment.commands import CreateDeployment, UpdateDeployment
from events.log.port import Log
from events.producer.errors import Command
from events.view_store.deployments import deployments


def advise(log: Log, command: Command) -> tuple[Advice, ...]:
    """Advice on the deployment that a command created or updated: layers it outranks, bases above it, warnings.

    Empty for other commands, and for a deployment that is gone again. Costs a read of every deployment.
    """
    if not isinstance(command, CreateDeployment | UpdateDeployment):
        return ()
    documents = dict(deployments(log))
    document = documents.get(command.deployment_id)
    return () if document is None else advice(command.deployment_id, document, documents.items())
