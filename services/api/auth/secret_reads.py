"""Records of reads of secrets: an event before a person or token gets them, a counter for devices' own fetches."""

import asyncio
import datetime as dt
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future

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


class SecretReads:
    """Records reads. Reads that arrive during a write are recorded together, in one event for each reader and operation."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self._waiting: dict[tuple[Author, str, str], list[tuple[Sequence[str], Future[None]]]] = {}
        self._adding, self._writing = threading.Lock(), threading.Lock()
        self._fetches: Counter[str] = Counter()
        self._postponed = Postponed(LogUnavailable)

    def note(self, author: Author, subjects: Sequence[str], *, what: str, through: str) -> None:
        """Record a read in the log. After LogUnavailable or ConflictPersists the secrets must not be answered."""
        noted: Future[None] = Future()
        with self._adding:
            self._waiting.setdefault((author, what, through), []).append((subjects, noted))
        with self._writing:
            if not noted.done():
                self._write_waiting()
        noted.result()

    def _write_waiting(self) -> None:
        with self._adding:
            waiting, self._waiting = self._waiting, {}
        for (author, what, through), reads in waiting.items():
            subjects = tuple(dict.fromkeys(subject for of_read, _ in reads for subject in of_read))
            command = NoteSecretsRead(str(author.by), subjects[:SUBJECTS_NAMED_MAX], len(subjects), what, through)
            try:
                self._context.do(command, author)
            except Exception as error:  # noqa: BLE001 - each waiting read raises it, and answers no secret
                for _, noted in reads:
                    noted.set_exception(error)
            else:
                for _, noted in reads:
                    noted.set_result(None)

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
        partitions, at = self._context.log.partitions, self._context.clock()
        pipe = self._context.client.pipeline(transaction=False)  # type: ignore[no-untyped-call, unused-ignore]
        for device_id, count in counted.items():
            name = fetches_key(partition_of(device_id, partitions), at)
            pipe.hincrby(name, device_id, count)
            pipe.expire(name, KEPT_DAYS * _DAY_SECONDS)
        with self._postponed.attempt("counting fetches"):
            try:
                with answering():
                    pipe.execute()
            except LogUnavailable:
                with self._adding:
                    self._fetches.update(counted)
                raise


def fetches_of(client: Client, device_id: str, *, partitions: int, at: int) -> dict[str, int]:
    """How often a device fetched its secrets, by day (UTC), newest first; days without a fetch are missing."""
    partition = partition_of(device_id, partitions)
    days = [at - 1000 * _DAY_SECONDS * back for back in range(KEPT_DAYS)]
    pipe = client.pipeline(transaction=False)  # type: ignore[no-untyped-call, unused-ignore]
    for day in days:
        pipe.hget(fetches_key(partition, day), device_id)
    with answering():
        counts = pipe.execute()
    return {_day(day): int(count) for day, count in zip(days, counts, strict=True) if count is not None}


def fetches_key(partition: int, at: int) -> str:
    """The Redis key of the counts of a partition's devices on one day."""
    return key(partition, f"fetches:{_day(at)}")


def _day(at: int) -> str:
    return dt.datetime.fromtimestamp(at / 1000, dt.UTC).date().isoformat()


def note_read(request: Request, subjects: Sequence[str], *, what: str) -> None:
    """Record that a request is about to be answered with secrets; a device's own fetch is counted.

    Raises:
        As `note`.
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
