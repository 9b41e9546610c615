"""A file of the archive that is gone, cut short, changed or another's is named, by whoever reads it and by verify."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from events.deployment.commands import CreateDeployment, DeleteDeployment
from events.envelope import Principal
from events.log.archive.mover import faults
from events.log.archive.notes import archive_key, notes_of
from events.log.errors import LogError, LogLostItsTail, ManifestDamaged, SegmentDamaged, SegmentMissing
from events.log.object_store import ObjectStore
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from events.log.scan import EntryFilter, scan
from events.producer.producer import Producer
from services.embedded_redis import EmbeddedRedis
from tests.archive.streams import FAR, fresh_log, mover, write_events
from tests.manifest.contents import content

pytestmark = pytest.mark.redis_server
SECOND = "events/p00/000000000031-000000000060-"


@pytest.fixture
def log(shared_redis: EmbeddedRedis, tmp_path: Path) -> Iterator[RedisLog]:
    with fresh_log(shared_redis) as made:
        write_events(made, 20)
        moving = mover(made, tmp_path, segment_entries=30)
        moving.write("p00")
        moving.trim("p00", before_at=FAR)
        yield made


def _file(location: Path, beginning: str) -> Path:
    (path,) = location.glob(f"{beginning}*.parquet")
    return path


def _flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def _in_a_page(file: Path) -> None:
    """Changes a byte of each column chunk of data."""
    for at in range(40, file.stat().st_size // 2, 20):
        _flip(file, at)


def _cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def _of_others(file: Path) -> None:
    file.write_bytes(_file(file.parent, "000000000001-000000000030-").read_bytes())


def _no_parquet(file: Path) -> None:
    file.write_bytes(b"x" * file.stat().st_size)


@pytest.mark.parametrize("harm", [_in_a_page, _cut_short, _of_others, _no_parquet, Path.unlink])
def test_a_segment_with_a_fault_is_named_and_what_is_before_it_reads(
    log: RedisLog, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    harm(_file(tmp_path, SECOND))
    kind: type[LogError] = SegmentMissing if harm is Path.unlink else SegmentDamaged
    named = rf"p00:31 to 60.*{SECOND}"
    assert len(log.read(0, after=0, limit=30)) == 30
    with pytest.raises(kind, match=named):
        log.read(0, after=30, limit=1)
    with pytest.raises(kind, match=named):
        list(RawStreams(log.client).entries("p00"))
    with pytest.raises(kind, match=named):
        list(scan(RawStreams(log.client), "p00", EntryFilter(types=frozenset({"DeviceRegistered"}))))
    (fault,) = faults(log.client, ObjectStore(str(tmp_path)), "p00", epoch=log.epoch)
    assert isinstance(fault, kind)
    assert len(log.read(0, after=60, limit=100)) == 40


def test_a_segment_that_redis_has_no_note_of_is_named_and_its_entries_are_not_passed_over(
    shared_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    with fresh_log(shared_redis) as log:
        write_events(log, 20)
        moving = mover(log, tmp_path, segment_entries=30)
        moving.write("p00")
        entry_filter = EntryFilter(types=frozenset({"DeviceRegistered"}))
        note = log.client.hget(archive_key("p00"), "segment:000000000060")
        assert note
        log.client.hdel(archive_key("p00"), "segment:000000000060")
        # Redis has the entries as well, so they are read there.
        assert len(list(scan(RawStreams(log.client), "p00", entry_filter))) == 20
        log.client.hset(archive_key("p00"), "segment:000000000060", note)
        moving.trim("p00", before_at=FAR)
        log.client.hdel(archive_key("p00"), "segment:000000000060")
        named = "p00: expected position 31, the log has 61"
        streams = RawStreams(log.client)
        with pytest.raises(LogLostItsTail, match=named):
            list(scan(streams, "p00", entry_filter))
        with pytest.raises(LogLostItsTail, match=named):
            list(streams.entries("p00", after=30))
        with pytest.raises(LogLostItsTail, match=named):
            log.position_at(0, 9_000)
        assert len(log.read(0, after=0, limit=30)) == 30
        assert len(log.read(0, after=60, limit=100)) == 40


def test_a_fault_in_what_redis_has_as_well_stops_nobody_and_keeps_it_there(
    shared_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    with fresh_log(shared_redis) as log:
        write_events(log, 20)
        moving = mover(log, tmp_path, segment_entries=30)
        moving.write("p00")
        everything = list(RawStreams(log.client).entries("p00"))
        _in_a_page(_file(tmp_path, SECOND))
        entry_filter = EntryFilter(types=frozenset({"DeviceRegistered"}))
        assert len(list(scan(RawStreams(log.client), "p00", entry_filter))) == 20
        with pytest.raises(SegmentDamaged, match=SECOND):
            moving.trim("p00", before_at=FAR)
        assert notes_of(log.client, "p00").trimmed == 30
        assert list(RawStreams(log.client).entries("p00")) == everything


def _forged(file: Path) -> None:
    """Says that somebody else did it all, in a file that is whole in itself."""
    with pq.ParquetFile(file) as parquet:
        table, said = parquet.read(), parquet.metadata.metadata
    number = table.schema.get_field_index("by")
    others = pa.array(["user:mallory"] * table.num_rows).dictionary_encode()
    table = table.set_column(number, table.schema.field(number), others).replace_schema_metadata(said)
    pq.write_table(table, file, compression="zstd", write_page_checksum=True)


@pytest.mark.parametrize("was_read", [True, False])
def test_a_forged_file_is_believed_by_nobody_also_not_by_who_has_read_it_before(
    shared_redis: EmbeddedRedis, tmp_path: Path, *, was_read: bool
) -> None:
    entry_filter = EntryFilter(types=frozenset({"DeviceRegistered"}))
    with fresh_log(shared_redis) as log:
        write_events(log, 20)
        moving = mover(log, tmp_path, segment_entries=30)
        moving.write("p00")
        reading = RawStreams(log.client)
        stored = [entry for entry in reading.entries("p00") if entry_filter.includes(entry)]
        assert not was_read or list(scan(reading, "p00", entry_filter)) == stored
        file = _file(tmp_path, SECOND)
        true = file.read_bytes()
        _forged(file)
        # What is in Redis as well is told as it stands there.
        assert list(scan(reading, "p00", entry_filter)) == stored
        file.write_bytes(true)
        assert moving.trim("p00", before_at=FAR).trimmed == 90
        assert list(scan(reading, "p00", entry_filter)) == stored
        _forged(file)
        with pytest.raises(SegmentDamaged, match=rf"p00:31 to 60.*{SECOND}"):
            list(scan(reading, "p00", entry_filter))


def test_an_entry_that_changed_in_redis_after_it_was_written_is_not_taken_out(
    shared_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    with fresh_log(shared_redis) as log:
        write_events(log, 20)
        moving = mover(log, tmp_path, segment_entries=30)
        moving.write("p00")
        stream = "{p00}:log"
        entries = log.client.xrange(stream)
        log.client.delete(stream)
        for entry_id, fields in entries:  # type: ignore[union-attr]
            changed = {**fields, b"cause": b"forged"} if entry_id == b"7-0" else fields
            log.client.xadd(stream, changed, id=entry_id)
        with pytest.raises(SegmentDamaged, match="differ from those in Redis"):
            moving.trim("p00", before_at=FAR)
        assert log.client.xlen(stream) == 100


def test_a_manifest_that_changed_is_found_and_mended(log: RedisLog, tmp_path: Path) -> None:
    object_store = ObjectStore(str(tmp_path))
    for data in (b"{}", b"", (tmp_path / "manifests/events/p00.json").read_bytes().replace(b'"last":60', b'"last":61')):
        object_store.put("manifests/events/p00.json", data)
        (fault,) = faults(log.client, object_store, "p00", epoch=log.epoch)
        assert isinstance(fault, ManifestDamaged)
        mover(log, tmp_path, segment_entries=30).write("p00")
        assert list(faults(log.client, object_store, "p00", epoch=log.epoch)) == []


def test_deployments_are_ranked_without_the_archive(shared_redis: EmbeddedRedis, tmp_path: Path) -> None:
    """They are in Redis: a process that wrote none for a while creates one, and advises on it, whatever the archive has."""
    with fresh_log(shared_redis) as log, Producer(log, by=Principal.parse("user:ada")) as producer:
        producer.do(CreateDeployment("one", content(), priority=1))
        assert set(log.ranked_deployments().by_id) == {"one"}
        with Producer(
            RedisLog(log.client, partitions=log.partitions, epoch=log.epoch), by=Principal.parse("user:bo")
        ) as bo:
            bo.do(CreateDeployment("two", content(), priority=2))
            bo.do(DeleteDeployment("one"))
            bo.do(CreateDeployment("three", content(), priority=3))
        moving = mover(log, tmp_path, segment_entries=1)
        moving.write("fleet")
        moving.trim("fleet", before_at=FAR)
        for file in tmp_path.rglob("*.parquet"):
            file.unlink()
        assert set(log.ranked_deployments().by_id) == {"two", "three"}
