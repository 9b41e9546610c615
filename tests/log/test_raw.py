import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from events.device.events import DeviceRegistered, TwinPatched
from events.envelope import Principal
from events.log.entries import RawEntry, digest, genesis, key_of, link, number_of, stream_names
from events.log.errors import LogLostItsTail, ObjectStoreUnavailable
from events.log.keys import key
from events.log.log_factory import initialise
from events.log.object_store import ObjectStore
from events.log.port import Proposed
from events.log.raw import RawStreams
from events.log.redis import RedisLog
from events.log.scan import events_of
from services.embedded_redis import EmbeddedRedis
from tests.servers import flush

ADA = Principal.parse("user:ada")


@pytest.fixture
def log(shared_redis: EmbeddedRedis) -> Iterator[RedisLog]:
    client = Redis.from_url(shared_redis.url)
    flush(client)
    client.close()
    made = initialise(shared_redis.url, partitions=1)
    yield made
    made.client.close()


def _registered(log: RedisLog, *device_ids: str) -> None:
    for device_id in device_ids:
        batch = [
            Proposed(device_id, 0, DeviceRegistered(edge=True)),
            Proposed(device_id, 1, TwinPatched(tags={"site": "north"})),
        ]
        log.append(batch, command_id=device_id, by=ADA, at=1)


def test_streams_are_known_by_name_and_back() -> None:
    assert stream_names(2) == ("fleet", "p00", "p01", "p00:assignments", "p01:assignments")
    assert [key_of(name) for name in ("fleet", "p00", "p01:assignments")] == [
        "{fleet}:log",
        "{p00}:log",
        "{p01}:assignments",
    ]
    assert [number_of(name) for name in ("fleet", "p00", "p12:assignments")] == [-1, 0, 12]
    for wrong in ("fleet:assignments", "q01", "p", "p00:log"):
        with pytest.raises(ValueError, match="a stream is called"):
            number_of(wrong)


@pytest.mark.redis_server
def test_entries_come_as_they_are_stored(log: RedisLog) -> None:
    _registered(log, "a", "b")
    streams = RawStreams(log.client)
    entries = list(streams.entries("p00", after=1, upto=3))
    assert [entry.position for entry in entries] == [2, 3]
    assert list(entries[0].fields) == [b"type", b"subject", b"version", b"at", b"by", b"cause", b"data"]
    assert streams.head("p00") == 4
    assert streams.head("p00:assignments") == 0


@pytest.mark.redis_server
def test_a_missing_entry_is_not_passed_over(log: RedisLog) -> None:
    _registered(log, "a", "b")
    log.client.xdel(key(0, "log"), "2-0")
    with pytest.raises(LogLostItsTail, match="p00"):
        list(RawStreams(log.client).entries("p00"))


@pytest.mark.redis_server
def test_a_doubled_position_does_not_hide_a_missing_one(log: RedisLog) -> None:
    _registered(log, "a", "b")
    entries = list(RawStreams(log.client).entries("p00"))
    log.client.delete(key(0, "log"))
    for entry_id, entry in zip(("1-0", "2-0", "2-1", "4-0"), entries, strict=True):
        log.client.xadd(key(0, "log"), entry.fields, id=entry_id)
    with pytest.raises(LogLostItsTail, match="expected position 3, the log has 2"):
        list(RawStreams(log.client).entries("p00"))


@pytest.mark.redis_server
def test_the_events_of_one_device_are_found_among_others(log: RedisLog) -> None:
    _registered(log, "a", "b", "c")
    events = list(events_of(RawStreams(log.client), ["b", "b/m"], partitions=1, upto=4))
    assert [(one.position, one.subject, one.version) for one in events] == [(3, "b", 1), (4, "b", 2)]


def test_whatever_differs_in_an_entry_makes_another_digest() -> None:
    entry = RawEntry(1, {b"type": b"T", b"data": b"xy"})
    others = [
        RawEntry(2, entry.fields),
        RawEntry(1, {b"type": b"Tx", b"data": b"y"}),
        RawEntry(1, {b"data": b"xy", b"type": b"T"}),
    ]
    digests = {digest("p00", entry), digest("p01", entry), *(digest("p00", other) for other in others)}
    assert len(digests) == 5
    start = genesis("epoch", "p00")
    assert link(start, digest("p00", entry)) != link(genesis("other", "p00"), digest("p00", entry))


def test_an_object_store_keeps_files_by_name(tmp_path: Path) -> None:
    object_store = ObjectStore(str(tmp_path / "history"))
    assert object_store.get("p00/1") is None
    assert list(object_store.names()) == []
    object_store.put("p00/1", b"one")
    object_store.put("p00/2", b"two")
    object_store.put("p00/2", b"zwei")
    assert list(object_store.names("p00")) == ["p00/1", "p00/2"]
    assert object_store.get("p00/2") == b"zwei"
    object_store.delete("p00/1")
    object_store.delete("p00/1")
    assert list(object_store.names()) == ["p00/2"]
    with contextlib.closing(object_store.open("p00/2")) as file:
        assert file.read(2) == b"zw"


def test_an_object_store_behind_a_url_is_the_same() -> None:
    object_store = ObjectStore("memory://history-of-a-test")
    object_store.put("a/1", b"one")
    assert list(object_store.names("a")) == ["a/1"]
    assert object_store.get("a/1") == b"one"
    object_store.delete("a/1")
    assert object_store.get("a/1") is None


def test_an_object_store_that_cannot_be_written_says_so_and_shows_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    object_store = ObjectStore(str(tmp_path / "file"))
    with pytest.raises(ObjectStoreUnavailable, match="file"):
        object_store.put("a", b"one")
    with pytest.raises(ObjectStoreUnavailable, match="nosuch"):
        ObjectStore("nosuch://x")
