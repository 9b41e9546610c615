"""What is done to a sealed log is found and named; what is not done is not."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from redis import Redis

from events import canonical
from events.audit.alignment import FaultKind
from events.audit.errors import NothingSealed, SealExists, SealsLost
from events.audit.seal import ENTRY_BYTES, FIRST, PublicKey, Reached, SealKey, Signed, shortened
from events.audit.seal_store import SealFiles
from events.audit.sealer import public_key
from events.audit.verify import SealSpan, VerificationReport, verify_log
from events.log.archive.mover import Mover
from events.log.entries import key_of
from events.log.events import LogInitialised
from events.log.object_store import ObjectStore
from events.secrets.keyfile import read_key
from services.embedded_redis import EmbeddedRedis
from tests.audit.sealing import Entry, entries, fill, replace_seals, sealer_of, settings_of, write_again
from tests.workers.system import System, fresh_system, join

pytestmark = pytest.mark.redis_server

STREAM = "p01"


@pytest.fixture
def system(shared_redis: EmbeddedRedis) -> Iterator[System]:
    with fresh_system(shared_redis) as system:
        yield system


@pytest.fixture
def sealed(system: System, tmp_path: Path) -> System:
    """Sixty devices' events in four seals."""
    sealer = sealer_of(system, tmp_path)
    for number in range(4):
        fill(system, 15, prefix=f"r{number}-")
        assert sealer.round(1) == 1
    assert len(entries(system, STREAM)) > 20
    return system


def verified(
    system: System, directory: Path, *, span: SealSpan | None = None, keys: list[PublicKey] | None = None
) -> VerificationReport:
    settings = settings_of(system, directory)
    return verify_log(settings, system.log, keys or [public_key(settings)], span=span)


def found(system: System, directory: Path) -> list[tuple[FaultKind, str]]:
    return [(fault.kind, fault.location) for fault in verified(system, directory).faults]


def test_what_nobody_touched_is_fine_to_the_last_entry(sealed: System, tmp_path: Path) -> None:
    report = verified(sealed, tmp_path)
    assert report.is_fine
    assert report.seals == 4
    assert report.entries == sum(sealed.log.heads().values())
    assert report.unsealed == ()


def test_what_came_after_the_last_seal_is_told_as_not_sealed(sealed: System, tmp_path: Path) -> None:
    before = sealed.log.heads()[1]
    while sealed.log.heads()[1] < before + 3:
        fill(sealed, 1, prefix=f"late{sum(sealed.log.heads().values())}-")
    report = verified(sealed, tmp_path)
    assert report.is_fine
    late = {one.stream: one for one in report.unsealed}
    assert late[STREAM].after == before
    assert late[STREAM].entries == sealed.log.heads()[1] - before


def test_nothing_sealed_is_said_and_not_taken_for_fine(system: System, tmp_path: Path) -> None:
    with pytest.raises(NothingSealed):
        verified(system, tmp_path, keys=[SealKey(bytes(32)).public])


def change(fields: list[dict[bytes, bytes]]) -> None:
    fields[6][b"by"] = b"user:mallory"


def drop(fields: list[dict[bytes, bytes]]) -> None:
    del fields[6]


def drop_three(fields: list[dict[bytes, bytes]]) -> None:
    del fields[6:9]


def insert(fields: list[dict[bytes, bytes]]) -> None:
    fields.insert(6, {**fields[6], b"subject": b"mallory"})


def swap(fields: list[dict[bytes, bytes]]) -> None:
    fields[6], fields[7] = fields[7], fields[6]


def move(fields: list[dict[bytes, bytes]]) -> None:
    fields.insert(2, fields.pop(12))


def cut(fields: list[dict[bytes, bytes]]) -> None:
    del fields[-2:]


@pytest.mark.parametrize(
    ("meddle", "kind", "positions"),
    [
        (change, FaultKind.CHANGED, [7]),
        (drop, FaultKind.DROPPED, [7]),
        (drop_three, FaultKind.DROPPED, [7, 8, 9]),
        (insert, FaultKind.INSERTED, [7]),
        (swap, FaultKind.REORDERED, [8]),
        (move, FaultKind.REORDERED, [13]),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_entry_that_is_not_as_it_was_is_named_alone(
    sealed: System,
    tmp_path: Path,
    meddle: Callable[[list[dict[bytes, bytes]]], None],
    kind: FaultKind,
    positions: list[int],
) -> None:
    write_again(sealed, STREAM, meddle)
    assert found(sealed, tmp_path) == [(kind, f"{STREAM}:{position}") for position in positions]


def test_several_faults_of_one_stream_are_told_apart(sealed: System, tmp_path: Path) -> None:
    def several(fields: list[dict[bytes, bytes]]) -> None:
        change(fields)
        del fields[10]
        fields.insert(15, {**fields[15], b"cause": b"nothing"})

    write_again(sealed, STREAM, several)
    assert found(sealed, tmp_path) == [
        (FaultKind.CHANGED, "p01:7"),
        (FaultKind.DROPPED, "p01:11"),
        (FaultKind.INSERTED, "p01:16"),
    ]


def test_an_entry_deleted_where_it_stood_is_named(sealed: System, tmp_path: Path) -> None:
    client = Redis.from_url(sealed.url)
    client.xdel(key_of(STREAM), "5-0")
    client.close()
    assert found(sealed, tmp_path) == [(FaultKind.DROPPED, "p01:5")]


def test_a_tail_that_is_missing_behind_a_seal_is_named(sealed: System, tmp_path: Path) -> None:
    head = len(entries(sealed, STREAM))
    write_again(sealed, STREAM, cut)
    assert found(sealed, tmp_path) == [(FaultKind.MISSING, f"{STREAM}:{head - 1}-{head}")]


def test_an_entry_between_two_positions_is_noticed(sealed: System, tmp_path: Path) -> None:
    client = Redis.from_url(sealed.url)
    client.xadd(key_of(STREAM), {"type": "TwinPatched"}, id=f"{len(entries(sealed, STREAM))}-1")
    client.close()
    assert found(sealed, tmp_path) == [(FaultKind.INSERTED, STREAM)]


def archived(system: System, directory: Path) -> list[Path]:
    """Everything sealed moves to the archive, in short segments; answers their files."""
    initialisation = LogInitialised(system.log.epoch, system.log.partitions)
    location = directory / "archive"
    mover = Mover(system.log.client, ObjectStore(str(location)), initialisation=initialisation, segment_entries=5)
    mover.settle()
    for stream in ("fleet", "p00", "p01", "p02", "p03"):
        mover.write(stream)
        mover.trim(stream, before_at=2**53)
    return sorted(location.glob("**/*.parquet"))


def test_what_was_archived_is_verified_where_it_is(sealed: System, tmp_path: Path) -> None:
    before = entries(sealed, STREAM)
    assert archived(sealed, tmp_path)
    assert len(entries(sealed, STREAM)) < len(before)
    report = verified(sealed, tmp_path)
    assert report.is_fine
    assert report.entries == sum(sealed.log.heads().values())


def test_nothing_is_archived_that_is_not_sealed(sealed: System, tmp_path: Path) -> None:
    fill(sealed, 40, prefix="unsealed")
    archived(sealed, tmp_path)
    for name in ("p00", "p01", "p02", "p03"):
        first = int(entries(sealed, name)[0][0].partition(b"-")[0])
        held = sealed.log.client.hget(f"{key_of(name)}:holders", "sealer")
        assert held is not None
        assert first <= int(held) + 1
    assert verified(sealed, tmp_path).is_fine


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-40])])
def test_a_file_of_the_archive_that_is_gone_or_cut_is_named_and_the_rest_is_verified(
    sealed: System, tmp_path: Path, harm: Callable[[Path], object]
) -> None:
    (file, *_) = [path for path in archived(sealed, tmp_path) if STREAM in str(path)]
    harm(file)
    report = verified(sealed, tmp_path)
    assert [(fault.kind, fault.location) for fault in report.faults] == [(FaultKind.SEGMENT, f"{STREAM}:1-5")]
    assert report.entries == sum(sealed.log.heads().values()) - 5


def test_a_stream_that_is_gone_is_named(sealed: System, tmp_path: Path) -> None:
    client = Redis.from_url(sealed.url)
    client.delete(key_of(STREAM))
    client.close()
    assert {kind for kind, location in found(sealed, tmp_path) if location.startswith(STREAM)} == {FaultKind.MISSING}


def test_an_assignment_change_is_sealed_as_events_are(sealed: System, tmp_path: Path) -> None:
    client = Redis.from_url(sealed.url)
    client.xadd(key_of("p01:assignments"), {"at": "1", "cause": "", "data": "{}"}, id="1-0")
    assert sealer_of(sealed, tmp_path).round(2) == 1
    assert verified(sealed, tmp_path).is_fine
    client.delete(key_of("p01:assignments"))
    client.xadd(key_of("p01:assignments"), {"at": "1", "cause": "", "data": "[]"}, id="1-0")
    client.close()
    assert found(sealed, tmp_path) == [(FaultKind.CHANGED, "p01:assignments:1")]


def test_a_changed_seal_is_named_though_the_archive_has_it_as_it_was(sealed: System, tmp_path: Path) -> None:
    def meddle(seals: list[Entry]) -> None:
        seals[1][1][b"body"] = seals[1][1][b"body"].replace(b'"at":1000', b'"at":1001')

    replace_seals(sealed, meddle)
    assert found(sealed, tmp_path) == [(FaultKind.SEAL_SIGNATURE, "seal 2")]


def test_a_seal_that_is_nowhere_is_named_and_the_others_still_speak_for_the_entries(
    sealed: System, tmp_path: Path
) -> None:
    def meddle(seals: list[Entry]) -> None:
        del seals[1]

    replace_seals(sealed, meddle)
    assert found(sealed, tmp_path) == [(FaultKind.SEAL_DROPPED, "seal 2")]
    next(tmp_path.glob("archive/**/*02.seal")).unlink()
    assert found(sealed, tmp_path) == [(FaultKind.SEAL_DROPPED, "seal 2")]
    write_again(sealed, STREAM, change)
    (seal, entry) = verified(sealed, tmp_path).faults
    assert seal.kind is FaultKind.SEAL_DROPPED
    assert entry.kind is FaultKind.CHANGED


def test_seals_that_redis_has_lost_altogether_are_named(sealed: System, tmp_path: Path) -> None:
    client = Redis.from_url(sealed.url)
    client.delete("{fleet}:seals", "{fleet}:sealing")
    client.close()
    assert found(sealed, tmp_path) == [(FaultKind.SEAL_DROPPED, f"seal {number}") for number in range(1, 5)]
    fill(sealed, 1, prefix="after")
    assert sealer_of(sealed, tmp_path).round(2) == 1
    assert verified(sealed, tmp_path).last[0] == 5
    assert len(found(sealed, tmp_path)) == 4


@pytest.mark.parametrize("is_mounted", [True, False])
def test_without_any_seal_to_go_on_from_nothing_is_sealed_anew_and_files_stay_as_they_are(
    sealed: System, tmp_path: Path, *, is_mounted: bool
) -> None:
    archive, away = tmp_path / "archive", tmp_path / "away"
    kept = _files(archive)
    client = Redis.from_url(sealed.url)
    client.delete("{fleet}:seals", "{fleet}:sealing")
    write_again(sealed, STREAM, change)
    archive.rename(away)
    if is_mounted:
        archive.write_text("no directory")
    late = sealer_of(sealed, tmp_path)
    for _ in range(2):
        with pytest.raises(SealsLost, match="nothing is sealed until the archive gives the newest one"):
            late.round(2)
    assert not client.exists("{fleet}:seals")
    client.close()
    if is_mounted:
        archive.unlink()
    away.rename(archive)
    fill(sealed, 1, prefix="after")
    assert late.round(2) == 1
    files = _files(archive)
    assert {name: files[name] for name in kept} == kept
    assert len(files) == len(kept) + 1
    report = verified(sealed, tmp_path)
    assert report.last[0] == 5
    assert FaultKind.CHANGED in {fault.kind for fault in report.faults}


def test_a_file_of_a_seal_is_not_written_over_by_another_of_its_number(sealed: System, tmp_path: Path) -> None:
    archive, away = tmp_path / "archive", tmp_path / "away"
    kept = _files(archive)
    replace_seals(sealed, lambda seals: seals.pop())
    client = Redis.from_url(sealed.url)
    client.delete("{fleet}:sealing")
    client.close()
    archive.rename(away)
    fill(sealed, 1, prefix="after")
    late = sealer_of(sealed, tmp_path)
    assert late.round(2) == 1
    # A new seal 4 is in Redis alone so far; the former one comes back.
    shutil.rmtree(archive)
    away.rename(archive)
    fill(sealed, 1, prefix="later")
    assert late.round(2) == 1
    files = _files(archive)
    assert {name: files[name] for name in kept} == kept
    assert (FaultKind.SEAL_CHANGED, "seal 4") in found(sealed, tmp_path)
    with pytest.raises(SealExists, match="the archive has a different seal 4"):
        SealFiles(ObjectStore(str(archive)), epoch=sealed.log.epoch).put(4, Signed(b"another", b""))


def _files(archive: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in archive.rglob("*.seal")}


def test_a_seal_by_another_key_is_not_taken_for_one(sealed: System, tmp_path: Path) -> None:
    forged = SealKey(bytes(32))

    def forge(seals: list[Entry]) -> None:
        signed = forged.sign(Signed(seals[-1][1][b"body"], b"").seal())
        seals[-1] = (seals[-1][0], {b"body": signed.body, b"signature": signed.signature})

    replace_seals(sealed, forge)
    assert found(sealed, tmp_path) == [(FaultKind.SEAL_SIGNATURE, "seal 4")]


def test_an_inserted_seal_is_named(sealed: System, tmp_path: Path) -> None:
    def insert_two(seals: list[Entry]) -> None:
        seals.append((b"5-0", dict(seals[-1][1])))
        seals.append((b"5-1", dict(seals[-1][1])))

    replace_seals(sealed, insert_two)
    assert found(sealed, tmp_path) == [(FaultKind.SEAL_INSERTED, "seal 5-1"), (FaultKind.SEAL_INSERTED, "seal 5")]


def test_a_seal_that_goes_back_behind_others_is_a_fault_and_stops_nothing(sealed: System, tmp_path: Path) -> None:
    """As a sealer would make it that a forged seal told to begin anew."""
    key = SealKey(read_key(settings_of(sealed, tmp_path).effective_seal_key_file))

    def go_back(seals: list[Entry]) -> None:
        last = Signed(seals[-1][1][b"body"], seals[-1][1][b"signature"])
        back = msgspec.structs.replace(
            last.seal(),
            number=5,
            previous=last.digest,
            streams={STREAM: Reached(3, FIRST)},
            entries=shortened({STREAM: bytes(3 * ENTRY_BYTES)}),
        )
        signed = key.sign(back)
        seals.append((b"5-0", {b"body": signed.body, b"signature": signed.signature}))

    head = len(entries(sealed, STREAM))
    replace_seals(sealed, go_back)
    assert found(sealed, tmp_path) == [(FaultKind.CHANGED, f"{STREAM}:3-{head}")]


@pytest.mark.parametrize(
    "forged", [{"number": 10**18}, {"at": 10**18}, {"streams": {"fleet": Reached(1, "?")}, "entries": {}}]
)
def test_a_forged_seal_that_says_nothing_that_could_be_does_not_end_who_seals(
    sealed: System, tmp_path: Path, forged: dict[str, Any]
) -> None:
    def forge(seals: list[Entry]) -> None:
        seal = msgspec.structs.replace(Signed(seals[-1][1][b"body"], b"").seal(), number=5)
        body = canonical.encode(msgspec.structs.replace(seal, **forged))
        seals.append((b"5-0", {b"body": body, b"signature": bytes(64)}))

    replace_seals(sealed, forge)
    fill(sealed, 1, prefix="after")
    sealer_of(sealed, tmp_path).round(2)
    assert (FaultKind.SEAL_CHANGED, "seal 5") in found(sealed, tmp_path)


def test_two_seals_of_one_number_that_are_both_signed_are_told(sealed: System, tmp_path: Path) -> None:
    key = SealKey(read_key(settings_of(sealed, tmp_path).effective_seal_key_file))
    file = next(tmp_path.glob("archive/**/*04.seal"))
    other = key.sign(msgspec.structs.replace(Signed.from_file(file.read_bytes()).seal(), at=1_001))
    file.write_bytes(other.to_file())
    assert found(sealed, tmp_path) == [(FaultKind.SEAL_CHANGED, "seal 4")]


def test_a_span_looks_at_the_entries_of_its_seals_alone(sealed: System, tmp_path: Path) -> None:
    write_again(sealed, STREAM, change)
    assert verified(sealed, tmp_path, span=SealSpan(first=3)).is_fine
    assert not verified(sealed, tmp_path, span=SealSpan(last=2)).is_fine


def test_the_same_events_under_another_key_are_not_verified_by_this_one(sealed: System, tmp_path: Path) -> None:
    faults = verified(sealed, tmp_path, keys=[SealKey(bytes(32)).public]).faults
    assert {fault.kind for fault in faults} == {FaultKind.SEAL_SIGNATURE}


def test_a_new_key_goes_on_where_the_old_one_stopped_and_both_are_told(sealed: System, tmp_path: Path) -> None:
    old = public_key(settings_of(sealed, tmp_path))
    (tmp_path / "seal.key").rename(tmp_path / "old.key")
    sealed.do(*join("another"))
    assert sealer_of(sealed, tmp_path).round(2) == 1
    new = public_key(settings_of(sealed, tmp_path))
    report = verified(sealed, tmp_path, keys=[old, new])
    assert report.is_fine
    assert report.keys == tuple(sorted((old.id, new.id)))
