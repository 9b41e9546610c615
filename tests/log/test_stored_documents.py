"""How documents are stored: smaller, and readable for ever."""

import hashlib
import json
import random
from pathlib import Path

import msgspec
import pytest
from redis import Redis

from events import canonical
from events.device.events import PropertiesReported, TwinPatched
from events.device.state import begun_module, decode_device, evolve_device, evolve_twin
from events.envelope import Principal
from events.log.document_compression import DICTIONARY, compressed, decompressed
from events.log.keys import FLEET, key
from events.log.log_factory import initialise
from events.log.port import AT_APPEND, Head, Proposed, Stored
from events.log.redis import RedisLog
from events.log.subject_record import COMPRESSED_FROM_BYTES, decode_record, encode_record
from services.embedded_redis import EmbeddedRedis
from tests.benchmarks import fleets
from tests.log.test_contract import register
from tests.log.train_dictionary import DICTIONARIES, documents
from tests.servers import flush

ADA = Principal.parse("user:ada")
DIGESTS = {1: "1875ca864f03948178ac451e3fef9bbc6cc93679220a8066f61636f1a667557e"}
RECORDS = Path(__file__).parent / "golden/records.json"


@pytest.fixture
def log(shared_redis: EmbeddedRedis) -> RedisLog:
    client = Redis.from_url(shared_redis.url)
    flush(client)
    client.close()
    return initialise(shared_redis.url, partitions=1, at=0)


def stored(log: RedisLog, subject: str) -> Stored:
    return log.load([subject])[0]


def record(log: RedisLog, subject: str) -> bytes:
    return log.client.hget(key(0, "subjects"), subject) or b""  # type: ignore[return-value]


def test_a_dictionary_that_documents_were_stored_with_never_changes() -> None:
    found = {int(path.stem): hashlib.sha256(path.read_bytes()).hexdigest() for path in DICTIONARIES.glob("*.zdict")}
    assert found == DIGESTS
    assert max(DIGESTS) == DICTIONARY


@pytest.mark.parametrize("line", json.loads(RECORDS.read_text()), ids=lambda line: line["what"])
def test_a_value_of_long_ago_reads_as_ever(line: dict[str, str]) -> None:
    version, generation = map(int, line["head"].split(":"))
    document = line["document"].encode() or None
    assert decode_record(bytes.fromhex(line["record"])) == Stored(Head(version, generation), document)


def test_every_document_reads_back_byte_for_byte() -> None:
    draw = random.Random(62)  # noqa: S311 - the same documents each time
    samples = list(documents(seed=2))[:500]
    samples += [draw.randbytes(size) for size in (0, 1, 100, 5000)]
    samples.append(canonical.encode({"text": "ä€🙂" * 9000}))
    for document in samples:
        assert decompressed(compressed(document)) == document


def test_a_device_with_five_tags_and_a_report_of_2_kb_takes_few_bytes() -> None:
    device = evolve_device(None, register("d").event, version=1, at=1)  # type: ignore[arg-type]
    tagged = evolve_device(device, TwinPatched(tags=fleets.tags_of(random.Random(1))), version=2, at=2)  # noqa: S311
    module = evolve_twin(begun_module(device), PropertiesReported(fleets.agent_report()), version=1, at=3)
    plain = [canonical.encode(tagged), canonical.encode(module)]
    assert sum(map(len, plain)) > 2200
    assert sum(len(compressed(document)) for document in plain) < 220


def test_the_time_of_the_append_is_in_the_document_although_it_was_compressed_before(log: RedisLog) -> None:
    document = b'{"seen_at":%d,"text":"_at\\":%d"}' % (AT_APPEND, AT_APPEND)
    log.append([register("d", snapshots=(("d", document),))], command_id="1", by=ADA, at=5000)
    assert stored(log, "d") == Stored(Head(1), b'{"seen_at":5000,"text":"_at\\":%d"}' % AT_APPEND)
    assert log.snapshots(0, ["d", "unknown"]) == [stored(log, "d").snapshot, None]


def test_an_event_that_changes_no_document_leaves_it_with_its_time(log: RedisLog) -> None:
    document = b'{"seen_at":%d}' % AT_APPEND
    log.append([register("d", snapshots=(("d", document),))], command_id="1", by=ADA, at=5000)
    log.append([Proposed("d", 1, TwinPatched(tags={"a": 1}), generation=3)], command_id="2", by=ADA, at=6000)
    assert stored(log, "d") == Stored(Head(2, 3), b'{"seen_at":5000}')


def test_a_document_of_another_subject_leaves_that_subject_its_head(log: RedisLog) -> None:
    log.append([register("d", generation=1), register("e")], command_id="1", by=ADA, at=5000)
    both = (("d", b'{"a":1}'), ("d/unheard", b'{"b":1}'))
    log.append([Proposed("e", 1, TwinPatched(tags={}), snapshots=both)], command_id="2", by=ADA, at=6000)
    assert log.load(["d", "d/unheard"]) == [Stored(Head(1, 1), b'{"a":1}'), Stored(Head(), b'{"b":1}')]
    assert sorted(log.subjects(0)) == ["d", "d/unheard"]
    assert sorted(name for name, stored in log.all_stored(0) if stored.head.version) == ["d", "e"]
    gone = (("d", None), ("d/unheard", None))
    log.append([Proposed("e", 2, TwinPatched(tags={}), snapshots=gone)], command_id="3", by=ADA, at=7000)
    assert log.load(["d", "d/unheard"]) == [Stored(Head(1, 1)), Stored()]
    assert (list(log.subjects(0)), record(log, "d"), record(log, "d/unheard")) == ([], b"1:1", b"")


def test_documents_of_the_fleet_stay_readable_in_redis(log: RedisLog) -> None:
    fleet = log.client.hgetall(key(FLEET, "subjects"))
    assert all(value.partition(b"{")[0].replace(b":", b"").isdigit() for value in fleet.values())


def test_a_document_is_compressed_from_a_size_on_and_reads_alike_in_both_forms(log: RedisLog) -> None:
    log.append([register("d")], command_id="1", by=ADA, at=5000)
    for version, extra in enumerate((-1, 0, -1), 1):
        text = b"x" * (COMPRESSED_FROM_BYTES + extra - len(b'{"seen_at":9007199254740993,"text":""}'))
        document = b'{"seen_at":%d,"text":"%b"}' % (AT_APPEND, text)
        change = Proposed("d", version, TwinPatched(tags={}), snapshots=(("d", document),))
        log.append([change], command_id=f"change{version}", by=ADA, at=8000)
        assert stored(log, "d") == Stored(Head(version + 1), b'{"seen_at":8000,"text":"%b"}' % text)
        assert record(log, "d").startswith(b"%d:0:8000%b" % (version + 1, b"{" if extra else b"%c" % DICTIONARY))


@pytest.mark.parametrize("damage", ["cut", "foreign", "dictionary", "longer"])
def test_a_damaged_document_is_an_error_of_its_reader_and_never_another_document(damage: str) -> None:
    document = next(document for document in documents(seed=3) if len(document) >= COMPRESSED_FROM_BYTES)
    whole = encode_record(0, Head(3, 1), document)
    first = whole.index(b"%c" % DICTIONARY)
    damaged = {
        "cut": whole[:-3],
        "foreign": whole[:first] + b"\xff\xfe",
        "dictionary": whole[:first] + b"\x1e" + whole[first + 1 :],
        "longer": whole + b"{}",
    }[damage]
    assert decode_record(whole) == Stored(Head(3, 1), document)
    assert decode_record(damaged).head == Head(3, 1)
    with pytest.raises(msgspec.DecodeError):
        decode_device(decode_record(damaged).snapshot or b"")
