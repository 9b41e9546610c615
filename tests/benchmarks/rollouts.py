"""The rows of rollouts: one round of the scheduler over many of them, and a phase until its devices have it."""

import random
import time
from collections.abc import Iterator

from events import CreateDeployment, PatchTags, RegisterDevice, ReportProperties
from events.deployment.events import NotStarted
from events.rollout.commands import CreateRollout, StartRollout
from events.rollout.plan import Failure, Gate, Phase, RolloutPlan
from services.scheduler.engine import SchedulerEngine
from tests.benchmarks import fleets
from tests.benchmarks.large_fleet import Fleet
from tests.benchmarks.measuring import Figure, at_most, quantile, seconds_of
from tests.benchmarks.scale import Scale, counted, print_lines
from tests.servers import redis_server

ROLLOUTS = 20
ROUNDS = 7
PHASE_PARTS = 10
"""A phase is one of so many parts of the fleet: 100,000 of a million."""

_LASTING = Gate(success_percent=100, soak_seconds=30 * 86_400)
_PATIENT = Failure(percent=100, count=2**31 - 1)


def run(scale: Scale) -> Iterator[Figure]:
    """Grow the fleet, begin the rollouts, and measure."""
    with redis_server() as server:
        fleet = Fleet(server, scale)
        with fleet.pool():
            grow(fleet)
            engine = SchedulerEngine(
                fleet.log, fleet.projections, clock=lambda: time.time_ns() // 1_000_000, waker=fleet.waker
            )
            yield from planning(fleet, engine)
            yield phase(fleet, engine)


def grow(fleet: Fleet) -> None:
    """Register everyone, with tags and an answer of the agent; then a base for all."""
    print_lines(f"growing a fleet of {fleet.scale.devices:,} devices")
    names, draw = list(fleets.device_ids(fleet.scale.devices)), random.Random(1)
    report = fleets.agent_report()
    commands = (
        command
        for name in names
        for command in (
            RegisterDevice(name),
            PatchTags(name, fleets.tags_of(draw)),
            ReportProperties(name, report, module_id="$edgeAgent"),
        )
    )
    fleet.producer.submit(counted("written", commands)).raise_if_refused()
    fleet.producer.do(CreateDeployment("base", fleets.content("base", layered=False), "*", 1))
    fleet.settle()


def roll_out(fleet: Fleet, name: str, condition: str, plan: RolloutPlan, priority: int, *, layered: bool) -> None:
    """Begin one rollout."""
    content = fleets.content(name, layered=layered)
    fleet.producer.submit(
        [
            CreateDeployment(name, content, condition, priority, admission=NotStarted()),
            CreateRollout(name, plan),
            StartRollout(name),
        ]
    ).raise_if_refused()


def planning(fleet: Fleet, engine: SchedulerEngine) -> Iterator[Figure]:
    """A round that judges every rollout anew, after reports came in for every partition."""
    plan = RolloutPlan(phases=(Phase(percent=50, gate=_LASTING), Phase(percent=100)), failure=_PATIENT)
    for number in range(ROLLOUTS):
        condition = f"tags.environment = '{fleets.ENVIRONMENTS[number % len(fleets.ENVIRONMENTS)]}'"
        roll_out(fleet, f"layer-{number}", condition, plan, 100 + number, layered=True)
    fleet.settle()
    first = seconds_of(engine.tick)
    fleet.settle()
    seconds, report = [], fleets.agent_report()
    for _ in range(ROUNDS):
        names = (f"edge-{fleet.draw.randrange(fleet.scale.devices):07d}" for _ in range(1000))
        fleet.producer.submit(ReportProperties(name, report, module_id="$edgeAgent") for name in names)
        fleet.settle()
        seconds.append(seconds_of(engine.tick))
    setting = f"{fleet.scale.devices:,} devices, {ROLLOUTS} rollouts"
    beside = f"worst of {ROUNDS}: {max(seconds):.2f} s; the first, which opens all phases: {first:.2f} s"
    yield at_most("one round of the scheduler", setting, quantile(seconds, 0.5), "s", aim=1, beside=beside)


def phase(fleet: Fleet, engine: SchedulerEngine) -> Figure:
    """From the scheduler's look until a tenth of the fleet has the deployment."""
    plan = RolloutPlan(phases=(Phase(percent=100 / PHASE_PARTS, gate=_LASTING), Phase(percent=100)), failure=_PATIENT)
    seconds, planned, admitted = [], [], 0
    for number in range(ROUNDS):
        name = f"wide-{number}"
        roll_out(fleet, name, "*", plan, 1000 + number, layered=False)
        fleet.settle()
        start = time.perf_counter()
        engine.tick()
        planned.append(time.perf_counter() - start)
        written = time.perf_counter()
        fleet.settle()
        seconds.append(time.perf_counter() - written)
        admitted = fleet.fleet_projection.status(name)[name]["actual"]
    setting = f"{fleet.scale.devices:,} devices, {admitted:,} admitted"
    beside = f"worst of {ROUNDS}: {max(seconds):.2f} s; the round that admits them: {quantile(planned, 0.5):.2f} s"
    return at_most(
        "phase admitted → readable for all of it", setting, quantile(seconds, 0.5), "s", aim=1, beside=beside
    )
