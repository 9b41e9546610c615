"""Who still needs entries to be in Redis: nothing is taken out of a stream that one of its holders is not past."""

from collections.abc import Mapping
from typing import Protocol, cast

from events.log.archive.notes import holds_key
from events.log.connect import Client, answering


class RetentionHold(Protocol):
    """Knows how far some readers have come."""

    def positions(self, stream: str) -> Mapping[str, int]:
        """By the name of each reader of a stream, the last position that it is past; who is not named does not hold."""
        ...


SEALER = "sealer"


class RegisteredHolds:
    """Holders that say in Redis how far they have come: the sealer as `sealer`, from its first round on.

    Whoever wants to be heeded from the first entry on registers at 0 before anything else. The script that trims looks here
    itself, so that nobody who registered is overtaken.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def positions(self, stream: str) -> Mapping[str, int]:
        """See `RetentionHold.positions`.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        with answering():
            found = cast("Mapping[bytes, bytes]", self._client.hgetall(holds_key(stream)))
        return {name.decode(): int(position) for name, position in found.items()}

    def hold(self, stream: str, holder: str, position: int) -> None:
        """Say that a holder is past a position of a stream, and needs what comes after it.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        assert not holder.startswith("="), "answers of the script begin so"
        with answering():
            self._client.hset(holds_key(stream), holder, str(position))


class UnsealedHold:
    """Holds everything until a sealer has registered: what nobody sealed stays in Redis, also where none ever ran."""

    def __init__(self, client: Client) -> None:
        self._registered = RegisteredHolds(client)

    def positions(self, stream: str) -> Mapping[str, int]:
        """See `RetentionHold.positions`.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        return {} if SEALER in self._registered.positions(stream) else {SEALER: 0}
