"""Records of reads of secrets: an event before a person or token gets them, a counter for devices' own fetches."""

import asyncio
import datetime as dt
import threading
from collections import Counter
from collections.abc import Sequence

import msgspec
from fastapi import Request
from starlette.concurrency import run_in_threadpool

from events.access.commands import NoteSecretsRead
from events.access.events import SUBJECTS_NAMED_MAX
from events.log.connect import Client, answering
from events.log.errors import LogUnavailable
from events.log.keys import key, partition_of
from events.processes.postponed import Postponed
from services.api.context.api_context import ApiContext
from services.api.context.callers import Author
from services.api.context.request import caller_of

FLUSH_SECONDS = 1.0
KEPT_DAYS = 40
_DAY_SECONDS = 86_400


class _Read(msgspec.Struct, eq=False):
    """A read that waits to be recorded."""

    author: Author
    subjects: tuple[str, ...]
    what: str
    through: str
    error: Exception | None = None
    is_noted: bool = False


class SecretReads:
    """Records reads. Reads that arrive during a write are recorded together, in one event for each reader and operation."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._waiting: list[_Read] = []
        self._adding, self._writing = threading.Lock(), threading.Lock()
        self._fetches: Counter[str] = Counter()
        self._postponed = Postponed(LogUnavailable)

    def note(self, author: Author, subjects: Sequence[str], *, what: str, through: str) -> None:
        """Record a read in the log. After an error the secrets must not be answered.

        Raises:
            LogUnavailable, ConflictPersists: the read is not recorded.
        """
        read = _Read(author, tuple(subjects), what, through)
        with self._adding:
            self._waiting.append(read)
        with self._writing:
            if not read.is_noted:
                self._write_waiting()
        if read.error is not None:
            raise read.error

    def _write_waiting(self) -> None:
        with self._adding:
            waiting, self._waiting = self._waiting, []
        alike: dict[tuple[Author, str, str], list[_Read]] = {}
        for read in waiting:
            alike.setdefault((read.author, read.what, read.through), []).append(read)
        for (author, what, through), reads in alike.items():
            subjects = tuple(dict.fromkeys(subject for read in reads for subject in read.subjects))
            named = subjects[:SUBJECTS_NAMED_MAX]
            command = NoteSecretsRead(str(author.by), named, len(subjects), what, through)
            try:
                self._context.do(command, author)
            except Exception as error:  # noqa: BLE001 - each waiting read raises it, and answers no secret
                for read in reads:
                    read.error = error
            for read in reads:
                read.is_noted = True

    def fetched(self, device_id: str) -> None:
        """Count a device's fetch of its modules' secrets; stored in Redis within a second."""
        self._context.fetches.inc()
        with self._adding:
            self._fetches[device_id] += 1

    async def run(self) -> None:
        """Store counts until cancelled; after an outage of Redis, those of that time too."""
        try:
            while True:
                await asyncio.sleep(FLUSH_SECONDS)
                await run_in_threadpool(self._keep)
        finally:
            self._keep()

    def _keep(self) -> None:
        with self._adding:
            counted, self._fetches = self._fetches, Counter()
        if not counted:
            return
        try:
            keep_fetches(
                self._context.client, counted, partitions=self._context.log.partitions, at=self._context.clock()
            )
        except LogUnavailable as error:
            with self._adding:
                self._fetches.update(counted)
            self._postponed.failed("counting fetches", error)
        else:
            self._postponed.worked("counting fetches")


def keep_fetches(client: Client, counted: Counter[str], *, partitions: int, at: int) -> None:
    """Add to the counts of a day, by device; `at` is in milliseconds since 1970."""
    pipe = client.pipeline(transaction=False)  # type: ignore[no-untyped-call, unused-ignore]
    for device_id, count in counted.items():
        name = fetches_key(partition_of(device_id, partitions), at)
        pipe.hincrby(name, device_id, count)
        pipe.expire(name, KEPT_DAYS * _DAY_SECONDS)
    with answering():
        pipe.execute()


def fetches_of(client: Client, device_id: str, *, partitions: int, at: int) -> dict[str, int]:
    """How often a device fetched its secrets, by day (UTC), newest first; days without a fetch are missing."""
    partition, fetches = partition_of(device_id, partitions), {}
    days = [at - 1000 * _DAY_SECONDS * back for back in range(KEPT_DAYS)]
    pipe = client.pipeline(transaction=False)  # type: ignore[no-untyped-call, unused-ignore]
    for day in days:
        pipe.hget(fetches_key(partition, day), device_id)
    with answering():
        counts = pipe.execute()
    for day, count in zip(days, counts, strict=True):
        if count is not None:
            fetches[_day(day)] = int(count)
    return fetches


def fetches_key(partition: int, at: int) -> str:
    """The Redis key of the counts of a partition's devices on one day."""
    return key(partition, f"fetches:{_day(at)}")


def _day(at: int) -> str:
    return dt.datetime.fromtimestamp(at / 1000, dt.UTC).date().isoformat()


def note_read(request: Request, subjects: Sequence[str], *, what: str) -> None:
    """Record that a request is about to be answered with secrets; a device's own fetch is counted.

    Raises:
        LogUnavailable, ConflictPersists: the read is not recorded, and no secret may be answered.
    """
    if not subjects:
        return
    caller = caller_of(request)
    reads: SecretReads = request.app.state.secret_reads
    if caller.device_id is not None:
        # Devices fetch all day: an event for each fetch would be most of the log (docs/decisions/0026).
        reads.fetched(caller.device_id)
        return
    # Without the scope of the caller, which limits their own writes; this record is ours.
    through = f"{request.method} {request.scope['route'].path}"
    reads.note(Author(caller.principal), subjects, what=what, through=through)
