import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fakeredis
import pytest
from redis import Redis
from redis.cluster import RedisCluster

from events import canonical
from events.deployment.events import DeploymentCreated, DeploymentDeleted
from events.device.events import DeviceRegistered, TwinPatched
from events.envelope import Principal
from events.log.claims import Claims, process_name
from events.log.connect import connect
from events.log.errors import EventTooLarge, Fenced, LogLostItsTail, UnreadableEvent
from events.log.events import LogInitialised
from events.log.keys import FLEET, key, partition_of
from events.log.log_factory import initialise
from events.log.memory import MemoryLog
from events.log.port import AT_APPEND, Conflicted, Head, Log, Proposed, Written, read_all
from events.log.redis import RedisLog
from events.log.stream_signals import StreamSignals
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.producer.logs import claims_last
from tests.servers import BACKENDS, CLUSTER, flush

ADA = Principal.parse("user:ada")
PARTITIONS = 4
REAL = pytest.mark.redis_server


@pytest.fixture(params=[*BACKENDS, CLUSTER])
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    match request.param:
        case "memory":
            yield MemoryLog(partitions=PARTITIONS)
        case "fakeredis":
            made = RedisLog(fakeredis.FakeRedis(), partitions=PARTITIONS, epoch="fake")
            event = LogInitialised("fake", PARTITIONS)
            made.append([Proposed("log", 0, event)], command_id="initialise", by=ADA, at=0)
            yield made
        case "shared_redis" | "oldest_redis" as name:
            server: EmbeddedRedis = request.getfixturevalue(name)
            client = Redis.from_url(server.url)
            flush(client)
            client.close()
            opened = initialise(server.url, partitions=PARTITIONS, at=0)
            yield opened
            opened.client.close()
        case _:
            url = request.getfixturevalue("cluster_url")
            nodes = connect(url)
            flush(nodes)
            nodes.close()
            opened = initialise(url, partitions=PARTITIONS, at=0)
            yield opened
            opened.client.close()


def register(name: str, version: int = 0, **how: Any) -> Proposed:
    return Proposed(name, version, DeviceRegistered(), **how)


def tagged(name: str, version: int, **tags: object) -> Proposed:
    return Proposed(name, version, TwinPatched(tags=tags))


def names_in(partition: int, count: int) -> list[str]:
    found: list[str] = []
    number = 0
    while len(found) < count:
        if partition_of(f"d{number}", PARTITIONS) == partition:
            found.append(f"d{number}")
        number += 1
    return found


def append(log: Log, *batch: Proposed, command_id: str | None = None, at: int = 1000) -> tuple[Any, ...]:
    append.count += 1  # type: ignore[attr-defined]
    return log.append(batch, command_id=command_id or f"c{append.count}", by=ADA, at=at, cause="because")  # type: ignore[attr-defined]


append.count = 0  # type: ignore[attr-defined]


def test_what_was_appended_is_read_back_in_order_with_dense_positions_and_versions(log: Log) -> None:
    name = names_in(1, 1)[0]
    (chunk,) = append(log, register(name), tagged(name, 1, a=1))
    assert chunk == Written(1, (0, 1), 1, 1000, repeated=False, woke=True)
    events = log.read(1, after=0, limit=10)
    assert [(envelope.position, envelope.subject, envelope.version, envelope.event) for envelope in events] == [
        (1, name, 1, DeviceRegistered()),
        (2, name, 2, TwinPatched(tags={"a": 1})),
    ]
    assert {(event.at, event.by, event.cause) for event in events} == {(1000, ADA, "because")}
    assert log.read(1, after=1, limit=1) == events[1:]
    assert log.head(1) == log.heads()[1] == 2
    assert log.heads()[0] == 0


def test_a_conflict_names_all_subjects_that_moved_on_and_writes_nothing_of_the_chunk(log: Log) -> None:
    first, second, third = names_in(2, 3)
    append(log, register(first), register(second), tagged(second, 1, a=1))
    (chunk,) = append(log, tagged(first, 0, a=1), register(third), tagged(second, 1, a=2))
    assert chunk == Conflicted(2, (0, 1, 2), {first: Head(1), second: Head(2)})
    assert log.head(2) == 3
    assert log.load([third])[0].head == Head()


def test_the_same_command_id_is_written_once_and_answers_as_the_first_time(log: Log) -> None:
    name = names_in(0, 1)[0]
    (first,) = append(log, register(name), command_id="once")
    (again,) = append(log, register(name), command_id="once", at=2000)
    assert (again.first_position, again.at, again.repeated) == (first.first_position, first.at, True)
    assert log.head(0) == 1


def test_appends_that_were_begun_are_written_in_the_order_in_which_they_were_begun(log: Log) -> None:
    name = names_in(0, 1)[0]
    begun = [
        log.prepare_append([event], command_id=f"begun{number}", by=ADA, at=1000 + number)()
        for number, event in enumerate((register(name), tagged(name, 1, a=1), tagged(name, 1, a=2)))
    ]
    first, second, third = (chunk for answers in begun for chunk in answers())
    assert first == Written(0, (0,), 1, 1000, repeated=False, woke=True)
    assert isinstance(second, Written)
    assert (second.first_position, second.at, second.repeated) == (2, 1001, False)
    assert third == Conflicted(0, (0,), {name: Head(2)})


def test_a_batch_is_split_by_stream_and_size_and_sending_it_again_completes_it(log: Log) -> None:
    names = names_in(3, 300)
    batch = [register(name) for name in names]
    append(log, *batch[:256], command_id="big")
    chunks = append(log, *batch, command_id="big")
    assert [(chunk.indices[0], len(chunk.indices), chunk.repeated) for chunk in chunks] == [
        (0, 256, True),
        (256, 44, False),
    ]
    assert [envelope.subject for envelope in read_all(log, 3, batch=100)] == names


def test_an_event_goes_to_the_stream_of_its_device_or_of_the_fleet(log: Log) -> None:
    names = [names_in(partition, 1)[0] for partition in range(PARTITIONS)]
    created = Proposed("d", 0, DeploymentCreated(content={}), snapshots=(("d", b'{"a":1}'),))
    chunks = append(log, *(register(name) for name in names), created)
    assert sorted(chunk.stream for chunk in chunks) == [FLEET, 0, 1, 2, 3]
    assert log.load(["d"], fleet=True)[0].snapshot == b'{"a":1}'
    append(log, Proposed("d", 1, DeploymentDeleted(), snapshots=(("d", None),)))
    assert log.load(["d"], fleet=True)[0].snapshot is None
    assert log.load(["d"], fleet=True)[0].head == Head(2)


def test_time_never_runs_backwards_and_a_time_maps_to_a_position(log: Log) -> None:
    name = names_in(0, 1)[0]
    snapshot = b'{"seen_at":%d}' % AT_APPEND
    append(log, register(name), at=5000)
    append(log, Proposed(name, 1, TwinPatched(tags={}), snapshots=((name, snapshot),)), at=3000)
    append(log, tagged(name, 2, a=1), at=7000)
    assert [one.at for one in log.read(0, after=0, limit=9)] == [5000, 5000, 7000]
    assert log.load([name])[0].snapshot == b'{"seen_at":5000}'
    assert [log.position_at(0, at) for at in (4999, 5000, 6999, 7000, 9000)] == [0, 2, 2, 3, 3]


def test_a_guard_holds_an_event_to_the_generation_of_another_subject(log: Log) -> None:
    name = names_in(1, 1)[0]
    append(log, register(name, generation=1))
    module = f"{name}/temp"
    (chunk,) = append(log, Proposed(module, 0, TwinPatched(desired={}), guard=(name, 1)))
    assert isinstance(chunk, Written)
    (chunk,) = append(log, Proposed(module, 1, TwinPatched(desired={}), guard=(name, 2)))
    assert chunk == Conflicted(1, (0,), {name: Head(1, 1)})


def test_an_append_wakes_the_workers_once_and_only_for_a_stream_that_none_follows(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not isinstance(log, RedisLog):
        pytest.skip("the log in memory has no workers")
    claims_last(monkeypatch)
    first, second, third, fourth = names_in(1, 4)
    one, other = (Claims(log.client, partitions=PARTITIONS) for _ in range(2))
    assert [append(log, register(first))[0].woke, append(log, register(second))[0].woke] == [True, False]
    assert one.take([FLEET, 0, 1]) == {FLEET: False, 0: False, 1: False}
    assert other.take([1, 2]) == {2: False}
    assert one.take([1]) == {1: True}
    assert one.holders() == {FLEET: one.holder, 0: one.holder, 1: one.holder, 2: other.holder}
    assert not append(log, register(third))[0].woke
    other.leave([0, 1])
    assert not append(log, Proposed("a", 0, DeploymentDeleted()))[0].woke
    one.leave_for(process_name(os.getpid()))
    assert one.holders() == {}
    assert append(log, register(fourth))[0].woke
    assert append(log, Proposed("a", 1, DeploymentDeleted()))[0].woke


def test_several_streams_are_followed_at_once_each_from_its_position(log: Log) -> None:
    if not isinstance(log, RedisLog):
        pytest.skip("workers follow the log in Redis")
    first, second, third = names_in(1, 3)
    append(log, register(first), register(second), register(names_in(2, 1)[0]))
    after = {FLEET: 1, 1: 1, 2: 0, 3: 0}
    followed = log.follow(after, limit=10, milliseconds=1000)
    assert followed == {1: log.read(1, after=1, limit=10), 2: log.read(2, after=0, limit=10)}
    assert log.follow({FLEET: 1, 1: 2, 2: 1}, limit=10, milliseconds=0) == {}
    append(log, register(third))
    assert log.follow({1: 0}, limit=2, milliseconds=0) == {1: log.read(1, after=0, limit=2)}
    # A gap, as after a trim, and an entry that does not decode: `read` says what is there.
    log.client.xdel(key(1, "log"), "1-0")
    log.client.xadd(key(2, "log"), {"type": "X"}, id="2-0")
    assert log.follow({1: 0, 2: 1}, limit=10, milliseconds=0) == {1: None, 2: None}


def test_a_stream_that_is_followed_on_a_cluster_is_read_when_it_grows(log: Log) -> None:
    client: Any = getattr(log, "client", None)
    if not isinstance(log, RedisLog) or not isinstance(client, RedisCluster):
        pytest.skip("on one server, a read of all streams waits for all of them")
    after, nodes = {FLEET: 1, 0: 0, 1: 0, 2: 0, 3: 0}, client.get_primaries()

    def reads() -> int:
        stats = (client.get_redis_connection(node).info("commandstats") for node in nodes)
        return sum(of_node.get("cmdstat_xrange", {"calls": 0})["calls"] for of_node in stats)

    assert log.follow(after, limit=10, milliseconds=1000) == {}
    before = reads()
    began = time.monotonic()
    assert log.follow(after, limit=10, milliseconds=1000) == {}
    seconds = time.monotonic() - began
    # From time to time without a signal, as the permission to publish may be missing.
    assert reads() - before <= len(after) * (seconds / 0.1 + 2)
    (device,) = names_in(1, 1)
    with ThreadPoolExecutor() as pool:
        followed = pool.submit(log.follow, after, limit=10, milliseconds=600_000)
        append(log, register(device))
        assert followed.result() == {1: log.read(1, after=0, limit=10)}
    log.stop_following()


def test_an_append_to_a_cluster_signals_its_stream(log: Log) -> None:
    client = getattr(log, "client", None)
    if not isinstance(client, RedisCluster):
        pytest.skip("one server needs no signals")
    signals, stream_keys = StreamSignals(client), {key(1, "log").encode()}
    signals.forget()
    # A server that has answered a second command has read the subscription, which was sent before the first one.
    for _ in range(2):
        client.ping(target_nodes=RedisCluster.PRIMARIES)
    for devices in zip(names_in(2, 2), names_in(1, 2), strict=True):
        append(log, *map(register, devices))
        began, seconds_max = time.monotonic(), waiting.seconds()
        signals.wait(stream_keys, seconds_max)
        assert time.monotonic() - began < seconds_max
        signals.forget()
    signals.close()


def test_snapshots_can_be_listed(log: Log) -> None:
    first, second = names_in(1, 2)
    append(log, register(first, snapshots=((first, b"{}"),)), register(second))
    assert list(log.subjects(1)) == [first]
    assert list(log.subjects(1, prefix=first[:2])) == [first]
    assert list(log.subjects(1, prefix=f"{first}:")) == []


def test_snapshots_are_read_without_heads_in_the_order_asked_for(log: Log) -> None:
    first, second, third = names_in(1, 3)
    append(
        log,
        register(first, snapshots=((first, b"{}"),)),
        register(second),
        register(third, snapshots=((third, b"[]"),)),
    )
    assert log.snapshots(1, [third, second, first, "unknown"]) == [b"[]", None, b"{}", None]
    assert log.snapshots(1, []) == []


def test_reading_beyond_the_head_is_a_lost_tail(log: Log) -> None:
    append(log, register(names_in(0, 1)[0]))
    assert log.read(0, after=1, limit=10) == []
    with pytest.raises(LogLostItsTail, match="p00: expected position 5, the log has 1"):
        log.read(0, after=5, limit=10)


def test_an_event_too_large_for_a_chunk_is_refused_and_leaves_no_trace(log: Log) -> None:
    huge = Proposed("huge", 0, DeploymentCreated(content={"x": "y" * (1 << 20)}))
    with pytest.raises(EventTooLarge, match="huge"):
        append(log, Proposed("small", 0, DeploymentCreated(content={})), huge)
    assert log.head(FLEET) == 1


def test_an_older_fence_is_refused(log: Log) -> None:
    def fenced(name: str, fence: int) -> None:
        batch = [Proposed(name, 0, DeploymentCreated(content={}))]
        log.append(batch, command_id=name, by=ADA, at=1, fence=fence)  # type: ignore[call-arg]

    fenced("a", 1)
    fenced("b", 2)
    with pytest.raises(Fenced):
        fenced("c", 1)
    assert log.head(FLEET) == 3


def test_what_was_written_beside_a_fenced_chunk_is_named_so_that_its_workers_are_woken(log: Log) -> None:
    names = [names_in(partition, 1)[0] for partition in range(PARTITIONS)]
    log.append([register(names[1])], command_id="newer", by=ADA, at=1, fence=2)
    batch = [register(names[0]), tagged(names[1], 1), register(names[2])]
    with pytest.raises(Fenced, match=r"p01.*fence 2") as caught:
        log.append(batch, command_id="older", by=ADA, at=1, fence=1)
    assert caught.value.streams_to_wake == {0, 2}
    assert [log.head(stream) for stream in range(PARTITIONS)] == [1, 1, 1, 0]


@pytest.fixture
def raw(shared_redis: EmbeddedRedis) -> Iterator[tuple[RedisLog, Redis]]:
    client = Redis.from_url(shared_redis.url)
    flush(client)
    log = initialise(shared_redis.url, partitions=PARTITIONS, at=0)
    yield log, client
    log.client.close()
    client.close()


@REAL
def test_small_chunks_are_sent_as_transactions_of_at_most_the_events_of_one_chunk(raw: tuple[RedisLog, Redis]) -> None:
    log, client = raw
    names = [name for partition in range(PARTITIONS) for name in names_in(partition, 75)]
    # A server that has restarted has no script.
    client.script_flush()
    assert not any(chunk.repeated for chunk in append(log, *map(register, names)))
    words = list[str]()
    with client.monitor() as monitor:
        chunks = append(log, *(tagged(name, 1, a=1) for name in names))
        client.echo("end")
        while "ECHO" not in words:
            received = monitor.next_command()
            words += [] if received["client_type"] == "lua" else [received["command"].split()[0]]
    assert [len(chunk.indices) for chunk in chunks] == [75] * PARTITIONS
    # Three chunks of 75 events, and one.
    assert [words.count(word) for word in ("MULTI", "EVALSHA", "EXEC")] == [1, PARTITIONS, 1]
    assert log.heads() == {FLEET: 1, **dict.fromkeys(range(PARTITIONS), 150)}


@REAL
def test_an_entry_that_does_not_decode_is_named(raw: tuple[RedisLog, Redis]) -> None:
    log, client = raw
    append(log, register(names_in(0, 1)[0]))
    fields = {"type": "X", "subject": "s", "version": 1, "at": 1, "by": "user:a", "cause": "", "data": b"\xff{"}
    client.xadd(key(0, "log"), fields, id="2-0")
    client.hset(key(0, "meta"), "position", 2)
    assert len(log.read(0, after=0, limit=1)) == 1
    with pytest.raises(UnreadableEvent, match="p00:2"):
        log.read(0, after=0, limit=5)


@REAL
@pytest.mark.parametrize("lose", ["middle", "end"])
def test_a_position_that_is_missing_is_a_lost_tail(raw: tuple[RedisLog, Redis], lose: str) -> None:
    log, client = raw
    append(log, *(register(name) for name in names_in(0, 3)))
    client.xdel(key(0, "log"), "2-0" if lose == "middle" else "3-0")
    with pytest.raises(LogLostItsTail):
        list(read_all(log, 0))


@REAL
def test_acknowledged_events_survive_the_server_killed_with_minus_9(tmp_path: Any) -> None:
    server = EmbeddedRedis(tmp_path, appendfsync="always")
    names = names_in(0, 20)
    with server:
        log = initialise(server.url, partitions=PARTITIONS, at=0)
        for name in names:
            append(log, register(name))
            if name in names[5::5]:
                server.kill()
                server.start()
        assert [one.subject for one in log.read(0, after=0, limit=100)] == names
        log.client.close()


def test_every_event_encodes_to_bytes_that_decode_to_it() -> None:
    assert (
        canonical.encode(DeviceRegistered())
        == b'{"type":"DeviceRegistered","edge":true,"enabled":true,"status_reason":null}'
    )


def test_the_ids_of_commands_are_remembered_with_how_many_events_each_has(log: Log) -> None:
    (a, b), stream = names_in(0, 2), 0
    batch = [
        register(a, command_id="one"),
        Proposed(a, 1, TwinPatched({"x": 1}), follows=True, command_id="one"),
        register(b, command_id="two"),
        tagged(b, 1),
    ]
    append(log, *batch)
    assert log.remembered(stream, ["one", "never", "two"]) == [2, 0, 1]
    assert log.remembered(stream, []) == []
    append(log, register(names_in(0, 3)[2], 7, command_id="conflict"))
    assert log.remembered(stream, ["conflict"]) == [0]
    assert log.remembered(FLEET, ["one"]) == [0]
