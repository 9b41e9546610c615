"""A partition whose checkpoint is damaged holds rollouts up, and does not end the scheduler."""

import pytest

from events.clock import now_ms
from events.deployment.commands import CreateDeployment
from events.deployment.events import NotStarted
from events.device.commands import RegisterDevice
from events.projection_store.fleet_snapshot import FleetSnapshotReader
from events.rollout.commands import CreateRollout, StartRollout
from events.rollout.plan import Phase, RolloutPlan
from services.embedded_redis import EmbeddedRedis
from services.scheduler.engine import SchedulerEngine
from tests.workers.system import base, fresh_system
from workers.projector import Projector

pytestmark = pytest.mark.redis_server


def test_a_round_goes_on_beside_a_damaged_checkpoint(shared_redis: EmbeddedRedis) -> None:
    with fresh_system(shared_redis) as system:
        system.do(*(RegisterDevice(f"d{number}") for number in range(8)))
        system.do(CreateDeployment("new", base("m"), "*", 1, admission=NotStarted()))
        system.do(CreateRollout("new", RolloutPlan((Phase(percent=100),))), StartRollout("new"))
        projector = Projector(system.log, system.projections, clock=now_ms)
        for number in range(system.log.partitions):
            projector.drain(number, go_on=lambda: True)
        system.log.client.set("{p00}:projection:checkpoint", b"{")
        engine = SchedulerEngine(system.log, system.projections, clock=now_ms, settle=lambda _seconds: None)
        assert (engine.tick(), engine.judgements) == (0, 1)
        reader = FleetSnapshotReader(system.log, system.projections)
        assert not reader.refresh(reader.heads())
        assert reader.lagging == ("p00",)
