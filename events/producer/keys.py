"""Keys of requests: each command that comes with one has an id, under which it is written once however often it is sent."""

from collections.abc import Sequence

import msgspec

from events.log.concepts import BY_COMMAND
from events.log.keys import FLEET, partition_of
from events.log.port import Log
from events.producer.errors import Sent, Together


class CommandKey(msgspec.Struct, frozen=True):
    """What the ids of a request's commands begin with. Once the request is answered, nothing of it is written again."""

    text: str
    is_answered: bool = False

    def command_id(self, number: int) -> str:
        """The id of the command of a number."""
        return f"{self.text}:{number}"

    def counts(self, log: Log, stream: int, numbers: Sequence[int]) -> list[int]:
        """How many events each of some commands has in a stream of the log, and 0 for one that is to be written.

        Of an answered request none is: each counts as one at least, also where it changed nothing.
        """
        counts = log.remembered(stream, [self.command_id(number) for number in numbers])
        return [max(1, count) for count in counts] if self.is_answered else counts


def stream_of(sent: Sent, partitions: int) -> int:
    """The stream that the events of a command go to."""
    if isinstance(sent, Together):
        return stream_of(sent.commands[0], partitions)
    decider = BY_COMMAND[type(sent)]
    return FLEET if decider.is_of_fleet else partition_of(decider.subjects(sent)[0], partitions)
