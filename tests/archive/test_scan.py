"""Entries are found by what is in their fields, wherever they are kept."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from events.log.archive import segment
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from events.log.scan import EntryFilter, events_of, scan
from services.embedded_redis import EmbeddedRedis
from tests.archive.streams import FAR, fresh_log, mover, write_events

pytestmark = pytest.mark.redis_server

WANTED = (
    EntryFilter(),
    EntryFilter(subjects=frozenset({"edge-003", "edge-019", "nobody"})),
    EntryFilter(devices=frozenset({"edge-007"})),
    EntryFilter(types=frozenset({"DeviceRegistered"})),
    EntryFilter(types=frozenset({"DeviceRegistered"}), authors=frozenset({"user:ada"})),
    EntryFilter(causes=frozenset({"fleet:4"})),
    EntryFilter(since=5000, until=7000),
    EntryFilter(subjects=frozenset({"edge-003"}), until=3000),
)


@pytest.fixture
def log(shared_redis: EmbeddedRedis) -> Iterator[RedisLog]:
    with fresh_log(shared_redis) as made:
        write_events(made, 20)
        yield made


@pytest.mark.parametrize("part", ["nothing", "written", "trimmed"])
def test_the_same_is_found_wherever_it_is_kept(log: RedisLog, tmp_path: Path, part: str) -> None:
    everything = list(RawStreams(log.client).entries("p00"))
    if part != "nothing":
        moving = mover(log, tmp_path, segment_entries=30)
        moving.write("p00")
        if part == "trimmed":
            moving.trim("p00", before_at=5_000)
    streams = RawStreams(log.client)
    for wanted in WANTED:
        for after, upto in ((0, None), (0, 31), (13, 77), (95, 100)):
            expected = [one for one in everything[after:upto] if wanted.includes(one)]
            assert list(scan(streams, "p00", wanted, after=after, upto=upto)) == expected
    assert [len(list(scan(streams, "p00", wanted))) for wanted in WANTED] == [100, 10, 5, 20, 10, 5, 15, 0]


def test_an_entry_without_a_time_hides_no_other_from_a_search_by_time(log: RedisLog, tmp_path: Path) -> None:
    client: Any = log.client
    entries = client.xrange("{p00}:log")
    client.delete("{p00}:log")
    for position, (entry_id, fields) in enumerate(entries, 1):
        # The first and the last entry of a segment.
        client.xadd("{p00}:log", {b"what": b"ever"} if position in (30, 61) else fields, id=entry_id)
    filters = [EntryFilter(since=at, until=at + 1000) for at in range(1000, 20_000, 1000)]
    before = [list(scan(RawStreams(client), "p00", entry_filter)) for entry_filter in filters]
    moving = mover(log, tmp_path, segment_entries=30)
    moving.write("p00")
    # What leaves Redis goes by the time of the newest entry too, which is of 6,000 in the first segment.
    assert moving.trim("p00", before_at=5_999).trimmed == 0
    assert [list(scan(RawStreams(client), "p00", entry_filter)) for entry_filter in filters] == before


def test_of_a_segment_with_several_row_groups_only_those_with_what_is_wanted_are_read(
    log: RedisLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = list(RawStreams(log.client).entries("p00"))
    monkeypatch.setattr(segment, "GROUP_ENTRIES", 7)
    moving = mover(log, tmp_path, segment_entries=30)
    moving.write("p00")
    moving.trim("p00", before_at=FAR)
    read: list[int] = []
    rows = segment.SegmentFile.rows

    def noted(opened: segment.SegmentFile, group: int) -> segment.GroupRows:
        read.append(opened.firsts[group])
        return rows(opened, group)

    monkeypatch.setattr(segment.SegmentFile, "rows", noted)
    streams = RawStreams(log.client)
    for wanted in WANTED:
        for after, upto in ((0, None), (0, 31), (6, 8), (13, 77)):
            expected = [one for one in everything[after:upto] if wanted.includes(one)]
            assert list(scan(streams, "p00", wanted, after=after, upto=upto)) == expected
    read.clear()
    found = scan(streams, "p00", EntryFilter(devices=frozenset({"edge-007"})))
    assert ([one.position for one in found], read) == ([36, 37, 38, 39, 40], [31, 38])


def test_the_events_of_one_device_come_out_of_segments(log: RedisLog, tmp_path: Path) -> None:
    stored = log.read(0, after=0, limit=100)
    moving = mover(log, tmp_path, segment_entries=30)
    moving.write("p00")
    moving.trim("p00", before_at=FAR)
    events = list(events_of(RawStreams(log.client), ["edge-004"], partitions=1))
    assert events == [one for one in stored if one.subject == "edge-004"]
    assert len(events) == 5
