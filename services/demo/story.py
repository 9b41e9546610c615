"""The steps of the demo. Each step appends events and waits until the projections have settled."""

import time
from collections import Counter
from collections.abc import Callable

from events import CreateDeployment, DeleteDeployment, PatchTags, RegisterDevice
from events.canonical import JsonObject
from events.fleet.assignments import AssignmentStatus
from events.producer.errors import Command
from events.producer.producer import Producer
from events.projection_store.fleet_projection import FleetProjection

DEVICES = 1000
SILENT_DEVICE = "edge-0007"
# Slow devices answer after 2 to 4 s (services/simulator/devices.py).
_SETTLE_SECONDS_MAX = 12.0
_PROD_EVERY = 2

BASE, NEXT, LAYER = "factory-base", "factory-next", "cameras"


FleetStatus = dict[str, Counter[str]]
"""Counts per deployment, read from the projections."""

ShowStatus = Callable[[str, FleetStatus], None]


class Story:
    """The demo's fleet, and what an operator does with it. `sentences` are the results of the steps."""

    def __init__(self, producer: Producer, fleet_projection: FleetProjection, show: ShowStatus) -> None:
        self._producer, self._fleet_projection, self._show = producer, fleet_projection, show
        self.sentences: list[str] = []

    def run(self, base: JsonObject, following: JsonObject, layer: JsonObject) -> None:
        """Run all steps with the content of the first deployment, of the next version and of a layer."""
        status, tell = self._fleet_projection.status, self.sentences.append
        self._register()
        tell(f"{DEVICES} devices registered and tagged; nothing is deployed yet")

        self._create(BASE, base, "tags.environment = 'prod'", priority=10)
        counts = self._settled("a deployment targets tags.environment = 'prod'", BASE)
        not_healthy = f"{counts['unhealthy']} unhealthy, {counts['unknown']} unknown (one device never answers)"
        tell(f"{BASE} reached {counts['healthy']} of {counts['target']} devices; {not_healthy}")

        before = status(BASE)[BASE]["target"]
        newcomers = [f"edge-new-{number}" for number in range(5)]
        self._submit(
            *(
                command
                for name in newcomers
                for command in (RegisterDevice(name), PatchTags(name, {"environment": "prod"}))
            )
        )
        counts = self._settled("five more devices join with the same tag", BASE, at_least=before + 5)
        tell(f"five newcomers got it by themselves: {before} targets became {counts['target']}")

        self._create(LAYER, layer, "tags.camera = true", priority=20)
        counts = self._settled("a layer adds modules where tags.camera = true", LAYER)
        tell(
            f"the layer {LAYER} targets {counts['target']} devices and applies on {counts['actual']}: the others have no base"
        )

        self._create(NEXT, following, "tags.environment = 'prod' AND tags.site = 'site-04'", priority=15)
        counts = self._settled("a deployment of higher priority takes one site over", NEXT)
        lost = status(BASE)[BASE]
        tell(
            f"{NEXT} won {counts['actual']} devices by priority; {BASE} still targets {lost['target']}, runs on {lost['actual']}"
        )

        leavers = list(self._fleet_projection.members(NEXT, "actual"))[:10]
        self._submit(*(PatchTags(name, {"environment": "lab"}) for name in leavers))
        expected = status(NEXT)[NEXT]["target"]
        self._wait(lambda: self._unmanaged_count() >= len(leavers))
        counts = self._settled("ten devices are tagged 'lab', which nothing targets", NEXT)
        tell(
            f"{self._unmanaged_count()} re-tagged devices keep what they run and are unmanaged now; "
            f"{NEXT} went from {expected} to {counts['target']}"
        )

        self._submit(DeleteDeployment(NEXT))
        self._wait(lambda: NEXT not in status())
        counts = self._settled(f"{NEXT} is deleted", BASE)
        tell(f"its devices fell back to {BASE}, which runs on {counts['actual']} of {counts['target']} again")

    def _register(self) -> None:
        commands: list[Command] = []
        for number in range(DEVICES):
            device_id = f"edge-{number:04d}"
            environment = "prod" if number % _PROD_EVERY == 0 or device_id == SILENT_DEVICE else "test"
            tags = {"environment": environment, "site": f"site-{number % 20:02d}", "camera": number % 5 == 0}
            commands += (RegisterDevice(device_id), PatchTags(device_id, tags))
        self._submit(*commands)

    def _unmanaged_count(self) -> int:
        return len(list(self._fleet_projection.with_status(AssignmentStatus.UNMANAGED)))

    def _submit(self, *commands: Command) -> None:
        self._producer.submit(commands).raise_if_refused()

    def _create(self, name: str, content: JsonObject, condition: str, *, priority: int) -> None:
        self._submit(CreateDeployment(name, content, target_condition=condition, priority=priority))
        self._wait(lambda: name in self._fleet_projection.status())

    def _settled(self, step: str, name: str, *, at_least: int = 0) -> Counter[str]:
        """Show the table until all devices but one have answered, or the time is over."""
        # The silent device never answers: at most one device remains pending.
        until = time.monotonic() + _SETTLE_SECONDS_MAX
        while True:
            status = self._fleet_projection.status()
            self._show(step, status)
            counts = status[name]
            if (counts["target"] >= at_least and counts["pending"] <= 1) or time.monotonic() >= until:
                return counts
            time.sleep(0.1)

    def _wait(self, holds: Callable[[], bool]) -> None:
        until = time.monotonic() + _SETTLE_SECONDS_MAX
        while not holds():
            if time.monotonic() >= until:
                raise DemoStalled
            time.sleep(0.02)


class DemoStalled(Exception):
    """The projections did not catch up with the log within the demo's time limit."""

    def __init__(self) -> None:
        super().__init__(
            f"the projections did not catch up with the log within {_SETTLE_SECONDS_MAX:.0f} s; is the machine overloaded?"
        )
