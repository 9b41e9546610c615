"""A file of a backup unpacks to what was packed, or to a refusal, whoever made it."""

import gzip
import tracemalloc

import msgspec
import pytest

from events.backup.errors import BackupDamaged
from events.backup.manifest import UNPACKED_BYTES_MAX, Record, pack, pack_records, unpack, unpack_records
from events.log.entries import RawEntry

ENTRIES = [RawEntry(7, {b"type": b"X", b"data": b"\xff"}), RawEntry(8, {})]
MEGABYTE = 1 << 20


def test_what_is_packed_comes_out() -> None:
    assert unpack("f", pack(ENTRIES)) == ENTRIES


def test_a_record_that_is_longer_than_files_may_unpack_to_comes_out_all_the_same() -> None:
    records = [Record("hash", "k", ((b"field", bytes(UNPACKED_BYTES_MAX)),))]
    packed = pack_records(records)
    assert len(packed) > UNPACKED_BYTES_MAX
    assert unpack_records("f", packed) == records


@pytest.mark.parametrize("read", [unpack, unpack_records])
def test_a_file_that_unpacks_to_far_more_than_it_has_is_refused_before_it_is_in_memory(read: object) -> None:
    """Members of gzip one behind the other are one file."""
    assert callable(read)
    times = 3 * UNPACKED_BYTES_MAX // MEGABYTE
    bomb = gzip.compress(b"\xc6" + (times * MEGABYTE).to_bytes(4, "big")) + times * gzip.compress(bytes(MEGABYTE))
    assert len(bomb) < MEGABYTE
    tracemalloc.start()
    try:
        with pytest.raises(BackupDamaged, match=r"files/ab.* more than 67108864 bytes"):
            read("files/ab", bomb)
        assert tracemalloc.get_traced_memory()[1] < 2.5 * UNPACKED_BYTES_MAX
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "record",
    [
        ("hash", "k", [[b"field"]]),
        ("hash", "k", [[b"field", b"value", b"more"]]),
        ("stream", "k", [[b"1-0", b"field"]]),
        ("stream", "k", [[]]),
        ("set", "k", [[b"member"]]),
    ],
)
def test_a_record_of_no_known_form_is_refused(record: object) -> None:
    with pytest.raises(BackupDamaged, match="files/ab"):
        unpack_records("files/ab", gzip.compress(msgspec.msgpack.encode([record])))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"x", id="not-packed"),
        pytest.param(pack(ENTRIES)[:-9], id="cut-off"),
        pytest.param(pack(ENTRIES)[:-8] + bytes(8), id="wrong-checksum"),
        pytest.param(pack(ENTRIES) + b"x", id="something-behind"),
        pytest.param(gzip.compress(b"\xc1", mtime=0), id="not-records"),
        pytest.param(gzip.compress(msgspec.msgpack.encode([[1, [b"odd"]]]), mtime=0), id="odd-fields"),
    ],
)
def test_a_file_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(BackupDamaged, match="files/ab"):
        unpack("files/ab", data)
