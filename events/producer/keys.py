"""Idempotency keys: a command that is sent with a key has an id, under which it is written only once."""

from collections.abc import Sequence

import msgspec

from events.log.concepts import BY_COMMAND
from events.log.keys import FLEET, partition_of
from events.log.port import Log
from events.producer.decision import parts_of
from events.producer.errors import Sent


class CommandKey(msgspec.Struct, frozen=True):
    """The common start of the ids of a request's commands. After the request was answered, none of them is written again."""

    text: str
    is_answered: bool = False

    def command_id(self, number: int) -> str:
        """The id of the command with this number."""
        return f"{self.text}:{number}"

    def counts(self, log: Log, stream: int, numbers: Sequence[int]) -> list[int]:
        """The number of events that each command has in a stream; 0 for a command that is still to be written."""
        # A command that changed nothing has no event, and so no id in the log. Once its request was answered it counts as
        # written nevertheless, or a repeat would decide it on a later state (docs/decisions/0041).
        counts = log.remembered(stream, [self.command_id(number) for number in numbers])
        return [max(1, count) for count in counts] if self.is_answered else counts


def stream_of(sent: Sent, partitions: int) -> int:
    """The stream that a command's events are written to."""
    command = parts_of(sent)[0]
    decider = BY_COMMAND[type(command)]
    return FLEET if decider.is_of_fleet else partition_of(decider.subjects(command)[0], partitions)
