"""Retention holds: the readers that need entries in Redis. No entry is trimmed before every holder is past it."""

from collections.abc import Mapping
from typing import Protocol, cast

from events.log.archive.notes import holds_key
from events.log.connect import Client, answering


class RetentionHold(Protocol):
    """Knows the positions of one kind of reader."""

    def positions(self, stream: str) -> Mapping[str, int]:
        """The last position that each reader of a stream is past, by name; a reader that is not named does not hold."""
        ...


SEALER = "sealer"


class RegisteredHolds:
    """Holders that record their position in Redis: the sealer as `sealer`, from its first round on.

    A holder that needs every entry registers at 0 first. The script that trims reads the positions itself.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def positions(self, stream: str) -> Mapping[str, int]:
        """See `RetentionHold.positions`.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        with answering():
            holders = cast("Mapping[bytes, bytes]", self._client.hgetall(holds_key(stream)))
        return {name.decode(): int(position) for name, position in holders.items()}

    def hold(self, stream: str, holder: str, position: int) -> None:
        """Record that a holder is past a position of a stream, and needs the entries after it.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        assert not holder.startswith("="), "answers of trim.lua start with ="
        with answering():
            self._client.hset(holds_key(stream), holder, str(position))


class UnsealedHold:
    """Holds every entry until a sealer has registered, so that no entry leaves Redis unsealed, even if no sealer ever ran."""

    def __init__(self, client: Client) -> None:
        self._registered = RegisteredHolds(client)

    def positions(self, stream: str) -> Mapping[str, int]:
        """See `RetentionHold.positions`.

        Raises:
            LogUnavailable: Redis does not answer.
        """
        return {} if SEALER in self._registered.positions(stream) else {SEALER: 0}
