"""Initialises and opens logs in Redis."""

import secrets
from typing import Any

from events.clock import now_ms
from events.envelope import Principal
from events.log.archive.notes import initialisation_of
from events.log.codec import decode_entry
from events.log.connect import TIMEOUT_SECONDS, Client, answering, check_server, connect
from events.log.entries import in_stream
from events.log.errors import LogMismatch, LogNotInitialised, LogOfAnotherVersion, LogRestoring
from events.log.events import LOG_SUBJECT, LogInitialised
from events.log.keys import FLEET, PARTITIONS_DEFAULT, PARTITIONS_MAX, key, name
from events.log.port import Proposed
from events.log.redis import RedisLog
from events.settings import hide_password

RESTORING = key(FLEET, "restoring")
"""The key that a database has from the first to the last write of a restore, so that a part of a log is not opened as a log."""

FORMAT = 2
"""The number of the form in which a log's heads and documents are stored; append.lua writes it with a stream's first event.

It rises when an older version could not read what this one writes, or the other way round. Format 1, which has no number, had
two hashes, `heads` and `snapshots`. Without a check, every subject of such a log would seem to have no event. Entries, files
of the archive and backups have forms of their own: a backup of any format can be restored, because documents are replayed.
"""

_AUTHOR = Principal.parse("system:log")


def initialise(
    url: str,
    *,
    partitions: int | None = None,
    allow_volatile: bool = False,
    epoch: str | None = None,
    at: int | None = None,
) -> RedisLog:
    """Initialise a log in an empty database, or open the log that is there.

    `partitions` is from 1 to 1,000; `None` is the number of the log that is there, or the default of a new one.
    `allow_volatile` accepts a server that may lose events. `epoch` is the permanent id of the log (default: random);
    `at` is in milliseconds (default: now).

    Raises:
        LogMismatch: the database has a log with another number of partitions.
        LogOfAnotherVersion, LogRestoring, UnsafeRedis, LogUnavailable: as `open_log`.
    """
    if partitions is not None and not 1 <= partitions <= PARTITIONS_MAX:
        raise ValueError(f"a log has 1 to {PARTITIONS_MAX} partitions, not {partitions}")
    client = connect(url)
    if not allow_volatile:
        check_server(client)
    first_event = _first_event(client)
    if first_event is None:
        # Of two processes that initialise at once, one append is written and the other is a conflict or repeated (the command
        # id is fixed). So the first event is read again, and both open the same log.
        event = LogInitialised(epoch or secrets.token_hex(8), partitions or PARTITIONS_DEFAULT)
        log = RedisLog(client, partitions=event.partitions, epoch=event.epoch)
        now = now_ms()
        log.append([Proposed(LOG_SUBJECT, 0, event)], command_id="initialise", by=_AUTHOR, at=now if at is None else at)
        first_event = _first_event(client)
        assert first_event is not None
    # `up` names no number: it also continues a log that `init` or a restore made with another one than the default.
    if partitions is not None and first_event.partitions != partitions:
        raise LogMismatch(partitions=first_event.partitions, requested=partitions)
    return RedisLog(client, partitions=first_event.partitions, epoch=first_event.epoch)


def open_log(url: str, *, allow_volatile: bool = False, timeout_seconds: float = TIMEOUT_SECONDS) -> RedisLog:
    """Open the log at a URL.

    Raises:
        LogNotInitialised: the database has no log.
        LogOfAnotherVersion: an older or newer version of twinfold wrote the log, in another storage format.
        LogRestoring: a restore into the database has not ended.
        UnsafeRedis: the server would lose events, and `allow_volatile` is not set.
        LogUnavailable: the server does not answer within `timeout_seconds`.
    """
    client = connect(url, timeout_seconds=timeout_seconds)
    if not allow_volatile:
        check_server(client)
    first_event = _first_event(client)
    if first_event is None:
        raise LogNotInitialised(hide_password(url))
    return RedisLog(client, partitions=first_event.partitions, epoch=first_event.epoch)


def _first_event(client: Client) -> LogInitialised | None:
    with answering():
        # Not a transaction, so that a cluster can answer too.
        pipe: Any = client.pipeline(transaction=False)
        pipe.get(RESTORING)
        pipe.hget(key(FLEET, "meta"), "format")
        restoring, stored_format = pipe.execute()
    if restoring is not None:
        raise LogRestoring
    entries = in_stream(client, name(FLEET), after=0, limit=1)
    if not entries:
        return None
    if int(stored_format or 1) != FORMAT:
        raise LogOfAnotherVersion(stored=int(stored_format or 1), supported=FORMAT)
    # Once the first event is archived, its copy in Redis is read: a log opens although its archive is away.
    if entries[0].position != 1:
        return initialisation_of(client)
    event = decode_entry(name(FLEET), 1, entries[0].fields).event
    return event if isinstance(event, LogInitialised) else None
