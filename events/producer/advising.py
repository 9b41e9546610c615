"""What the author of a deployment should know of it, from what stands in the log."""

from events.deployment import state
from events.deployment.advice import Advice, advice
from events.deployment.commands import CreateDeployment, UpdateDeployment
from events.log.keys import FLEET
from events.log.port import Log
from events.producer.errors import Command


def advise(log: Log, command: Command) -> tuple[Advice, ...]:
    """Advice on the deployment that a command created or updated: layers it outranks, bases above it, warnings.

    Empty for other commands, and for a deployment that is gone again. Costs a read of every deployment.
    """
    if not isinstance(command, CreateDeployment | UpdateDeployment):
        return ()
    names = list(log.subjects(FLEET))
    stored = zip(names, log.load(names, fleet=True), strict=True)
    documents = {name: state.decode(one.snapshot) for name, one in stored if one.snapshot is not None}
    document = documents.get(command.deployment_id)
    return () if document is None else advice(command.deployment_id, document, documents.items())
