"""What an idle system asks of Redis does not grow with what waits in it."""

from collections.abc import Callable

import pytest

from events.deployment.commands import CreateDeployment
from events.deployment.events import NotStarted
from events.device.commands import RegisterDevice
from events.notification.deliveries import Deliveries
from events.notification.feed import Feed
from events.rollout.commands import CreateRollout, StartRollout
from events.rollout.plan import Gate, Phase, RolloutPlan
from services.embedded_redis import EmbeddedRedis
from services.scheduler.engine import SchedulerEngine
from tests.workers.system import PARTITIONS, System, base, fresh_system
from workers.pool.dispatcher import Dispatcher
from workers.projector import Projector

pytestmark = pytest.mark.redis_server

NOW = 1_000_000
WAITING = RolloutPlan((Phase(percent=50, gate=Gate(success_percent=100)), Phase(percent=100)))


def commands_of(system: System, act: Callable[[], object]) -> int:
    """How many commands the server gets during an act."""

    def processed() -> int:
        return int(system.log.client.info("stats")["total_commands_processed"])

    before = processed()
    act()
    return processed() - before - 1


def of_a_tick(system: System, *, rollouts: int) -> int:
    """The commands of a tick of the scheduler while so many rollouts wait for devices."""
    system.do(*(RegisterDevice(f"d{number}") for number in range(6)))
    projector = Projector(system.log, system.projections, clock=lambda: NOW)
    for number in range(rollouts):
        name = f"rollout-{number}"
        content = base("m", image=f"example.com/m:{number}")
        system.do(
            CreateDeployment(name, content, "*", number, admission=NotStarted()),
            CreateRollout(name, WAITING),
            StartRollout(name),
        )

    def drain() -> None:
        for number in range(PARTITIONS):
            while not projector.drain(number, go_on=lambda: True):
                pass

    engine = SchedulerEngine(system.log, system.projections, clock=lambda: NOW, settle=lambda _seconds: drain())
    while engine.tick():
        pass
    return commands_of(system, engine.tick)


def test_a_tick_asks_no_more_for_many_waiting_rollouts_than_for_one(shared_redis: EmbeddedRedis) -> None:
    with fresh_system(shared_redis, at=NOW, waking=False) as system:
        of_one = of_a_tick(system, rollouts=1)
    with fresh_system(shared_redis, at=NOW, waking=False) as system:
        assert of_a_tick(system, rollouts=7) == of_one


def test_without_webhooks_the_dispatcher_asks_for_the_head_alone(shared_redis: EmbeddedRedis) -> None:
    with fresh_system(shared_redis) as system:
        log = system.log
        dispatcher = Dispatcher(log, Feed(log, system.projections), Deliveries(log.client), system.queue)
        dispatcher.once()
        assert commands_of(system, dispatcher.once) == 1
