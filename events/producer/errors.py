"""Commands, and the errors of producers beside those of the concepts.

ProducerError
├── CommandInvalid     a member of a command has the wrong type
├── DecisionInvalid    a decision on a position that does not exist, or without a reason
├── NoVault            a secret in plain text, and no vault to store it
├── CommandsRefused    some commands break a rule; the others are in the log
└── ConflictPersists   other authors kept changing the same subjects
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
    """Commands on one device and its modules, or on the fleet, that are written together or not at all.

    Each is decided on the result of the commands before it. A `Together` counts as one command.
    """

    commands: tuple[Command, ...]


Sent = Command | Together
"""What a caller sends to a producer."""

_SHOWN = 5


class Refused(msgspec.Struct, frozen=True):
    """A rejected command with the error that names the rule; `index` is its number among the commands sent, from 0."""

    index: int
    command: Sent
    error: Exception


def refusal(index: int, command: Sent, error: Exception) -> Refused:
    """A rejected command with its error, whose traceback is removed."""
    # The traceback refers to the frame with the list that the refusal goes into. Such a cycle keeps all commands in memory until
    # Python collects garbage, which is triggered by the number of objects and not by their size.
    return Refused(index, command, error.with_traceback(None))


class ProducerError(Exception):
    """An error of a producer; the base of all others."""


class CommandsRefused(ProducerError):
    """Some commands were rejected; none of them is in the log.

    `refused` lists all of them. The text names the first five by their index among the commands sent, from 0.
    """

    def __init__(self, refused: tuple[Refused, ...]) -> None:
        listed = "; ".join(f"command {refusal.index}: {refusal.error}" for refusal in refused[:_SHOWN])
        more = f"; and {len(refused) - _SHOWN} more" if len(refused) > _SHOWN else ""
        super().__init__(f"{counted(len(refused), 'command')} refused: {listed}{more}")
        self.refused = refused


class CommandInvalid(ProducerError):
    """A member of a command has the wrong type; `why` names it, as in *Expected `bool`, got `null` - at `$.edge`*."""

    def __init__(self, command: str, why: str) -> None:
        super().__init__(f"{command}: {why}")
        self.command, self.why = command, why


class DecisionInvalid(ProducerError):
    """The position cannot be skipped or retried, or the reason is missing or too long."""

    def __init__(self, location: str, why: str) -> None:
        super().__init__(f"{location}: {why}")
        self.location, self.why = location, why


class NoVault(ProducerError):
    """A command has a secret in plain text, and this producer has no vault to store it in."""

    def __init__(self, subject: str) -> None:
        super().__init__(f"{subject}: the command has a secret in plain text; open the producer with `open_producer`")
        self.subject = subject


class ConflictPersists(ProducerError):
    """Other authors changed the same subjects during every attempt of this one."""

    def __init__(self, subjects: tuple[str, ...], attempts: int) -> None:
        super().__init__(f"still in conflict after {attempts} attempts: {', '.join(subjects[:_SHOWN])}; retry later")
        self.subjects, self.attempts = subjects, attempts
