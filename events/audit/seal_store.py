"""Where seals are kept: the newest in a stream of their own, all of them as files beside the archive."""

import re
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from typing import Any, cast

import msgspec

from events.audit.errors import SealsMoved, SealStands
from events.audit.seal import Signed
from events.log.archive.retention_hold import SEALER, RegisteredHolds
from events.log.connect import Client, answering, entries_of
from events.log.errors import Fenced
from events.log.keys import FLEET, key, name
from events.log.object_store import ObjectStore

SEALS = key(FLEET, "seals")
SEALING = key(FLEET, "sealing")
FOLDER = "seals"
BATCH_SEALS = 64

_SCRIPT = files("events.audit").joinpath("seal.lua").read_text(encoding="utf-8")
_FILE = re.compile(r".*/([0-9]{12})\.seal")


class StoredSeal(msgspec.Struct, frozen=True):
    """A seal in the stream, with the stream's own id of it: `17-0` for number 17, anything else where somebody meddled."""

    entry_id: str
    signed: Signed

    @property
    def number(self) -> int | None:
        """The number that its id stands for."""
        number, _, rest = self.entry_id.partition("-")
        return int(number) if rest == "0" else None


class Seals:
    """Seals of one log, in Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def last(self) -> Signed | None:
        """The newest seal; `None` where there is none.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        with answering():
            found = entries_of(self._client.xrevrange(SEALS, count=1))
        return _signed(found[0][1]) if found else None

    def all(self) -> Iterator[StoredSeal]:
        """Every seal that is in Redis, oldest first.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        after = "-"
        while True:
            with answering():
                some = entries_of(self._client.xrange(SEALS, min=after, count=BATCH_SEALS))
            for entry_id, fields in some:
                yield StoredSeal(entry_id.decode(), _signed(fields))
            if len(some) < BATCH_SEALS:
                return
            after = f"({some[-1][0].decode()}"

    def had_begun(self, streams: Iterable[str]) -> bool:
        """Whether Redis notes that something was sealed: beside the seals, or beside one of these streams.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        with answering():
            if self._client.hexists(SEALING, "digest"):
                return True
        registered = RegisteredHolds(self._client)
        return any(registered.positions(stream).get(SEALER, 0) for stream in streams)

    def sealed_clock(self) -> int | None:
        """What the sealer's clock said when it made the newest seal, in milliseconds; `None` where it is not known.

        The time in a seal never goes back and may be ahead of the clock; this is for telling how old the seal is.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        with answering():
            clock = cast("bytes | None", self._client.hget(SEALING, "clock"))
        return None if clock is None else int(clock)

    def append(self, signed: Signed, *, number: int, previous: str, fence: int, clock: int) -> None:
        """Add a seal behind the newest one; it stands there at most once. `clock` is kept beside it.

        Raises:
            SealsMoved: the newest one is another than `previous`.
            Fenced: another process has taken over.
            LogUnavailable: Redis did not answer; the seal may stand.
        """
        arguments: Sequence[Any] = (number, previous, signed.digest, fence, signed.body, signed.signature, clock)
        with answering():
            # An answer of a script is whatever it is; redis-py leaves it open.
            answer: Any = self._client.eval(_SCRIPT, 2, SEALS, SEALING, *arguments)
        if answer[0] == b"fenced":
            raise Fenced(f"{name(FLEET)}:seals", answer[1])
        if answer[0] == b"moved":
            raise SealsMoved(answer[1])


class SealFiles:
    """Seals outside Redis, one file each: whoever empties Redis does not empty these."""

    def __init__(self, object_store: ObjectStore, *, epoch: str) -> None:
        """Those of one log: several may keep theirs in one place."""
        self._object_store, self._folder = object_store, f"{FOLDER}/{epoch}"

    def put(self, number: int, signed: Signed) -> None:
        """Keep a seal, unless it is kept already; one that is kept is never changed.

        Raises:
            SealStands: another of its number is kept.
            ObjectStoreUnavailable: it is not kept.
        """
        kept = self.get(number)
        if kept == signed.to_file():
            return
        if kept is not None:
            raise SealStands(number)
        self._object_store.put(self._file(number), signed.to_file())

    def get(self, number: int) -> bytes | None:
        """The file of a seal as it stands; `None` where there is none.

        Raises:
            ObjectStoreUnavailable: it cannot be read.
        """
        return self._object_store.get(self._file(number))

    def numbers(self) -> Sequence[int]:
        """The seals that are kept, in order.

        Raises:
            ObjectStoreUnavailable: nobody answers.
        """
        found = (_FILE.fullmatch(one) for one in self._object_store.names(self._folder))
        return [int(one[1]) for one in found if one is not None]

    def _file(self, number: int) -> str:
        return f"{self._folder}/{number:012d}.seal"


def _signed(fields: dict[bytes, bytes]) -> Signed:
    # What is missing does not verify, and that is what is to be said of it.
    return Signed(fields.get(b"body", b""), fields.get(b"signature", b""))
