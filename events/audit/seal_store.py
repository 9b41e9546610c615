"""The stores of seals: a Redis stream, and files in the object store of the archive."""

import re
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from typing import Any, cast

from events.audit.errors import SealExists, SealsMoved, SealUnreadable
from events.audit.seal import Signed
from events.log.archive.notes import SEALER, registered_holds
from events.log.connect import Client, answering, entries_of
from events.log.errors import Fenced
from events.log.keys import FLEET, key, name
from events.log.object_store import ObjectStore
from events.log.port import Log

SEALS = key(FLEET, "seals")
SEALING = key(FLEET, "sealing")
FOLDER = "seals"
BATCH_SEALS = 64

TOLERANCE_MS = 5000
"""Smaller differences of clocks are normal: between several machines, and from the time that the reads take."""

_SCRIPT = files("events.audit").joinpath("seal.lua").read_text(encoding="utf-8")
_FILE = re.compile(r".*/([0-9]{12})\.seal")


class Seals:
    """The seals of one log in Redis."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def last(self) -> Signed | None:
        """Returns the newest seal; `None` if there is none.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        with answering():
            entries = entries_of(self._client.xrevrange(SEALS, count=1))
        return _signed(entries[0][1]) if entries else None

    def all(self) -> Iterator[tuple[str, int | None, Signed]]:
        """Yields every seal in Redis with its entry id and its number, oldest first.

        The id of number 17 is `17-0`; any other form of id is a manipulation, and gives no number.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        after = "-"
        while True:
            with answering():
                entries = entries_of(self._client.xrange(SEALS, min=after, count=BATCH_SEALS))
            for entry_id, fields in entries:
                number, _, sequence = entry_id.decode().partition("-")
                yield entry_id.decode(), int(number) if sequence == "0" else None, _signed(fields)
            if len(entries) < BATCH_SEALS:
                return
            after = f"({entries[-1][0].decode()}"

    def had_begun(self, streams: Iterable[str]) -> bool:
        """Returns whether Redis has a trace of sealing: at the seals, or at the retention holds of these streams.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        with answering():
            if self._client.hexists(SEALING, "digest"):
                return True
        return any(registered_holds(self._client, stream).get(SEALER, 0) for stream in streams)

    def sealed_clock(self) -> int | None:
        """Returns the sealer's clock at the newest seal, in milliseconds; `None` if it is unknown. It gives the seal's age.

        The time in the seal does not: it never goes back, so it can be ahead of the clock.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        with answering():
            clock = cast("bytes | None", self._client.hget(SEALING, "clock"))
        return None if clock is None else int(clock)

    def append(self, signed: Signed, *, number: int, previous: str, fence: int, clock: int) -> None:
        """Append a seal after the newest one, at most once, with the sealer's `clock`.

        Raises:
            SealsMoved: the newest seal is not `previous`.
            Fenced: another process has taken over.
            LogUnavailable: Redis did not answer; the seal may be stored.
        """
        arguments: Sequence[Any] = (number, previous, signed.digest, fence, signed.body, signed.signature, clock)
        with answering():
            # redis-py does not type the answer of a script.
            answer: Any = self._client.eval(_SCRIPT, 2, SEALS, SEALING, *arguments)
        if answer[0] == b"fenced":
            raise Fenced(f"{name(FLEET)}:seals", answer[1])
        if answer[0] == b"moved":
            raise SealsMoved(answer[1])


class SealFiles:
    """The seals of one log as files outside Redis, one file each: they survive the loss of Redis."""

    def __init__(self, object_store: ObjectStore, *, epoch: str) -> None:
        # Several logs can use one object store: a folder per epoch keeps their seals apart.
        self._object_store, self._folder = object_store, f"{FOLDER}/{epoch}"

    def put(self, number: int, signed: Signed) -> None:
        """Store a seal, unless it is stored already; a stored seal is never changed.

        Raises:
            SealExists: another seal of this number is stored.
            ObjectStoreUnavailable: the seal is not stored.
        """
        stored = self.get(number)
        if stored == signed.to_file():
            return
        if stored is not None:
            raise SealExists(number)
        self._object_store.put(self._file(number), signed.to_file())

    def get(self, number: int) -> bytes | None:
        """Returns the file of a seal; `None` if there is none.

        Raises:
            ObjectStoreUnavailable: the file cannot be read.
        """
        return self._object_store.get(self._file(number))

    def numbers(self) -> Sequence[int]:
        """Returns the numbers of the stored seals, in order.

        Raises:
            ObjectStoreUnavailable: the object store does not answer.
        """
        matches = (_FILE.fullmatch(file) for file in self._object_store.names(self._folder))
        return [int(match[1]) for match in matches if match is not None]

    def _file(self, number: int) -> str:
        return f"{self._folder}/{number:012d}.seal"


def _signed(fields: dict[bytes, bytes]) -> Signed:
    # A missing field does not verify, so verification reports it as a fault instead of failing here.
    return Signed(fields.get(b"body", b""), fields.get(b"signature", b""))


def ahead_ms(log: Log, seals: Seals, *, clock: int) -> int:
    """Returns how far the newest event of the fleet, or the newest seal, is ahead of a clock, in milliseconds; 0 within the tolerance.

    The log's time never goes back; a clock that was ahead can.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    head = log.head(FLEET)
    newest = log.read(FLEET, after=head - 1, limit=1) if head else ()
    last = seals.last()
    try:
        sealed_at = 0 if last is None else last.seal().at
    except SealUnreadable:
        # Verification reports it; a wrong clock is still visible in the events.
        sealed_at = 0
    ahead = max(sealed_at, *(envelope.at for envelope in newest), 0) - clock
    return ahead if ahead > TOLERANCE_MS else 0
