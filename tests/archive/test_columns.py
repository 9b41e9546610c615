"""Whatever an entry has, it comes back out of columns byte by byte."""

import itertools

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.log.archive.columns import GroupRows, batch_of, is_plain
from events.log.archive.segment import GROUP_ENTRIES, SegmentFile, SegmentWriter, chained, open_part, open_whole, verify
from events.log.codec import FIELDS, RECORDED, decode_entry
from events.log.entries import RawEntry, entry_bytes, genesis
from events.log.errors import UnreadableEvent
from events.log.object_store import ObjectStore

NAMES = [field.encode() for field in FIELDS]
REGISTERED = {
    b"type": b"DeviceRegistered",
    b"subject": "Gerät".encode(),
    b"version": b"1",
    b"at": b"17",
    b"by": b"user:ada",
    b"cause": b"",
    b"data": b'{"type":"DeviceRegistered"}',
}

numbers = st.sampled_from([b"0", b"1", b"17", b"017", b"-1", b"", b"x", b"9" * 18, b"9" * 19, b"9" * 40])
words = st.one_of(st.text(max_size=9).map(str.encode), st.binary(max_size=4))
plain = st.fixed_dictionaries({name: numbers if name in (b"version", b"at") else words for name in NAMES})
of_assignment_changes = st.builds(lambda fields, recorded: {**fields, RECORDED: recorded}, plain, numbers)
strange = st.dictionaries(st.one_of(st.sampled_from(NAMES), words), st.one_of(numbers, words), max_size=9)


def entries(*fields: dict[bytes, bytes]) -> list[RawEntry]:
    return [RawEntry(position, one) for position, one in enumerate(fields, 5)]


@given(st.lists(st.one_of(plain, of_assignment_changes, strange), min_size=1, max_size=8))
def test_any_entry_comes_back_as_it_was(fields: list[dict[bytes, bytes]]) -> None:
    stored = entries(*fields)
    rows = GroupRows(pa.Table.from_batches([batch_of(stored)]))
    wanted = [entry_bytes("p00", entry) for entry in stored]
    assert [entry_bytes("p00", entry) for entry in rows.entries(0, len(rows))] == wanted
    assert [entry_bytes("p00", entry) for entry in rows.picked(range(len(rows)))] == wanted
    assert [entry_bytes("p00", entry) for entry in rows.picked([*range(len(rows))] * 65)] == wanted * 65
    for start, stop in itertools.combinations(range(len(stored) + 1), 2):
        assert [entry_bytes("p00", entry) for entry in rows.entries(start, stop)] == wanted[start:stop]


def test_the_entries_that_the_log_writes_fit_the_columns() -> None:
    assert is_plain(REGISTERED)
    assert is_plain({**REGISTERED, RECORDED: b"18"})
    assert not is_plain({**REGISTERED, RECORDED: b"018"})
    assert not is_plain({RECORDED: b"18", **REGISTERED})
    assert not is_plain({**REGISTERED, b"version": b"01"})
    assert not is_plain(dict(reversed(REGISTERED.items())))
    assert not is_plain({**REGISTERED, b"more": b""})
    assert not is_plain({**REGISTERED, b"cause": b"\xff"})
    # Halves of a letter in two fields are no letter.
    assert not is_plain({**REGISTERED, b"by": b"\xc3", b"cause": b"\xa9"})


def _segment(count: int) -> tuple[list[RawEntry], SegmentFile, ObjectStore]:
    """A segment of several row groups, open for reading, in an object store of its own."""
    object_store = ObjectStore("memory://columns")
    stored = [
        RawEntry(position, {**REGISTERED, b"subject": b"edge-%d" % (position % 7), b"at": b"%d" % position})
        for position in range(1, count + 1)
    ]
    writer = SegmentWriter("p00", epoch="test", before=genesis("test", "p00"))
    for entry in stored:
        writer.add(entry)
    segment, data = writer.finish()
    object_store.put(segment.name, data)
    return stored, open_part(object_store, segment), object_store


def test_a_segment_of_several_row_groups_reads_whole_and_in_part() -> None:
    stored, opened, object_store = _segment(2 * GROUP_ENTRIES + 10)
    assert len(opened.firsts) == 3
    found = [entry for group in range(3) for entry in opened.rows(group).entries(0, len(opened.rows(group)))]
    assert found == stored
    verify(object_store, opened.segment)
    assert chained("p00", genesis("test", "p00"), stored).hex() == opened.segment.after
    assert opened.firsts == [1, GROUP_ENTRIES + 1, 2 * GROUP_ENTRIES + 1]
    rows = open_whole(object_store, opened.segment).rows(1)
    expected = [decode_entry("p00", one.position, one.fields) for one in stored[GROUP_ENTRIES + 3 : GROUP_ENTRIES + 9]]
    assert rows.envelopes("p00", 3, 9) == expected
    assert rows.picked(range(1, GROUP_ENTRIES, 3)) == stored[GROUP_ENTRIES + 1 : 2 * GROUP_ENTRIES : 3]


def test_a_file_without_the_column_of_assignment_changes_reads_as_it_was_written() -> None:
    table = pa.Table.from_batches([batch_of(entries(REGISTERED, REGISTERED))]).drop_columns([RECORDED.decode()])
    rows = GroupRows(table)
    assert [one.fields for one in rows.entries(0, 2)] == [REGISTERED, REGISTERED]
    assert [one.fields for one in rows.picked([1])] == [REGISTERED]


def test_an_event_that_does_not_decode_is_named_as_it_is_in_a_stream() -> None:
    bad = {**REGISTERED, b"data": b'{"type":"Nothing"}'}
    rows = GroupRows(pa.Table.from_batches([batch_of(entries(REGISTERED, bad, REGISTERED))]))
    assert len(rows.envelopes("p00", 0, 1)) == 1
    with pytest.raises(UnreadableEvent, match="p00:6"):
        rows.envelopes("p00", 0, 3)
    nobody = {**REGISTERED, b"by": b"nobody"}
    rows = GroupRows(pa.Table.from_batches([batch_of(entries(REGISTERED, nobody))]))
    with pytest.raises(UnreadableEvent, match="p00:6"):
        rows.envelopes("p00", 0, 2)


def test_events_of_older_versions_are_brought_up_to_date() -> None:
    old = {**REGISTERED, b"type": b"DeviceAdded", b"data": b'{"type":"DeviceAdded"}'}
    rows = GroupRows(pa.Table.from_batches([batch_of(entries(old, REGISTERED))]))
    upcasters = {b"DeviceAdded": lambda data: {**data, "type": "DeviceRegistered"}}
    found = rows.envelopes("p00", 0, 2, upcasters=upcasters)
    assert found[0].event == found[1].event
