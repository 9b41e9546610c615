"""The steps of the demo. Each step appends events and waits until the projections have settled."""

import time
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from events import CreateDeployment, DeleteDeployment, PatchTags, RegisterDevice
from events.canonical import JsonObject
from events.fleet.assignments import AssignmentStatus
from events.producer.errors import Command
from events.producer.producer import Producer
from events.projection_store.fleet_projection import FleetProjection

DEVICES = 1000
SILENT_DEVICE = "edge-0007"
# Slow devices answer after 2 to 4 s (services/simulator/behaviour.py).
_SETTLE_SECONDS_MAX = 12.0
_PROD_EVERY = 2

BASE, NEXT, LAYER = "factory-base", "factory-next", "cameras"


class Status(msgspec.Struct, frozen=True):
    """The content of the table at a point in time; every number is read from the projections."""

    step: str
    deployments: dict[str, Counter[str]]


Show = Callable[[Status], None]


class Story:
    """The demo's fleet, and what an operator does with it. `sentences` are the results of the steps."""

    def __init__(
        self,
        producer: Producer,
        fleet_projection: FleetProjection,
        *,
        base: JsonObject,
        following: JsonObject,
        layer: JsonObject,
        show: Show,
    ) -> None:
        self._producer = producer
        self._fleet_projection = fleet_projection
        self._base, self._following, self._layer = base, following, layer
        self._show = show
        self.sentences: list[str] = []

    def run(self) -> None:
        """Run all steps."""
        self._register()
        self._first_deployment()
        self._newcomers()
        self._camera_layer()
        self._next_version()
        self._retag()
        self._fall_back()

    def _register(self) -> None:
        commands: list[Command] = []
        for number in range(DEVICES):
            device_id = f"edge-{number:04d}"
            commands.append(RegisterDevice(device_id=device_id))
            environment = "prod" if number % _PROD_EVERY == 0 or device_id == SILENT_DEVICE else "test"
            tags = {"environment": environment, "site": f"site-{number % 20:02d}", "camera": number % 5 == 0}
            commands.append(PatchTags(device_id=device_id, tags=tags))
        self._submit(commands)
        self._tell(f"{DEVICES} devices registered and tagged; nothing is deployed yet")

    def _first_deployment(self) -> None:
        self._create(BASE, self._base, "tags.environment = 'prod'", priority=10)
        counts = self._settled("a deployment targets tags.environment = 'prod'", BASE)
        self._tell(f"{BASE} reached {counts['healthy']} of {counts['target']} devices; {_rest(counts)}")

    def _newcomers(self) -> None:
        before = self._fleet_projection.status(BASE)[BASE]["target"]
        names = [f"edge-new-{number}" for number in range(5)]
        self._submit(
            [command for name in names for command in (RegisterDevice(name), PatchTags(name, {"environment": "prod"}))]
        )
        counts = self._settled("five more devices join with the same tag", BASE, at_least=before + 5)
        self._tell(f"five newcomers got it by themselves: {before} targets became {counts['target']}")

    def _camera_layer(self) -> None:
        self._create(LAYER, self._layer, "tags.camera = true", priority=20)
        counts = self._settled("a layer adds modules where tags.camera = true", LAYER)
        self._tell(
            f"the layer {LAYER} targets {counts['target']} devices and applies on {counts['actual']}: the others have no base"
        )

    def _next_version(self) -> None:
        self._create(NEXT, self._following, "tags.environment = 'prod' AND tags.site = 'site-04'", priority=15)
        counts = self._settled("a deployment of higher priority takes one site over", NEXT)
        lost = self._fleet_projection.status(BASE)[BASE]
        self._tell(
            f"{NEXT} won {counts['actual']} devices by priority; {BASE} still targets {lost['target']}, runs on {lost['actual']}"
        )

    def _retag(self) -> None:
        leavers = list(self._fleet_projection.members(NEXT, "actual"))[:10]
        self._submit([PatchTags(name, {"environment": "lab"}) for name in leavers])
        expected = self._fleet_projection.status(NEXT)[NEXT]["target"]
        self._wait(lambda: len(list(self._fleet_projection.with_status(AssignmentStatus.UNMANAGED))) >= len(leavers))
        counts = self._settled("ten devices are tagged 'lab', which nothing targets", NEXT)
        unmanaged = len(list(self._fleet_projection.with_status(AssignmentStatus.UNMANAGED)))
        self._tell(
            f"{unmanaged} re-tagged devices keep what they run and are unmanaged now; {NEXT} went from {expected} to {counts['target']}"
        )

    def _fall_back(self) -> None:
        self._submit([DeleteDeployment(NEXT)])
        self._wait(lambda: NEXT not in self._fleet_projection.status())
        counts = self._settled(f"{NEXT} is deleted", BASE)
        self._tell(f"its devices fell back to {BASE}, which runs on {counts['actual']} of {counts['target']} again")

    def _submit(self, commands: Sequence[Command]) -> None:
        self._producer.submit(commands).raise_if_refused()

    def _create(self, name: str, content: JsonObject, condition: str, *, priority: int) -> None:
        self._submit([CreateDeployment(name, content, target_condition=condition, priority=priority)])
        self._wait(lambda: name in self._fleet_projection.status())

    def _settled(self, step: str, name: str, *, at_least: int = 0) -> Counter[str]:
        """Show the table until all devices but one have answered, or the time is over."""
        # The silent device never answers: at most one device remains pending.
        until = time.monotonic() + _SETTLE_SECONDS_MAX
        while True:
            status = self._fleet_projection.status()
            self._show(Status(step, status))
            counts = status[name]
            if counts["target"] >= at_least and counts["pending"] <= 1:
                return counts
            if time.monotonic() >= until:
                return counts
            time.sleep(0.1)

    def _wait(self, holds: Callable[[], bool]) -> None:
        until = time.monotonic() + _SETTLE_SECONDS_MAX
        while not holds():
            if time.monotonic() >= until:
                raise DemoStalled
            time.sleep(0.02)

    def _tell(self, sentence: str) -> None:
        self.sentences.append(sentence)


class DemoStalled(Exception):
    """The projections did not catch up with the log within the demo's time limit."""

    def __init__(self) -> None:
        super().__init__(
            f"the projections did not catch up with the log within {_SETTLE_SECONDS_MAX:.0f} s; is the machine overloaded?"
        )


def _rest(counts: Counter[str]) -> str:
    return f"{counts['unhealthy']} unhealthy, {counts['unknown']} unknown (one device never answers)"
