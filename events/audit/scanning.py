"""The one place where entries are looked through by what is in their fields."""

from collections.abc import Callable, Iterator

from events.log.raw import RawEntry, RawStreams


def scan(
    streams: RawStreams, stream: str, may_be: Callable[[RawEntry], bool], *, after: int, upto: int
) -> Iterator[RawEntry]:
    """The entries at positions after + 1 to `upto` that may be wanted, in order.

    Raises:
        LogLostItsTail, LogUnavailable: as `RawStreams.read`.
    """
    return (entry for entry in streams.entries(stream, after=after, upto=upto) if may_be(entry))
