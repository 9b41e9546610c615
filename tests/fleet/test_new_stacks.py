"""The stacks of devices batch by batch, which are searched among few deployments, against a search among all of them."""

import cProfile
import pstats
import random
from collections.abc import Callable
from typing import Any

import pytest

from events.deployment.events import (
    AdmissionChanged,
    Admitted,
    DeploymentCreated,
    DeploymentDeleted,
    DeploymentUpdated,
    Ended,
    Everyone,
)
from events.device.events import ConfigurationSet, DeviceRegistered, DeviceRetired, DeviceUpdated, TwinPatched
from events.fleet.assignments import stack_key
from events.fleet.partition import Partition
from events.fleet.resolve import resolve
from tests.fleet.histories import History
from tests.shortening import examples
from tests.workers.system import base, layer

DEVICES, DEPLOYMENTS, SITES = 5, 7, 3
PRIORITIES = 4


class Fleet:
    """A partition that applies each event on its own or with others, and the history of these events."""

    def __init__(self) -> None:
        self.history, self.partition = History(), Partition(0)
        self.partition.hold_paths_of([])
        self.partition.open_paths(frozenset({("tags", "site")}))

    def apply(self) -> None:
        """Apply what is new, and resolve."""
        at = self.partition.vector
        self.partition.apply(self.history.partition[at.partition :])
        self.partition.apply_fleet(self.history.fleet[at.fleet :])
        self.partition.resolve()

    def assert_stacks(self) -> None:
        """Every device has the stack that a search among all deployments finds."""
        partition, deployments = self.partition, self.partition.deployments
        for stack, ordinals in resolve(
            partition.directory.live,
            bases_descending=deployments.bases_descending,
            layers_ascending=deployments.layers_ascending,
            eligible=partition.targets.eligible,
        ):
            for ordinal in ordinals.tolist():
                assignment = partition.assignments.by_number[partition.assignment_of[ordinal]]
                assert assignment.resolved == stack_key(stack)


def condition(draw: random.Random) -> str:
    sites = draw.sample(range(SITES), draw.randint(1, SITES))
    return " OR ".join(f"tags.site = 's{site}'" for site in sites)


def draw_of_fleet(draw: random.Random, history: History, existing: dict[str, str]) -> None:
    """One event of a deployment; half of the deployments are layers."""
    number = draw.randrange(DEPLOYMENTS)
    name, priority = f"d{number}", draw.randrange(PRIORITIES)
    if name not in existing:
        existing[name] = condition(draw)
        content = layer(f"m{number}") if number % 2 else base(f"m{number}")
        history.deployment(name, DeploymentCreated(content, existing[name], priority))
        return
    match draw.randrange(4):
        case 0:
            history.deployment(name, DeploymentDeleted())
            del existing[name]
        case 1:
            history.deployment(name, DeploymentUpdated(existing[name], priority, {}, {}))
        case 2:
            existing[name] = condition(draw)
            history.deployment(name, DeploymentUpdated(existing[name], priority, {}, {}))
        case _:
            admission = draw.choice([Everyone(), Ended(), Admitted(frozenset({"e0", "e2"}))])
            history.deployment(name, AdmissionChanged(admission))


def draw_of_device(draw: random.Random, history: History, live: set[str]) -> None:
    name = f"e{draw.randrange(DEVICES)}"
    if name not in live:
        live.add(name)
        history.device(name, DeviceRegistered())
        return
    match draw.randrange(12):
        case 0:
            live.discard(name)
            history.device(name, DeviceRetired())
        case 1:
            history.device(name, DeviceUpdated(edge=draw.random() < 0.8, enabled=True, status_reason=None))
        case 2:
            history.device(name, ConfigurationSet(base("by-hand")))
        case _:
            history.device(name, TwinPatched({"site": f"s{draw.randrange(SITES)}"}, None))


@pytest.mark.parametrize("seed", range(examples(60)))
def test_after_every_batch_each_device_has_the_stack_that_all_deployments_give(seed: int) -> None:
    draw, fleet = random.Random(seed), Fleet()  # noqa: S311 - not a secret
    existing, live = dict[str, str](), set[str]()
    for _ in range(80):
        for _ in range(draw.choice([1, 1, 1, 2, 4])):
            if draw.random() < 0.6:
                draw_of_fleet(draw, fleet.history, existing)
            else:
                draw_of_device(draw, fleet.history, live)
        fleet.apply()
        fleet.assert_stacks()


def calls(work: Callable[[], Any]) -> int:
    """How many functions are called."""
    profile = cProfile.Profile()
    profile.runcall(work)
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]


def test_a_change_of_one_deployment_costs_the_same_beside_ten_and_beside_a_thousand_others() -> None:
    costs: dict[int, list[int]] = {}
    for count in (10, 1000):
        fleet = Fleet()
        for number in range(20):
            fleet.history.device(f"e{number}", DeviceRegistered())
            fleet.history.device(f"e{number}", TwinPatched({"site": "s0" if number < 10 else "s1"}, None))
        fleet.history.deployment("lowest", DeploymentCreated(base("m"), "*", 0))
        for number in range(count):
            # Neither these bases nor these layers target the devices that the changes are about.
            content = layer(f"m{number}") if number % 2 else base(f"m{number}")
            fleet.history.deployment(f"other-{number}", DeploymentCreated(content, "tags.site = 's1'", 1 + number))
        fleet.apply()
        events = [
            DeploymentCreated(layer("x"), "tags.site = 's0'", 5000),
            DeploymentUpdated("tags.site = 's0'", 5000, {"a": "b"}, {}),
            DeploymentUpdated("tags.site = 's0'", 4000, {}, {}),
            DeploymentUpdated("tags.site = 's2'", 4000, {}, {}),
            DeploymentDeleted(),
        ]
        for event in events:
            fleet.history.deployment("new", event)
            costs.setdefault(count, []).append(calls(fleet.apply))
        fleet.assert_stacks()
    # Only searches in sorted lists take some more steps.
    assert all(many < 1.1 * few for few, many in zip(costs[10], costs[1000], strict=True)), costs
