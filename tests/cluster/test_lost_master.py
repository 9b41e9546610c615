"""A master dies, and its replica takes its place: with all that was acknowledged, or without the last of it."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from events import PatchTags
from events.log.errors import LogLostItsTail, LogUnavailable
from events.log.keys import FLEET, name, partition_of
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.api.serving import api
from tests.cluster.writers import Writers, assert_nothing_is_lost_or_doubled, assert_retryable_at_most
from tests.redis_cluster import Cluster, Server, cluster, slots_of
from tests.servers import eventually
from tests.workers.system import PARTITIONS, System, assert_rebuilt, base, deploy, join, layer
from workers.pool.tail_watch import TailWatch

pytestmark = [pytest.mark.redis_server, pytest.mark.full]

DEVICES = [f"edge-{number}" for number in range(12)]


def test_a_master_that_is_killed_is_replaced_and_callers_see_retryable_errors_at_most(
    shared_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    flags = ("--cluster-node-timeout", "3000", "--cluster-require-full-coverage", "no")
    with contextlib.ExitStack() as stack:
        nodes = stack.enter_context(cluster(replicas=True, flags=flags))
        system = stack.enter_context(contextlib.closing(System(nodes.url, queue_url=shared_redis.url)))
        says = stack.enter_context((tmp_path / "said").open("wb"))
        stack.enter_context(system.process("-m", "workers.pool", says=says, TWINFOLD_WORKERS="2"))
        stack.enter_context(system.process("-m", "services.scheduler", says=says))
        http = stack.enter_context(api(system, says=says))
        system.do(*(join(device_id, environment="prod") for device_id in DEVICES))
        system.do(deploy("all", base("z"), "*"), deploy("some", layer("x", v=1), "tags.produced > 3", priority=5))
        with Writers(system, http, DEVICES) as before:
            before.go_on()
        # All that was acknowledged until here is on the replicas; so nothing of it may be missing afterwards.
        nodes.catch_up()
        killed = nodes.owner(slots_of(PARTITIONS)[FLEET])
        replica = nodes.replica_of(killed)
        killed.kill()
        with Writers(system, http, DEVICES, after=before) as writers:
            eventually(lambda: writers.errors or replica.role() == "master", what="the replica takes over")
            nodes.promoted(killed, replica)
            writers.go_on()
        # The first command after a failover may meet the former master's connection.
        eventually(lambda: settled(system), what="the projections are at the head of the log")
        assert_nothing_is_lost_or_doubled(system, writers)
        assert system.status("all")["target"] == len(DEVICES)
        assert_rebuilt(system)
    assert_retryable_at_most(tmp_path / "said")


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    # Nothing fails over by itself: the test says when.
    flags = ("--cluster-node-timeout", "600000", "--cluster-require-full-coverage", "no")
    with cluster(replicas=True, flags=flags) as nodes:
        yield nodes


def lose_the_tail(nodes: Cluster, master: Server, replica: Server) -> None:
    """Let a replica that was away take the place of a master that is killed."""
    master.kill()
    replica.start()
    replica.ask("FAILOVER", "TAKEOVER")
    eventually(lambda: replica.role() == "master", what="the replica takes over")
    nodes.promoted(master, replica)
    for slot in slots_of(PARTITIONS).values():
        for server in nodes.servers:
            eventually(lambda server=server, slot=slot: nodes.knows(server, slot), what="all know the new master")


def settled(system: System) -> bool:
    with contextlib.suppress(LogUnavailable):
        return system.is_settled()
    return False


def losses_in(said: Path) -> list[tuple[str, int, int]]:
    lines = [json.loads(line) for line in said.read_text().splitlines() if line.startswith("{")]
    return [
        (line["stream"], line["expected"], line["actual"])
        for line in lines
        if line["event"] == "acknowledged events are lost"
    ]


def test_a_partition_that_lost_its_tail_is_reported_and_the_producers_write_it_again(
    nodes: Cluster, shared_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    with contextlib.ExitStack() as stack:
        system = stack.enter_context(contextlib.closing(System(nodes.url, queue_url=shared_redis.url)))
        says = stack.enter_context(said.open("wb"))
        stack.enter_context(system.process("-m", "workers.pool", says=says))
        system.do(*(join(device_id) for device_id in DEVICES), deploy("all", base("z"), "*"))
        system.settle()
        # Of a master that has not the fleet's slot, which has the notes on its streams.
        slots = slots_of(PARTITIONS)
        lost = next(
            stream for stream in range(PARTITIONS) if nodes.owner(slots[stream]) is not nodes.owner(slots[FLEET])
        )
        master = nodes.owner(slots[lost])
        replica = nodes.replica_of(master)
        nodes.catch_up()
        replica.kill()
        remaining = system.log.head(lost)
        tagged = [
            PatchTags(device_id, {"site": "north"})
            for device_id in DEVICES
            if partition_of(device_id, PARTITIONS) == lost
        ]
        system.do(tagged)
        system.settle()
        head = system.log.head(lost)
        assert head == remaining + len(tagged)
        watch = TailWatch(system.log, system.projections)
        assert watch.once() == []
        lose_the_tail(nodes, master, replica)
        eventually(lambda: settled(system), what="the new master answers")
        with pytest.raises(LogLostItsTail) as error:
            system.log.read(lost, after=head, limit=10)
        assert (error.value.expected, error.value.actual) == (head, remaining)
        eventually(lambda: losses_in(said), what="a pool reports the loss")
        assert losses_in(said) == [(name(lost), head, remaining)]
        # The recovery of docs/guides/cluster.md: the producers run again from a time before the failover.
        system.do(tagged)
        system.settle()
        assert system.log.head(lost) == head
        assert len(system.log.read(lost, after=remaining, limit=100)) == len(tagged)
        assert watch.once() == []
        assert_rebuilt(system)


def test_a_fleets_stream_that_lost_its_tail_stops_every_partition_that_had_read_it(
    nodes: Cluster, shared_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    said = tmp_path / "said"
    with contextlib.ExitStack() as stack:
        system = stack.enter_context(contextlib.closing(System(nodes.url, queue_url=shared_redis.url)))
        says = stack.enter_context(said.open("wb"))
        system.do(*(join(device_id) for device_id in DEVICES), deploy("all", base("z"), "*"))
        slots = slots_of(PARTITIONS)
        master = nodes.owner(slots[FLEET])
        replica = nodes.replica_of(master)
        with system.process("-m", "workers.pool", says=says):
            system.settle()
            nodes.catch_up()
            replica.kill()
            remaining = system.log.head(FLEET)
            system.do(deploy("late", layer("x", v=1), "*", priority=3))
            system.settle()
            lose_the_tail(nodes, master, replica)
            eventually(lambda: losses_in(said), what="a pool reports the loss")
            assert losses_in(said)[0] == ("fleet", remaining + 1, remaining)
            elsewhere = [stream for stream in range(PARTITIONS) if nodes.owner(slots[stream]) is not replica]
            assert elsewhere
            for stream in elsewhere:
                eventually(lambda stream=stream: system.projections.blocked(stream), what="the partition stops")
                blocked = system.projections.blocked(stream)
                assert blocked is not None
                assert f"expected position {remaining + 1}, the log has {remaining}" in blocked.error


@pytest.mark.parametrize("is_new", [False, True], ids=["a pool that runs", "a pool that starts"])
def test_partitions_of_a_master_that_is_away_do_not_delay_the_others(
    shared_redis: EmbeddedRedis, *, is_new: bool
) -> None:
    flags = ("--cluster-node-timeout", "60000", "--cluster-require-full-coverage", "no")
    with contextlib.ExitStack() as stack:
        nodes = stack.enter_context(cluster(flags=flags))
        system = stack.enter_context(contextlib.closing(System(nodes.url, queue_url=shared_redis.url)))
        slots = slots_of(PARTITIONS)
        fleet = nodes.owner(slots[FLEET])
        killed = next(server for server in nodes.masters if server is not fleet)
        there = [name for name in DEVICES if nodes.owner(slots[partition_of(name, PARTITIONS)]) is not killed]
        pool = stack.enter_context(system.process("-m", "workers.pool", TWINFOLD_WORKERS="1"))
        system.do(*(join(device_id, environment="prod") for device_id in DEVICES), deploy("all", base("z"), "*"))
        system.settle()
        killed.kill()
        if is_new:
            pool.kill()
            stack.enter_context(system.process("-m", "workers.pool", TWINFOLD_WORKERS="1"))
        system.do(*(PatchTags(device_id, {"environment": "test"}) for device_id in there))

        def is_applied(device_id: str) -> bool:
            number = partition_of(device_id, PARTITIONS)
            return system.projections.checkpoint(number).vector.partition == system.log.head(number)

        assert there
        for device_id in there:
            eventually(lambda device_id=device_id: is_applied(device_id), what="a partition of another master goes on")


def test_while_a_master_is_lost_processes_start_deployments_change_and_readiness_returns_with_its_replica(
    nodes: Cluster, shared_redis: EmbeddedRedis
) -> None:
    with contextlib.ExitStack() as stack:
        system = stack.enter_context(contextlib.closing(System(nodes.url, queue_url=shared_redis.url)))
        slots = slots_of(PARTITIONS)
        fleet = nodes.owner(slots[FLEET])
        lost = next(server for server in nodes.masters if server is not fleet)
        replica = nodes.replica_of(lost)
        http = stack.enter_context(api(system))
        system.do(*(join(device_id) for device_id in DEVICES), deploy("before", base("z"), "*"))
        nodes.catch_up()
        lost.kill()
        assert http.get("/readyz").status_code == 503
        # The deployment is in the log, so it is answered as created; the number of its devices is not known.
        body = {"content": base("y"), "targetCondition": "*", "priority": 2}
        created = http.post("/v1/deployments/meanwhile", json=body)
        assert (created.status_code, created.json()["targeted"]) == (201, None)
        command = [sys.executable, "-m", "services.cli", "log", "--stream", "fleet", "--json"]
        lines = subprocess.run(
            command, env=system.environment(), stdout=subprocess.PIPE, check=True, timeout=waiting.seconds()
        ).stdout.splitlines()
        assert [json.loads(line)["subject"] for line in lines][-2:] == ["before", "meanwhile"]
        with api(system) as started:
            assert started.post("/v1/deployments/again", json=body).status_code == 201
        replica.ask("FAILOVER", "TAKEOVER")
        eventually(lambda: replica.role() == "master", what="the replica takes over")
        # Nothing but its readiness is asked of the process, as by a load balancer that has taken it out.
        eventually(lambda: http.get("/readyz").is_success, what="it is ready with the new master")
