"""The rows of previews: what four commands would do to the large fleet, with nothing in memory and with everything."""

import random
import time
from collections.abc import Iterator
from functools import partial

from events import CreateDeployment, DeleteDeployment, PatchTags, RegisterDevice, UpdateDeployment
from events.preview.preview_result import PreviewResult
from events.preview.previewer import Previewer, Trial
from events.producer.errors import Command
from tests.benchmarks import fleets
from tests.benchmarks.large_fleet import BY, Fleet
from tests.benchmarks.measuring import Figure, at_most, quantile, seconds_of
from tests.benchmarks.scale import Scale, counted, print_lines
from tests.servers import redis_server

ROUNDS = 5
AIM_SECONDS = 1.0


def run(scale: Scale) -> Iterator[Figure]:
    """Grow the fleet once; its agents have reported nothing, which no preview looks at."""
    with redis_server() as server:
        fleet = Fleet(server, scale)
        with fleet.pool():
            grow(fleet)
        yield from measure(fleet)


def grow(fleet: Fleet) -> None:
    """Register everyone, with five tags in one event; then the deployments."""
    print_lines(f"growing a fleet of {fleet.scale.devices:,} devices and {fleet.scale.deployments:,} deployments")
    names, draw = list(fleets.device_ids(fleet.scale.devices)), random.Random(1)
    commands = (command for name in names for command in (RegisterDevice(name), PatchTags(name, fleets.tags_of(draw))))
    fleet.producer.submit(counted("written", commands)).raise_if_refused()
    fleet.producer.submit(
        CreateDeployment(name, content, target_condition=condition, priority=priority)
        for name, content, condition, priority in fleets.deployments(fleet.scale.deployments)
    ).raise_if_refused()
    fleet.settle()


def measure(fleet: Fleet) -> Iterator[Figure]:
    """Each command by a process that knows nothing yet, and then again and again by one that does."""
    for what, command in _commands(fleet):
        cold = [_seconds_of(Previewer(fleet.log, fleet.projections, clock=_now), command) for _ in range(ROUNDS)]
        warmed = Previewer(fleet.log, fleet.projections, clock=_now)
        result = _preview(warmed, command)
        warm = [_seconds_of(warmed, command) for _ in range(ROUNDS)]
        beside = f"{result.count('affected'):,} devices, {len(result.changes):,} changes of configurations"
        scale = f"{fleet.scale.devices:,} x {fleet.scale.deployments:,}"
        for setting, seconds in (("nothing in memory", cold), ("again", warm)):
            wall, processor = ([one[which] for one in seconds] for which in (0, 1))
            own = f"{quantile(processor, 0.5):.2f} s of the process's own"
            worst = f"{beside}; {own}; worst of {ROUNDS}: {max(wall):.2f} s"
            yield at_most(
                f"{scale}: preview of {what}", setting, quantile(wall, 0.5), "s", aim=AIM_SECONDS, beside=worst
            )


def _commands(fleet: Fleet) -> Iterator[tuple[str, Command]]:
    chosen = " OR ".join(f"tags.environment = '{name}'" for name in fleets.ENVIRONMENTS[:6])
    some = next(name for name, *_ in fleets.deployments(fleet.scale.deployments))
    condition = next(condition for name, _, condition, _ in fleets.deployments(fleet.scale.deployments) if name == some)
    yield "a new deployment for 60 %", CreateDeployment("wide", fleets.content("wide", layered=False), chosen, 5000)
    yield "another priority", UpdateDeployment(some, condition, 6000)
    yield "a deletion", DeleteDeployment(some)
    yield (
        "one tag",
        PatchTags("edge-0000000", {"environment": fleets.ENVIRONMENTS[0], "camera": True, "line": "line-1"}),
    )


def _seconds_of(previewer: Previewer, command: Command) -> tuple[float, float]:
    """By the clock, and of the process's own processor time, which others on the machine do not stretch."""
    processor = time.process_time()
    seconds = seconds_of(partial(_preview, previewer, command))
    return seconds, time.process_time() - processor


def _preview(previewer: Previewer, command: Command) -> PreviewResult:
    trial = Trial(previewer, by=BY)
    decided = trial.decided(trial.producer.submit([command]).refused)
    assert not decided.refused
    return previewer.result(decided)


def _now() -> int:
    return time.time_ns() // 1_000_000
