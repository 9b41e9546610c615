"""A pool takes snapshots by itself, and looks at the past begin at them."""

from pathlib import Path

import pytest

from events import PatchTags
from events.history.snapshots import Snapshots
from events.log.keys import partition_of
from events.log.object_store import ObjectStore
from events.log.raw import RawStreams
from services.embedded_redis import EmbeddedRedis
from tests.servers import eventually
from tests.workers.system import fresh_system, join

pytestmark = pytest.mark.redis_server


def test_a_pool_takes_a_snapshot_once_so_many_events_are_applied(shared_redis: EmbeddedRedis, tmp_path: Path) -> None:
    with (
        fresh_system(shared_redis) as system,
        system.process("-m", "workers.pool", TWINFOLD_DATA_DIR=str(tmp_path), TWINFOLD_HISTORY_SNAPSHOT_EVENTS="10"),
    ):
        number = partition_of("d", system.log.partitions)
        system.do(*join("d"), *(PatchTags("d", {"n": one}) for one in range(20)))
        snapshots = Snapshots(
            ObjectStore(str(tmp_path / "archive")), RawStreams(system.log.client), epoch=system.log.epoch
        )
        eventually(lambda: snapshots.listed(number), what="a snapshot is there")
        found = snapshots.newest(number, system.projections.checkpoint(number).vector)
        assert found is not None
        assert "d" in found.documents
