"""What can go wrong between a command and its event, beside the refusals of the packages.

ProducerError
├── CommandInvalid     a member of a command has the wrong type
├── DecisionInvalid    a decision on an event that is not there, or without a reason
├── NoVault            a secret, and nowhere to keep it
├── CommandsRefused    some commands break a rule; the others are in the log
└── ConflictPersists   others kept changing the same subjects
"""

import msgspec

from events.access.commands import AccessCommand
from events.deployment.commands import DeploymentCommand
from events.device.commands import DeviceCommand
from events.number_text import counted
from events.readiness.commands import WaiverCommand
from events.rollout.commands import RolloutCommand, SchedulerCommand
from events.update.commands import UpdateCommand
from events.webhook.commands import WebhookCommand

Command = (
    DeviceCommand
    | DeploymentCommand
    | RolloutCommand
    | SchedulerCommand
    | UpdateCommand
    | AccessCommand
    | WaiverCommand
    | WebhookCommand
)


class Together(msgspec.Struct, frozen=True):
    """Commands on one device and its modules, or on the fleet, that stand in the log together, or none does.

    Each is decided on what the ones before it make. It counts as one command.
    """

    commands: tuple[Command, ...]


Sent = Command | Together
"""What a producer takes."""

_SHOWN = 5


class Refused(msgspec.Struct, frozen=True):
    """A command that breaks a rule, with the error that says which; `index` counts the commands sent, from 0."""

    index: int
    command: Sent
    error: Exception


def refusal(index: int, command: "Sent", error: Exception) -> Refused:
    """A refused command, without the traceback of its error.

    A traceback leads to the list that the refusal goes into. Such a circle keeps all commands in memory until the collector
    of garbage comes by, and that counts objects, not megabytes.
    """
    return Refused(index, command, error.with_traceback(None))


class ProducerError(Exception):
    """Trouble on the way to the log."""


class CommandsRefused(ProducerError):
    """Some commands of a batch were refused; nothing of them is in the log.

    `refused` lists them all. The text names the first ones by their index among the commands sent, from 0.
    """

    def __init__(self, refused: tuple[Refused, ...]) -> None:
        shown = "; ".join(f"command {one.index}: {one.error}" for one in refused[:_SHOWN])
        more = f"; and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
        super().__init__(f"{counted(len(refused), 'command')} refused: {shown}{more}")
        self.refused = refused


class CommandInvalid(ProducerError):
    """A member of a command is not of its type; `why` names it, as in *Expected `bool`, got `null` - at `$.edge`*."""

    def __init__(self, command: str, why: str) -> None:
        super().__init__(f"{command}: {why}")
        self.command, self.why = command, why


class DecisionInvalid(ProducerError):
    """Nothing can be left out there, or it is not said why."""

    def __init__(self, location: str, why: str) -> None:
        super().__init__(f"{location}: {why}")
        self.location, self.why = location, why


class NoVault(ProducerError):
    """A command holds a secret in plain, and this producer was given no vault to put it into."""

    def __init__(self, deployment_id: str) -> None:
        super().__init__(f"{deployment_id}: it holds a secret in plain; open the producer with `open_producer`")
        self.deployment_id = deployment_id


class ConflictPersists(ProducerError):
    """Other authors changed the same subjects again and again while this one decided."""

    def __init__(self, subjects: tuple[str, ...], attempts: int) -> None:
        super().__init__(f"still in conflict after {attempts} attempts: {', '.join(subjects[:_SHOWN])}; send again")
        self.subjects, self.attempts = subjects, attempts
