"""The base of logs that show another log with changes: at a point in time, or with events of a dry run."""

from collections.abc import Sequence

from events.log.port import Log


class LogOverlay:
    """The part of `Log` that an overlay takes over unchanged from the log below it."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.partitions = log.partitions
        self.epoch = log.epoch

    def remembered(self, stream: int, command_ids: Sequence[str]) -> list[int]:
        """The number of events that each command has in the log below."""
        return self._log.remembered(stream, command_ids)
