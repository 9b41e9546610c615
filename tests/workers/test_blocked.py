import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from events import PatchTags, RegisterDevice
from events.deployment.events import DeploymentCreated, DeploymentUpdated
from events.device.events import TwinPatched
from events.envelope import Principal
from events.log.keys import FLEET, key, partition_of
from events.log.port import Head, Proposed
from events.producer.errors import DecisionInvalid
from events.projection_store.stopped import details, stops
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.servers import eventually
from tests.shortening import shortened
from tests.stored_subjects import store, subjects_in
from tests.workers.system import PARTITIONS, System, assert_rebuilt, base, deploy, fresh_system

pytestmark = [pytest.mark.redis_server, pytest.mark.full]

ADA = Principal.parse("user:ada")


@pytest.fixture
def system(shared_redis: EmbeddedRedis) -> Iterator[System]:
    with fresh_system(shared_redis) as system, system.process("-m", "workers.pool"):
        system.do(*(RegisterDevice(f"d{number}") for number in range(40)))
        system.do(deploy("a", base("m"), "tags.on = true"))
        system.settle()
        yield system


def damage(system: System, stream: int, data: bytes = b"{", *, kind: str = "X", subject: str = "d0") -> int:
    """An entry that no version ever wrote, at the next position; its position."""
    client: Any = system.log.client
    position = system.log.head(stream) + 1
    fields = {"type": kind, "subject": subject, "version": 9, "at": 1, "by": "user:ada", "cause": "", "data": data}
    client.xadd(key(stream, "log"), fields, id=f"{position}-0")
    client.hset(key(stream, "meta"), "position", position)
    return position


def by_hand(system: System, proposed: Proposed, command_id: str) -> int:
    """Append an event without a decider; returns its position."""
    (chunk,) = system.log.append([proposed], command_id=command_id, by=ADA, at=1)
    system.waker.wake([chunk.stream])
    return int(getattr(chunk, "first_position", 0))


def stopped_at(system: System, number: int) -> tuple[int, int]:
    eventually(lambda: number in system.fleet_projection.blocked(), what="the partition is blocked")
    blocked = system.fleet_projection.blocked()[number]
    return blocked.stream, blocked.position


def devices_of(number: int) -> list[str]:
    return [name for name in (f"d{one}" for one in range(40)) if partition_of(name, PARTITIONS) == number]


@pytest.mark.parametrize("how", shortened(["unreadable", "impossible", "gap"]))
def test_a_partition_stops_at_a_bad_event_and_goes_on_by_decision_alone(system: System, how: str) -> None:
    first, second, *_ = devices_of(1)
    system.do(PatchTags(first, {"on": True}))
    match how:
        case "unreadable":
            bad = damage(system, 1)
        case "impossible":
            bad = by_hand(system, Proposed("nobody5", 0, TwinPatched({"on": True})), "c")
            assert partition_of("nobody5", PARTITIONS) == 1
        case _:
            bad = damage(system, 1)
    system.do(PatchTags(second, {"on": True}), PatchTags(devices_of(2)[0], {"on": True}))
    if how == "gap":
        system.log.client.xdel(key(1, "log"), f"{bad}-0")
    assert stopped_at(system, 1) == (1, bad)
    eventually(
        lambda: system.fleet_projection.status("a")["a"]["actual"] == 2,
        what="others, and what came before, are applied",
    )
    assert system.projections.checkpoint(1).vector.partition == bad - 1
    with pytest.raises(DecisionInvalid, match="reason"):
        system.producer.skip(1, bad, reason=" ")
    with pytest.raises(DecisionInvalid, match="position"):
        system.producer.skip(1, bad + 100, reason="typo")
    system.producer.skip(1, bad, reason="a faulty disk")
    system.settle()
    assert system.fleet_projection.blocked() == {}
    assert system.status("a")["actual"] == 3
    assert_rebuilt(system)


@pytest.mark.parametrize("how", shortened(["unreadable", "impossible", "condition"]))
def test_a_bad_event_of_the_fleet_stops_everyone_until_it_is_decided(system: System, how: str) -> None:
    match how:
        case "unreadable":
            bad = damage(system, FLEET)
            system.waker.wake([FLEET])
        case "impossible":
            bad = by_hand(system, Proposed("nobody", 0, DeploymentUpdated("*", 1, {}, {})), "c")
        case _:
            bad = by_hand(system, Proposed("odd", 0, DeploymentCreated(base("x"), "tags.((")), "c")
    system.do(deploy("b", base("n"), "*", priority=5))
    for number in range(PARTITIONS):
        assert stopped_at(system, number) == (FLEET, bad)
        assert system.projections.checkpoint(number).vector.fleet == bad - 1
    system.producer.skip(FLEET, bad, reason="never was")
    system.settle()
    assert system.fleet_projection.blocked() == {}
    assert system.status("b")["actual"] == 40
    assert_rebuilt(system)


def test_a_lost_tail_stops_the_partition_until_the_events_are_back(system: System) -> None:
    client: Any = system.log.client
    names = devices_of(1)
    system.do(*(PatchTags(name, {"on": True}) for name in names))
    system.settle()
    head = system.log.head(1)
    entries = client.xrange(key(1, "log"), min=f"{head - 1}-0")
    heads = client.hgetall(key(1, "meta"))
    client.xdel(key(1, "log"), *(entry_id for entry_id, _ in entries))
    client.hset(key(1, "meta"), "position", head - 2)
    system.waker.wake([1])
    eventually(lambda: 1 in system.fleet_projection.blocked(), what="the partition is blocked")
    assert not system.fleet_projection.blocked()[1].decidable
    assert "restore the missing events" in system.fleet_projection.blocked()[1].error
    # Redis gives no id twice, so the stream is written anew, as a restore does.
    rest = client.xrange(key(1, "log"))
    client.delete(key(1, "log"))
    for entry_id, fields in [*rest, *entries]:
        client.xadd(key(1, "log"), fields, id=entry_id)
    client.hset(key(1, "meta"), mapping=heads)
    system.waker.wake([1])
    eventually(lambda: system.fleet_projection.blocked() == {}, what="the partition goes on")
    assert_rebuilt(system)


def command(system: System, *arguments: str) -> subprocess.CompletedProcess[str]:
    where = () if "--redis-url" in arguments else ("--redis-url", system.url)
    whole = [sys.executable, "-m", "services.cli", "blocked", *where, *arguments]
    return waiting.run(whole)


@pytest.mark.full
def test_what_can_be_applied_by_now_goes_on_after_a_retry(system: System) -> None:
    """As after an upgrade: here the entry becomes one that is known."""
    first, second, *_ = devices_of(1)
    bad = damage(system, 1)
    system.do(PatchTags(second, {"on": True}))
    assert stopped_at(system, 1) == (1, bad)
    since = system.fleet_projection.blocked()[1].at
    system.producer.retry(1, bad, reason="perhaps now")
    eventually(lambda: system.fleet_projection.blocked()[1].at > since, what="it was tried, and stopped again")
    client: Any = system.log.client
    entries = client.xrange(key(1, "log"))
    client.delete(key(1, "log"))
    for entry_id, fields in entries:
        known = {
            b"type": b"TwinPatched",
            b"subject": first.encode(),
            b"data": b'{"tags":{"on":true},"type":"TwinPatched"}',
        }
        client.xadd(key(1, "log"), fields | known if entry_id == f"{bad}-0".encode() else fields, id=entry_id)
    system.producer.retry(1, bad, reason="an upgrade that knows it")
    system.settle()
    assert system.fleet_projection.blocked() == {}
    assert system.status("a")["actual"] == 2
    assert_rebuilt(system)


def test_an_operator_is_shown_what_stands_there_and_what_each_choice_leads_to(system: System) -> None:
    bad = damage(system, 1, b'{"type":"Odd","primaryKey":{"$secret":"s3"},"authentication":{"k":"v"}}')
    system.do(*(PatchTags(name, {"on": True}) for name in devices_of(1)[:2]))
    stopped_at(system, 1)
    (line,) = command(system).stdout.splitlines()
    assert line.startswith(f"p01 stopped at p01:{bad} since ")
    assert ", 3 events wait: " in line
    shown = command(system, "show", f"p01:{bad}", "--redis-url", system.url)
    assert shown.returncode == 0, shown.stderr
    for said in (
        "X of d0, version 9",
        "by user:ada",
        '"primaryKey":"***"',
        '"authentication":"***"',
        "--skip",
        "--retry",
    ):
        assert said in shown.stdout
    assert "s3" not in shown.stdout
    found = json.loads(command(system, "show", f"p01:{bad}", "--json", "--redis-url", system.url).stdout)
    assert (found["stop"]["waiting"], found["entry"]["data"]["type"]) == ({"p01": 3}, "Odd")
    assert set(found["subjects"]) == {"d0", *devices_of(1)[:2]}
    assert found["subjectsTotal"] == 3
    again = command(
        system, "resolve", f"p01:{bad}", "--retry", "--reason", "who knows", "--wait", "--redis-url", system.url
    )
    assert (again.returncode, "still stopped" in again.stderr) == (1, True)
    both = command(system, "resolve", f"p01:{bad}", "--reason", "x", "--redis-url", system.url)
    assert both.returncode == 2
    words = ("resolve", f"p01:{bad}", "--skip", "--reason", "a script", "--wait", "--redis-url", system.url)
    done = command(system, *words)
    assert (done.returncode, done.stdout) == (0, f"p01:{bad} is skipped from now on\np01 continued\n")
    assert command(system).stdout == "no partition is stopped\n"


@pytest.mark.parametrize("data", [b"{secret", b"\xff" * 9])
def test_data_that_nobody_can_read_is_not_shown(system: System, data: bytes) -> None:
    damage(system, FLEET, data)
    system.waker.wake([FLEET])
    for number in range(PARTITIONS):
        stopped_at(system, number)
    (stop,) = stops(system.log, system.projections)
    assert sorted(stop.waiting) == [f"p{number:02}" for number in range(PARTITIONS)]
    found = details(system.log.client, system.projections, stop)
    assert found.entry is not None
    assert str(len(data)) in found.entry.data
    assert "secret" not in found.entry.data
    assert found.devices == 40


def test_a_lost_tail_is_not_decided_upon_but_restored(system: System) -> None:
    client: Any = system.log.client
    system.do(*(PatchTags(name, {"on": True}) for name in devices_of(1)))
    system.settle()
    head = system.log.head(1)
    client.xdel(key(1, "log"), f"{head}-0")
    client.hset(key(1, "meta"), "position", head - 1)
    system.waker.wake([1])
    stopped_at(system, 1)
    (stop,) = stops(system.log, system.projections)
    choices = details(system.log.client, system.projections, stop).choices
    assert [choice.decision for choice in choices] == [None, None]
    assert "twinfold restore" in choices[1].what


@pytest.mark.full
def test_a_damaged_document_is_found_and_made_of_the_events_again(system: System) -> None:
    client: Any = system.log.client
    victim = devices_of(1)[0]
    system.do(PatchTags(victim, {"on": True}))
    system.settle()
    before = (subjects_in(client, 1), subjects_in(client, FLEET))
    store(client, 1, victim, document=b"{")
    store(client, FLEET, "a", document=b"{}")
    store(client, 1, "nobody", document=b"{}")
    store(client, 1, devices_of(1)[1], Head(0, 0))
    client.hset(key(1, "subjects"), devices_of(1)[2], b"\xff\xff")
    record = client.hget(key(1, "subjects"), devices_of(1)[3])
    client.hset(key(1, "subjects"), devices_of(1)[3], record[:-9])
    found = command(system, "documents", "--redis-url", system.url)
    assert found.returncode == 1
    names = [line.split(" differs")[0] for line in found.stdout.splitlines()]
    assert sorted(names) == sorted(["fleet a", "p01 nobody", *(f"p01 {name}" for name in devices_of(1)[:4])])
    mended = command(system, "documents", "--mend", "--redis-url", system.url)
    assert (mended.returncode, mended.stdout.count("; replaced")) == (0, 6), mended.stderr
    after = (subjects_in(client, 1), subjects_in(client, FLEET))
    assert after == before
    assert "every document is" in command(system, "documents", "--redis-url", system.url).stdout


def test_an_operator_sees_what_is_stopped_and_decides(system: System) -> None:
    assert command(system).stdout == "no partition is stopped\n"
    bad = damage(system, 1)
    system.waker.wake([1])
    stopped_at(system, 1)
    assert command(system).stdout.startswith(f"p01 stopped at p01:{bad} since ")
    assert command(system, "--skip", "p01:1", "--reason", "x").returncode == 2
    without = command(system, "--skip", f"p01:{bad}")
    assert (without.returncode, len(without.stderr.splitlines())) == (1, 1)
    assert "reason" in without.stderr
    done = command(system, "--skip", f"p01:{bad}", "--reason", "a faulty disk", "--by", "user:ada")
    assert (done.returncode, done.stdout) == (0, f"p01:{bad} is skipped from now on\n")
    system.settle()
    assert command(system).stdout == "no partition is stopped\n"
    (decision,) = system.log.read(FLEET, after=system.log.head(FLEET) - 1, limit=1)
    assert (str(decision.by), getattr(decision.event, "reason", "")) == ("user:ada", "a faulty disk")
