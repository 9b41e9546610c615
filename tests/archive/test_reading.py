"""Whoever reads the log reads what was archived and what was not as if it were one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from events.log.entries import entry_bytes
from events.log.errors import LogLostItsTail
from events.log.events import LOG_SUBJECT, BlockResolved
from events.log.keys import FLEET, key
from events.log.log_factory import initialise, open_log
from events.log.port import Proposed, read_all
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from services.embedded_redis import EmbeddedRedis
from tests.archive.streams import ADA, FAR, fresh_log, mover, write_events

pytestmark = pytest.mark.redis_server


@pytest.fixture
def log(shared_redis: EmbeddedRedis) -> Iterator[RedisLog]:
    with fresh_log(shared_redis) as made:
        write_events(made, 20)
        yield made


def test_what_was_archived_reads_as_it_did(log: RedisLog, tmp_path: Path) -> None:
    streams = RawStreams(log.client)
    stored = [entry_bytes("p00", entry) for entry in streams.entries("p00")]
    events = list(read_all(log, 0))
    times = [log.position_at(0, at) for at in range(0, 25_000, 500)]
    moving = mover(log, tmp_path)
    assert moving.write("p00").segments == 10
    assert moving.trim("p00", before_at=FAR).trimmed == 90
    assert log.client.xlen(key(0, "log")) == 10

    again = RawStreams(log.client)
    assert [entry_bytes("p00", entry) for entry in again.entries("p00")] == stored
    assert again.head("p00") == 100
    # One that read before and one that is new; in batches that end anywhere.
    for reader in (log, RedisLog(log.client, partitions=1, epoch="test")):
        assert list(read_all(reader, 0)) == events
        assert list(read_all(reader, 0, batch=7, after=33, upto=95)) == events[33:95]
        assert reader.read(0, after=85, limit=10) == events[85:95]
        assert reader.read(0, after=100, limit=10) == []
        assert [reader.position_at(0, at) for at in range(0, 25_000, 500)] == times
    with pytest.raises(LogLostItsTail):
        log.read(0, after=101, limit=1)


def test_a_log_opens_though_its_first_event_is_archived(
    log: RedisLog, tmp_path: Path, shared_redis: EmbeddedRedis
) -> None:
    moving = mover(log, tmp_path, segment_entries=1)
    assert moving.write("fleet").written == 1
    assert moving.trim("fleet", before_at=FAR).held_by == "head"
    first = log.read(FLEET, after=0, limit=1)
    decision = Proposed(LOG_SUBJECT, 1, BlockResolved(0, 1, "an example"))
    log.append([decision], command_id="decided", by=ADA, at=1)
    assert moving.trim("fleet", before_at=FAR).trimmed == 1
    for opened in (open_log(shared_redis.url), initialise(shared_redis.url, partitions=1)):
        assert (opened.partitions, opened.epoch) == (1, "test")
        assert opened.read(FLEET, after=0, limit=1) == first
        opened.client.close()


def test_a_gap_is_found_though_something_was_archived(log: RedisLog, tmp_path: Path) -> None:
    moving = mover(log, tmp_path)
    moving.write("p00")
    moving.trim("p00", before_at=FAR)
    log.client.xdel(key(0, "log"), "91-0")
    with pytest.raises(LogLostItsTail, match="91"):
        log.read(0, after=85, limit=10)
    with pytest.raises(LogLostItsTail, match="91"):
        RawStreams(log.client).read("p00", after=85, limit=10)


@pytest.mark.parametrize("is_archived", [False, True])
def test_a_time_has_its_position_beside_entries_that_are_missing_or_have_no_time(
    log: RedisLog, tmp_path: Path, *, is_archived: bool
) -> None:
    """An operator can skip such positions, and then asks for a time before or after them."""
    client: Any = log.client
    stream = key(0, "log")
    entries = client.xrange(stream)
    at_by_position = {position: int(fields[b"at"]) for position, (_, fields) in enumerate(entries, 1)}
    damaged, deleted = (1, 2, 10, 13, 34, 35, 36, 50, 60, 75), (88, 89, 94, 97)
    client.delete(stream)
    for position, (entry_id, fields) in enumerate(entries, 1):
        if position not in deleted:
            client.xadd(stream, {b"what": b"ever"} if position in damaged else fields, id=entry_id)
    if is_archived:
        moving = mover(log, tmp_path)
        with pytest.raises(LogLostItsTail, match="88"):
            moving.write("p00")
        assert moving.trim("p00", before_at=FAR).trimmed == 80
    timed = {position: at for position, at in at_by_position.items() if position not in (*damaged, *deleted)}
    for at in range(1000, 22_000, 500):
        last = max((position for position, of_entry in timed.items() if of_entry <= at), default=0)
        next_timed = min((position for position, of_entry in timed.items() if of_entry > at), default=101)
        # Entries without a time belong to either side.
        assert last <= log.position_at(0, at) < next_timed
