"""What a log says that stands over another one: of itself it says the same."""

from collections.abc import Sequence

from events.log.port import Event, Log


class LogOverlay:
    """The part of `Log` that does not change, whatever is laid over the events."""

    def __init__(self, log: Log) -> None:
        self._log = log

    @property
    def partitions(self) -> int:
        """How many partitions there are."""
        return self._log.partitions

    @property
    def epoch(self) -> str:
        """The id the log beneath was given when it was initialised."""
        return self._log.epoch

    def stream_of(self, subject: str, event: Event) -> int:
        """The stream an event belongs to."""
        return self._log.stream_of(subject, event)

    def remembered(self, stream: int, command_ids: Sequence[str]) -> list[int]:
        """How many events each of some commands has in the log beneath."""
        return self._log.remembered(stream, command_ids)
