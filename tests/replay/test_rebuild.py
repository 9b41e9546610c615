import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from redis.exceptions import ResponseError

from events import PatchTags
from events.log.connect import connect
from events.log.failpoints import VARIABLE, FailPoint
from events.log.keys import FLEET, key
from events.projection_store.staged_projection import RebuildSuperseded, StagedProjection
from events.stored_projection.partition_codec import restore, writes_of
from events.stored_projection.stored_partition import ARRAYS, HASHES, Checkpoint, StoredPartition, Writes
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.replay.test_replay import DEVICES, differences, drain, live
from tests.servers import eventually
from tests.shortening import shortened
from tests.workers.system import PARTITIONS, System, base, deploy, fresh_system
from workers.projector import Projector
from workers.replay.partition_replay import AssignmentChangeDiffers
from workers.replay.rebuild import Rebuilder

pytestmark = pytest.mark.redis_server

REBUILDING = [point for point in FailPoint if point.name.startswith("REBUILD_")]


@pytest.fixture
def system(shared_redis: EmbeddedRedis) -> Iterator[System]:
    with fresh_system(shared_redis, waking=False, at=1_700_000_000_000) as system:
        live(system)
        yield system


def kept(system: System) -> list[StoredPartition]:
    """All projections, byte for byte, but for how often they were rebuilt."""
    stored_partitions = [system.projections.load(number) for number in range(PARTITIONS)]
    return [
        msgspec.structs.replace(one, checkpoint=msgspec.structs.replace(one.checkpoint, rebuilt=msgspec.UNSET))
        for one in stored_partitions
    ]


def staged(system: System) -> list[str]:
    """The keys of what is beside the projections."""
    return [name.decode() for name in system.log.client.scan_iter("*:rebuild:*")]


def rebuild(system: System) -> None:
    rebuilding = Rebuilder(system.log)
    for number in range(PARTITIONS):
        rebuilding.partition(number)


def lose(system: System, number: int) -> None:
    names = ["checkpoint", *HASHES, *ARRAYS]
    system.log.client.delete(*(key(number, f"projection:{name}") for name in names))


def test_projections_that_are_deleted_are_rebuilt_byte_for_byte(system: System) -> None:
    before = kept(system)
    for number in range(PARTITIONS):
        lose(system, number)
    rebuild(system)
    drain(system)
    assert kept(system) == before
    assert (staged(system), differences(system)) == ([], [])


def test_while_projections_are_lost_workers_decide_nothing_anew_and_say_what_to_do(system: System) -> None:
    before = kept(system)
    lose(system, 1)
    projector = Projector(system.log, system.projections, clock=lambda: 5)
    assert projector.drain(1, go_on=lambda: True)
    assert "twinfold rebuild --partition p01" in system.fleet_projection.blocked()[1].error
    rebuild(system)
    assert system.fleet_projection.blocked() == {}
    assert projector.drain(1, go_on=lambda: True)
    assert kept(system) == before


def test_projections_that_are_wrong_are_replaced_though_their_checkpoint_is_right_and_no_warm_copy_outlives_it(
    system: System,
) -> None:
    before = kept(system)
    client: Any = system.log.client
    stale = Projector(system.log, system.projections, clock=lambda: 5)
    for number in range(PARTITIONS):
        client.setrange(key(number, "projection:assignment_of"), 0, b"\0\0\0\0" * 3)
        client.hset(key(number, "projection:ordinals"), "ghost", "0")
        # A worker that read them keeps a copy of what is wrong.
        assert stale.drain(number, go_on=lambda: True)
    rebuild(system)
    assert kept(system) == before
    system.do(*(PatchTags(name, {"site": 4}) for name in DEVICES))
    for number in range(PARTITIONS):
        assert stale.drain(number, go_on=lambda: True)
    assert differences(system) == []


def test_a_commit_of_what_was_read_before_the_switch_does_not_stand_after_it(system: System) -> None:
    client: Any = system.log.client
    client.setrange(key(1, "projection:assignment_of"), 0, b"\0\0\0\0")
    stale = system.projections.load(1)
    fleet = system.log.read(FLEET, after=0, limit=stale.checkpoint.vector.fleet)
    partition = restore(1, stale, fleet)
    rebuild(system)
    system.do(*(PatchTags(name, {"site": 4}) for name in DEVICES))
    events: Any = system.log.read(1, after=partition.vector.partition, limit=100)
    partition.apply(events)
    writes = writes_of(partition, partition.resolve(), expected=stale.checkpoint)
    assert writes.assignment_change is not None
    assert not system.projections.commit(1, writes)
    drain(system)
    assert differences(system) == []


@pytest.mark.parametrize("point", shortened(REBUILDING), ids=lambda point: point.value)
def test_killed_at_any_point_projections_are_as_they_were_and_the_next_run_clears_up(
    system: System, point: FailPoint
) -> None:
    before = kept(system)
    asked = msgspec.json.encode({"rebuild": True}).decode()
    ran = waiting.run(
        [sys.executable, "-m", "workers.replay.child", asked],
        env=system.environment(**{VARIABLE: f"{point.value}:1"}),
        input="2\n",
        seconds_max=100,
        text=False,
    )
    assert ran.returncode == -signal.SIGKILL
    assert kept(system) == before
    rebuild(system)
    assert (staged(system), kept(system), differences(system)) == ([], before, [])


@pytest.mark.full
def test_of_two_that_rebuild_one_partition_the_later_goes_on_and_nothing_is_left_of_the_other(system: System) -> None:
    first = StagedProjection(system.log.client, 1)
    rebuild(system)
    before = kept(system)
    with pytest.raises(RebuildSuperseded):
        first.write(Writes(Checkpoint(), Checkpoint(), {"ids": {"0": b"x"}}, {}, None))
    with pytest.raises(RebuildSuperseded):
        first.switch(first.seen(), assignment_changes=0, checkpoint=Checkpoint())
    assert (staged(system), kept(system)) == ([], before)


@pytest.mark.full
def test_what_one_left_goes_with_the_next_though_one_between_could_not_clear_it(system: System) -> None:
    client: Any = system.log.client
    StagedProjection(client, 1).write(Writes(Checkpoint(), Checkpoint(), {"ids": {"0": b"x"}}, {}, None))
    assert staged(system) != []
    client.acl_setuser(
        "narrow", enabled=True, passwords=["+p"], keys=["*"], channels=["*"], commands=["+@all", "-unlink"]
    )
    try:
        narrow = connect(system.url.replace("://", "://narrow:p@"))
        with contextlib.closing(narrow), pytest.raises(ResponseError, match="command"):
            StagedProjection(narrow, 1)
    finally:
        client.acl_deluser("narrow")
    StagedProjection(client, 1)
    assert staged(system) == []


def test_what_the_events_do_not_give_is_not_put_in_place(system: System) -> None:
    before = kept(system)
    client: Any = system.log.client
    entries = client.xrange("{p00}:assignments")
    client.delete("{p00}:assignments")
    for entry_id, fields in entries:
        client.xadd("{p00}:assignments", {**fields, b"cause": b"x"}, id=entry_id)
    with pytest.raises(AssignmentChangeDiffers, match="twinfold replay"):
        rebuild(system)
    assert kept(system) == before


@pytest.mark.long
def test_under_writes_that_do_not_end_every_partition_is_switched_and_nobody_reads_a_mixture(
    shared_redis: EmbeddedRedis,
) -> None:
    with fresh_system(shared_redis) as system, system.process("-m", "workers.pool"):
        live(system)
        system.settle()
        stopping = threading.Event()

        def write() -> None:
            with_own = System(system.url)
            number = 0
            while not stopping.is_set():
                number += 1
                with_own.do(*(PatchTags(name, {"site": (index + number) % 6}) for index, name in enumerate(DEVICES)))
            with_own.close()

        writer = threading.Thread(target=write)
        writer.start()
        try:
            start = system.log.head(1)
            eventually(lambda: system.log.head(1) > start + 20, what="writes are under way")
            for _ in range(3):
                rebuild(system)
        finally:
            stopping.set()
            writer.join()
        system.do(deploy("z", base("zz"), "*", 50))
        system.settle()
        assert {system.projections.checkpoint(number).rebuilt for number in range(PARTITIONS)} == {3}
        assert system.status("z")["actual"] == len(DEVICES)
        assert differences(system) == []
