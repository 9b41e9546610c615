"""Making a log, and opening one."""

import secrets

from events.clock import now_ms
from events.envelope import Principal
from events.log.archive.notes import made_of
from events.log.checks import check_server
from events.log.codec import decode_entry, position_of
from events.log.connect import TIMEOUT_SECONDS, Client, answering, connect, entries_of
from events.log.errors import LogMismatch, LogNotInitialised, LogRestoring
from events.log.events import LOG_SUBJECT, LogInitialised
from events.log.keys import FLEET, PARTITIONS_DEFAULT, PARTITIONS_MAX, key
from events.log.port import Proposed
from events.log.redis import RedisLog
from events.settings import hide_password

RESTORING = key(FLEET, "restoring")
"""Stands in a database from the first to the last write of a restore: what is there is not a log yet."""

_AUTHOR = Principal.parse("system:log")


def initialise(
    url: str,
    *,
    partitions: int = PARTITIONS_DEFAULT,
    allow_volatile: bool = False,
    epoch: str | None = None,
    at: int | None = None,
) -> RedisLog:
    """Make a log where there is none; where there is one with as many partitions, open it.

    `allow_volatile` accepts a server that may lose events. `epoch` names the log for good, by chance if it is not given;
    `at` is in milliseconds, now if it is not given.

    Raises:
        LogMismatch: there is a log with another number of partitions.
        LogRestoring, UnsafeRedis, LogUnavailable: as `open_log`.
    """
    if not 1 <= partitions <= PARTITIONS_MAX:
        raise ValueError(f"a log has 1 to {PARTITIONS_MAX} partitions, not {partitions}")
    client = connect(url)
    if not allow_volatile:
        check_server(client)
    found = _first_event(client)
    if found is None:
        event = LogInitialised(epoch or secrets.token_hex(8), partitions)
        log = RedisLog(client, partitions=partitions, epoch=event.epoch)
        now = now_ms()
        log.append([Proposed(LOG_SUBJECT, 0, event)], command_id="initialise", by=_AUTHOR, at=now if at is None else at)
        found = _first_event(client)
        assert found is not None
    if found.partitions != partitions:
        raise LogMismatch(partitions=found.partitions, wanted=partitions)
    return RedisLog(client, partitions=found.partitions, epoch=found.epoch)


def open_log(url: str, *, allow_volatile: bool = False, timeout_seconds: float = TIMEOUT_SECONDS) -> RedisLog:
    """Open the log at a URL; no answer within `timeout_seconds` is no answer.

    Raises:
        LogNotInitialised: there is none.
        LogRestoring: a restore into it has not ended.
        UnsafeRedis: the server would lose events, and `allow_volatile` does not accept that.
        LogUnavailable: the server does not answer.
    """
    client = connect(url, timeout_seconds=timeout_seconds)
    if not allow_volatile:
        check_server(client)
    found = _first_event(client)
    if found is None:
        raise LogNotInitialised(hide_password(url))
    return RedisLog(client, partitions=found.partitions, epoch=found.epoch)


def _first_event(client: Client) -> LogInitialised | None:
    with answering():
        if client.exists(RESTORING):
            raise LogRestoring
        entries = entries_of(client.xrange(key(FLEET, "log"), count=1))
    if not entries:
        return None
    if position_of(entries[0][0]) != 1:
        made = made_of(client)
        return None if made is None else LogInitialised(made.epoch, made.partitions)
    event = decode_entry("fleet", 1, entries[0][1]).event
    return event if isinstance(event, LogInitialised) else None
