"""A Redis that lost its newest events goes on from where it stands, and snapshots with those events are not used."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from events import PatchTags
from events.envelope import Vector
from events.history.errors import SnapshotDamaged
from events.history.log_at import PastDocuments
from events.history.projections_at import PastReplay
from events.history.snapshot_taker import SnapshotTaker
from events.history.snapshots import Snapshots
from events.log.documents import encoded
from events.log.keys import FLEET, partition_of
from events.log.object_store import ObjectStore
from events.log.raw import RawStreams
from services.embedded_redis import EmbeddedRedis
from tests.shortening import shortened
from tests.workers.system import PARTITIONS, System, base, deploy, fresh_system, join
from workers.projector import Projector
from workers.replay.streams import Replay

pytestmark = pytest.mark.redis_server

NUMBER = partition_of("d", PARTITIONS)


class LossySystem:
    """A system whose events are replayed here, and whose Redis goes back to what it was."""

    def __init__(self, system: System, location: Path) -> None:
        self.system = system
        streams = RawStreams(system.log.client)
        self.snapshots = Snapshots(ObjectStore(str(location)), streams, epoch=system.log.epoch)
        self.documents = PastDocuments(system.log, streams, self.snapshots)
        self.alone = PastDocuments(system.log, streams, None)
        self.taking = SnapshotTaker(system.log, system.projections, self.snapshots, self.documents, every_events=1)
        self._clock = itertools.count(1_800_000_000_000)

    def do(self, *commands: Any) -> None:
        self.system.do(*commands)
        projector = Projector(self.system.log, self.system.projections, clock=lambda: next(self._clock))
        for number in range(PARTITIONS):
            projector.drain(number, go_on=lambda: True)

    def take(self) -> str:
        found = self.taking.take(NUMBER)
        assert found is not None
        return found

    def lose(self, *commands: Any) -> str:
        """Write some, take a snapshot with them, and lose them; its name."""
        client: Any = self.system.log.client
        former = {key: client.dump(key) for key in client.keys("*")}
        self.do(*commands)
        where = self.take()
        client.flushdb()
        for key, data in former.items():
            client.restore(key, 0, data)
        return where

    def vector(self) -> Vector:
        return Vector(self.system.log.head(NUMBER), self.system.log.head(FLEET))

    def replayed(self) -> list[tuple[str, str]]:
        replay = Replay(self.system.log, self.system.projections, self.system.projections, snapshots=self.snapshots)
        return [(difference.kind, difference.location) for difference in replay.stream(NUMBER).differences]


@pytest.fixture
def lossy(shared_redis: EmbeddedRedis, tmp_path: Path) -> Any:
    with fresh_system(shared_redis, waking=False) as system:
        lossy = LossySystem(system, tmp_path)
        lossy.do(*join("d", site="north"), deploy("all", base("m"), "tags.site = 'north'"))
        yield lossy


@pytest.mark.parametrize("which", shortened(["events of the partition", "events of the fleet", "assignments"]))
def test_a_snapshot_with_events_that_were_lost_is_named_and_not_used_and_replaced(
    lossy: LossySystem, which: str
) -> None:
    match which:
        case "events of the partition":
            where = lossy.lose(PatchTags("d", {"lost": 1}))
            lossy.do(PatchTags("d", {"kept": 1}))
        case "events of the fleet":
            where = lossy.lose(deploy("lost", base("lost"), "tags.lost = 1"))
            lossy.do(deploy("kept", base("kept"), "tags.lost = 1"))
        case _:
            # What was decided about the same events is noted at another time.
            lossy.system.do(deploy("new", base("new"), priority=2))
            where = lossy.lose()
            lossy.do()
    vector = lossy.vector()
    assert where in lossy.snapshots.listed(NUMBER).values()
    assert list(lossy.snapshots.listed(NUMBER)) == [vector]
    with pytest.raises(SnapshotDamaged, match="the log does not have"):
        lossy.snapshots.read(NUMBER, where)
    quick, slow = (PastReplay(lossy.system.log, lossy.system.projections, one) for one in (lossy.snapshots, None))
    with capture_logs() as logged:
        assert quick.in_effect(NUMBER, vector) == slow.in_effect(NUMBER, vector)
        now, alone = (encoded(one.at(NUMBER, vector.partition)) for one in (lossy.documents, lossy.alone))
        assert now == alone
    assert {(one["event"], one["snapshot"]) for one in logged} == {("snapshot damaged", where)}
    assert lossy.replayed() == [("snapshot", where)]
    assert lossy.take() == where
    assert lossy.taking.take(NUMBER) is None, "a good one is there"
    assert lossy.replayed() == []


@pytest.mark.full
def test_a_snapshot_ahead_of_a_log_that_lost_its_tail_is_named_and_keeps_no_other_from_being_due(
    lossy: LossySystem,
) -> None:
    where = lossy.lose(*(PatchTags("d", {"n": one}) for one in range(5)))
    lossy.do(PatchTags("d", {"floor": 1}))
    assert lossy.replayed() == [("snapshot", where)]
    assert NUMBER in lossy.taking.due()
    assert lossy.take() != where
