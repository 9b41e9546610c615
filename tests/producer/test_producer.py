from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from events import (
    CommandsRefused,
    ConflictPersists,
    CreateDeployment,
    CreateModule,
    DeleteModule,
    PatchTags,
    PatchTwin,
    RegisterDevice,
    ReportProperties,
    RetireDevice,
    SetConfiguration,
    UpdateDeployment,
)
from events.canonical import encode
from events.device.errors import DeviceExists, DeviceNotFound, EtagMismatch, TwinLimitExceeded
from events.device.events import DeviceRegistered, TwinPatched
from events.device.state import decode_device
from events.log.claims import Claims
from events.log.errors import EventTooLarge, Fenced, LogUnavailable
from events.log.keys import FLEET, partition_of
from events.log.log_factory import initialise
from events.log.memory import MemoryLog
from events.producer.errors import NoVault, Together
from events.producer.secrecy import LazyVault
from events.secrets.errors import SecretNotFound
from services.embedded_redis import EmbeddedRedis
from tests.manifest.contents import agent, content, layer, module
from tests.producer.logs import Bell, FlakyLog, RacingLog, all_events, claims_last, producer
from tests.secrets.samples import FakeSecretStore
from tests.servers import flush


def tags(log: MemoryLog, name: str) -> Any:
    (stored,) = log.load([name])
    assert stored.snapshot is not None
    return decode_device(stored.snapshot)


def test_commands_become_events_in_order_and_every_one_sees_those_before_it() -> None:
    log = MemoryLog(partitions=1)
    report = producer(log).submit([RegisterDevice("a"), PatchTags("a", {"x": 1}), PatchTags("a", {"x": None})])
    assert (report.written, report.refused) == (3, ())
    assert all_events(log) == [DeviceRegistered(), TwinPatched({"x": 1}), TwinPatched({"x": None})]


def test_only_the_subjects_in_conflict_are_decided_again() -> None:
    log = RacingLog(partitions=1)
    one, other = producer(log), producer(log)
    one.submit([RegisterDevice(name) for name in ("a", "b", "c")])
    log.sizes.clear()
    log.rivals.append(lambda: other.do(PatchTags("b", {"rival": True})))
    report = one.submit([PatchTags(name, {"mine": True}) for name in ("a", "b", "c")])
    # Three at once; the rival's one; and as all three shared a chunk, which is written whole or not at all, three again.
    assert (report.written, log.sizes) == (3, [3, 1, 3])
    assert b'"mine":true,"rival":true' in bytes(tags(log, "b").tags)


def test_chunks_without_a_conflict_are_not_sent_again() -> None:
    log = RacingLog(partitions=8)
    one, other = producer(log), producer(log)
    names = [f"d{number}" for number in range(40)]
    one.submit(map(RegisterDevice, names))
    log.sizes.clear()
    log.rivals.append(lambda: other.do(PatchTags("d0", {"rival": True})))
    assert one.submit([PatchTags(name, {"mine": True}) for name in names]).written == 40
    home = partition_of("d0", 8)
    assert log.sizes == [40, 1, sum(partition_of(name, 8) == home for name in names)]


def test_what_a_rival_made_impossible_is_refused_when_it_is_decided_again() -> None:
    log = RacingLog(partitions=1)
    one, other = producer(log), producer(log)
    one.do(RegisterDevice("a"))
    log.rivals.append(lambda: other.do(RetireDevice("a")))
    with pytest.raises(DeviceNotFound):
        one.do(PatchTags("a", {"x": 1}))


def test_a_conflict_without_end_is_told_with_its_subjects() -> None:
    log = RacingLog(partitions=1)
    one, other = producer(log), producer(log)
    one.do(RegisterDevice("a"))

    def rival() -> None:
        log.rivals.insert(0, lambda: None)
        other.do(PatchTags("a", {"n": len(log.sizes)}))

    log.rivals += [rival] * 20
    with pytest.raises(ConflictPersists) as caught:
        one.do(PatchTags("a", {"x": 1}))
    assert caught.value.subjects == ("a",)


def test_conflicts_that_each_end_are_no_reason_to_give_up() -> None:
    log = RacingLog(partitions=1)
    one, other = producer(log), producer(log)
    one.do(RegisterDevice("a"))

    def rival() -> None:
        log.rivals.insert(0, lambda: None)
        other.do(PatchTags("a", {"n": len(log.sizes)}))

    for _ in range(20):
        log.rivals += [rival, lambda: None]
    assert one.submit([PatchTags("a", {"x": number}) for number in range(20)]).written == 20
    assert one.conflicts == 20


def test_a_lost_answer_is_asked_for_again_and_the_events_stand_once() -> None:
    log = FlakyLog(partitions=2)
    one = producer(log)
    one.submit([RegisterDevice("a"), RegisterDevice("b")])
    log.failures = 3
    assert one.submit([PatchTags("a", {"x": 1}), PatchTags("b", {"x": 1})]).written == 2
    assert sorted(map(type, all_events(log)), key=repr) == [DeviceRegistered] * 2 + [TwinPatched] * 2


def test_a_load_that_redis_does_not_answer_is_repeated() -> None:
    log = FlakyLog(partitions=1)
    log.failed_loads = 3
    producer(log).do(RegisterDevice("a"))
    assert list(map(type, all_events(log))) == [DeviceRegistered]


def test_a_log_that_stays_away_is_reported_in_the_end() -> None:
    log = FlakyLog(partitions=1)
    log.failures = 1000
    with pytest.raises(LogUnavailable):
        producer(log).do(RegisterDevice("a"))


def test_refused_commands_do_not_hold_up_the_others_and_leave_nothing() -> None:
    log = MemoryLog(partitions=1)
    bad = [
        RegisterDevice(""),
        PatchTags("nobody", {"x": 1}),
        PatchTags("a", {"x": "y" * 5000}),
        PatchTwin("a", tags={"x": 1}, if_match='"AAAAAAAAAAk="'),
        RegisterDevice("a"),
    ]
    report = producer(log).submit([RegisterDevice("a"), *bad, PatchTags("a", {"fine": True})])
    assert (report.written, [one.command for one in report.refused]) == (2, [bad[0], bad[2], bad[1], *bad[3:]])
    kinds = {type(one.error) for one in report.refused}
    assert {DeviceNotFound, TwinLimitExceeded, EtagMismatch, DeviceExists} <= kinds
    assert len(all_events(log)) == 2
    # A traceback would lead back to the commands, and keep megabytes of them in memory.
    assert all(one.error.__traceback__ is None for one in report.refused)
    with pytest.raises(CommandsRefused, match=r"5 commands refused: command [0-9]+: "):
        report.raise_if_refused()


def test_a_full_buffer_is_written_while_the_script_waits() -> None:
    log = MemoryLog(partitions=1)
    one = producer(log, batch_commands=10)
    for number in range(25):
        one.send(RegisterDevice(f"d{number}"))
    assert log.head(0) == 20
    assert one.flush().written == 25
    assert (log.head(0), one.flush().written) == (25, 0)


def test_the_end_of_the_block_writes_the_rest_and_insists_that_nothing_was_refused() -> None:
    log = MemoryLog(partitions=1)
    with producer(log) as one:
        one.send(RegisterDevice("a"))
    assert log.head(0) == 1
    with pytest.raises(CommandsRefused), producer(log) as again:
        again.send(RegisterDevice("a"))
    assert log.head(0) == 1


def test_a_block_that_fails_does_not_write_what_it_had_buffered() -> None:
    log = MemoryLog(partitions=1)

    def failing() -> None:
        with producer(log) as one:
            one.send(RegisterDevice("a"))
            one.send(RegisterDevice({}["missing"]))

    with pytest.raises(KeyError):
        failing()
    assert log.head(0) == 0


@pytest.mark.redis_server
def test_the_workers_are_woken_once_and_for_streams_that_none_follows(
    shared_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims_last(monkeypatch)
    flush(client := Redis.from_url(shared_redis.url))
    log, bell = initialise(shared_redis.url, partitions=4), Bell()
    claims = Claims(log.client, partitions=4)
    claims.take(claims.streams)
    claims.leave(range(4))
    one = producer(log, waker=bell)
    names = [f"d{number}" for number in range(20)]
    one.submit(map(RegisterDevice, names))
    assert bell.woken == [{0, 1, 2, 3}]
    one.submit(PatchTags(name, {"x": 1}) for name in names)
    assert bell.woken == [{0, 1, 2, 3}]
    claims.take([2])
    claims.leave([2])
    one.submit(PatchTags(name, {"x": 2}) for name in names)
    assert bell.woken[1:] == [{2}]
    one.do(CreateDeployment("a", content(), "*"))
    claims.leave([FLEET])
    one.do(CreateDeployment("b", content(), "*"))
    assert bell.woken[2:] == [{FLEET}]
    for opened in (log.client, client):
        opened.close()


def test_a_producer_that_is_fenced_wakes_the_workers_of_what_it_wrote() -> None:
    log, bell = MemoryLog(partitions=2), Bell()
    first, second = ([name for name in map(str, range(20)) if partition_of(name, 2) == home][:4] for home in (0, 1))
    producer(log, fence=2).do(RegisterDevice(second[0]))
    with pytest.raises(Fenced):
        producer(log, waker=bell, fence=1).submit(map(RegisterDevice, (first[0], second[1])))
    assert (bell.woken, log.head(0), log.head(1)) == ([{0}], 1, 1)

    def breaks_off() -> Iterator[RegisterDevice]:
        yield from map(RegisterDevice, (first[1], second[2]))
        raise KeyError

    with pytest.raises(KeyError):
        producer(log, waker=bell, fence=1, batch_commands=2).submit(breaks_off())
    assert (bell.woken, log.head(0), log.head(1)) == ([{0}, {0}], 2, 1)


def test_a_queue_that_is_away_does_not_fail_what_is_in_the_log() -> None:
    log = MemoryLog(partitions=1)
    producer(log, waker=Bell(broken=True)).do(RegisterDevice("a"))
    assert log.head(0) == 1


def huge() -> Any:
    """A content whose event no chunk can hold."""
    desired = {f"k{number}": "y" * 4000 for number in range(7)}
    return content(**{f"m{number}": {"properties.desired": desired} for number in range(40)})


def test_an_event_that_no_chunk_could_hold_is_refused_before_anything_is_sent() -> None:
    log = RacingLog(partitions=1)
    log.sizes.clear()
    with pytest.raises(EventTooLarge):
        producer(log).do(CreateDeployment("huge", huge(), "*"))
    assert log.sizes == []


def test_an_event_of_a_device_that_no_chunk_could_hold_is_refused_and_the_others_are_written() -> None:
    log = MemoryLog(partitions=1)
    one = producer(log)
    one.submit([RegisterDevice("a"), RegisterDevice("b")]).raise_if_refused()
    # Empty texts count nothing against the limits of a section.
    empty = [""] * 50_000
    for number in range(5):
        one.do(PatchTags("a", {f"e{number}": empty}))
    report = one.submit([PatchTags("a", {"e5": empty}), SetConfiguration("a", huge()), PatchTags("b", {"n": 1})])
    assert [type(refused.error) for refused in report.refused] == [EventTooLarge, EventTooLarge]
    assert (report.written, log.head(0)) == (1, 8)


def test_commands_that_no_chunk_could_hold_together_are_refused_and_the_others_are_written() -> None:
    log = MemoryLog(partitions=1)
    one = producer(log)
    one.submit([RegisterDevice("a"), RegisterDevice("b")]).raise_if_refused()
    devices = Together(tuple(PatchTags("a", {f"e{number}": [""] * 30_000}) for number in range(5)))
    desired = {f"k{number}": "y" * 4000 for number in range(7)}
    modules = {f"m{number}": {"properties.desired": desired} for number in range(10)}
    fleet = Together(tuple(CreateDeployment(name, content(**modules), "*") for name in ("p", "q")))
    report = one.submit([devices, PatchTags("b", {"n": 1}), fleet, CreateDeployment("r", content(), "*")])
    assert [type(refused.error) for refused in report.refused] == [EventTooLarge, EventTooLarge]
    assert (report.written, log.head(0), log.head(FLEET)) == (2, 3, 2)


def test_creating_a_deployment_answers_what_its_author_should_know() -> None:
    log = MemoryLog(partitions=1)
    one = producer(log)
    assert one.do(CreateDeployment("base", content(), "*", priority=1)) == ()
    (advice,) = one.do(CreateDeployment("extra", layer({"modules.x": module()}), "*", priority=1))
    assert (advice.rule, advice.about) == ("layer-not-above-base", "base")
    assert one.do(UpdateDeployment("extra", priority=2)) == ()
    (advice,) = one.do(UpdateDeployment("base", priority=2))
    assert advice.about == "extra"
    assert one.do(RegisterDevice("a")) == ()


def with_password(password: Any) -> CreateDeployment:
    credential = {"username": "u", "password": password, "address": "registry.example.com"}
    runtime = {"type": "docker", "settings": {"registryCredentials": {"r": credential}}}
    return CreateDeployment("a", content(agent=agent(runtime=runtime)), "*")


def test_a_secret_in_plain_is_refused_where_there_is_no_vault() -> None:
    log = MemoryLog(partitions=1)
    with pytest.raises(NoVault, match="open_producer") as caught:
        producer(log).do(with_password("hunter2"))
    assert "hunter2" not in str(caught.value)
    assert log.head(FLEET) == 1


def test_a_secret_goes_into_the_vault_and_a_reference_into_the_log(tmp_path: Path) -> None:
    log, store = MemoryLog(partitions=1), FakeSecretStore()
    one = producer(log, take_secrets=LazyVault(store, tmp_path / "key").take_out)
    one.do(CreateDeployment("plain", content(), "*"))
    assert not (tmp_path / "key").exists()
    one.do(with_password("hunter2"))
    (_, event) = all_events(log)
    assert b"hunter2" not in encode(event)
    (secret_id,) = store.ids()
    assert secret_id.encode() in encode(event)


def test_a_marked_variable_is_a_secret_too(tmp_path: Path) -> None:
    log, store = MemoryLog(partitions=1), FakeSecretStore()
    env = {"KEY": {"value": {"$secret_text": "hunter2"}}}
    command = CreateDeployment("a", content(agent=agent(modules={"m": module(env=env)})), "*")
    producer(log, take_secrets=LazyVault(store, tmp_path / "key").take_out).do(command)
    assert b"hunter2" not in encode(all_events(log))
    assert len(list(store.ids())) == 1


@pytest.mark.parametrize("password", ["<hunter2>", "hunter2" * 1000])
def test_no_refusal_shows_a_secret(password: str, tmp_path: Path) -> None:
    log = MemoryLog(partitions=1)
    one = producer(log, take_secrets=LazyVault(FakeSecretStore(), tmp_path / "key").take_out)
    broken = with_password(password)
    broken.content["modulesContent"]["$edgeAgent"]["properties.desired"]["modules"] = "hunter"
    (refused,) = one.submit([broken]).refused
    assert "hunter2" not in repr(refused) + str(refused.error)


def test_a_reference_to_nothing_is_refused(tmp_path: Path) -> None:
    log = MemoryLog(partitions=1)
    one = producer(log, take_secrets=LazyVault(FakeSecretStore(), tmp_path / "key").take_out)
    one.do(with_password("hunter2"))
    (second,) = one.submit([with_password({"$secret": "nothing"})]).refused
    assert isinstance(second.error, SecretNotFound)


def test_a_module_belongs_to_the_registration_it_was_made_in() -> None:
    log = MemoryLog(partitions=1)
    one = producer(log)
    report = one.submit(
        [
            RegisterDevice("a"),
            CreateModule("a", "m"),
            ReportProperties("a", {"n": 1}, module_id="m"),
            RetireDevice("a"),
            ReportProperties("a", {"n": 2}, module_id="m"),
            RegisterDevice("a"),
            DeleteModule("a", "m"),
        ]
    )
    assert [type(refused.error).__name__ for refused in report.refused] == ["DeviceNotFound", "ModuleNotFound"]
