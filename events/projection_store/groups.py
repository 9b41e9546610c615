"""Groups and updates as readers ask for them: who is in a group, and how updates fare there. Every count is the size of a set."""

import enum
from collections.abc import Iterator
from functools import cached_property

import msgspec
from msgspec import UNSET

from events.canonical import digest
from events.fleet.assignments import AssignmentStatus
from events.log.fleet_documents import rollouts_of
from events.log.keys import FLEET
from events.log.port import Log
from events.projection_store.device_pages import FIRST, DevicePosition, device_ids_at, locations_after
from events.projection_store.port import ProjectionSelection, ProjectionStore
from events.projection_store.query_engine import QueryEngine
from events.query.condition import parse_condition
from events.query.parse import parse as parse_query
from events.rollout import rollout_text
from events.rollout.rollout_counts import as_sets
from events.rollout.sets import NOBODY, FleetSet
from events.rollout.state import RolloutDocument, RolloutState
from events.stored_projection.partition_reader import STATUS_ARRAYS, STATUS_HASHES, PartitionReading
from events.update import state as update_state
from events.update.compatibility import EVERYBODY
from events.update.errors import GroupDeploymentNotFound, GroupNotFound, UpdateNotFound
from events.update.events import RollbackPolicy
from events.update.names import (
    DEFAULT_GROUP,
    GROUP,
    UpdateId,
    is_group,
    is_group_name,
    is_update,
    update_deployment_of,
)
from events.update.names import deployed_update as group_and_deployment
from events.update.state import (
    GroupDeployment,
    GroupDocument,
    UpdateDocument,
    UpdateState,
    condition_of_group,
)

DEFAULT_CLASS = "default"
"""The class of devices that updates for everybody are for, and of those that none is for."""

_CLASS_CHARACTERS = 40
_WANTED = ProjectionSelection(hashes=STATUS_HASHES, arrays=STATUS_ARRAYS)
_TAGGED = parse_query("SELECT tags.ADUGroup AS name, COUNT() AS devices FROM devices GROUP BY tags.ADUGroup")


class DeviceState(enum.Enum):
    """How a device stands to a deployment of its group, as the service names it.

    CANCELED: it does not have the deployment, and will not get it.
    """

    NOT_STARTED = "NotStarted"
    IN_PROGRESS = "InProgress"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELED = "Canceled"


class DeployedUpdate(msgspec.Struct, frozen=True, eq=False):
    """One deployment of a group, with what carries it: `rollout` is `None` where that is gone.

    The deployment that a rollback brings stands in the list of its group, too: then `back_from` is the one that was rolled back, and
    `rollback` the ordinary deployment.
    """

    group: str
    deployment: GroupDeployment
    rollout: RolloutDocument | None
    back_from: str = ""
    rollback: str = ""

    @property
    def update_deployment(self) -> str:
        """The ordinary deployment."""
        return self.rollback or update_deployment_of(self.group, self.deployment.id)

    @property
    def commanded(self) -> str:
        """The id that commands on it name: what a rollback brings goes with what was rolled back."""
        return self.back_from or self.deployment.id

    @property
    def state(self) -> str:
        """Active, Inactive (it has not started), RollingBack, RolledBack, RollbackFailed, Superseded or Canceled."""
        if self.rollout is not None and self.deployment.state is UpdateState.ACTIVE:
            return _STATES.get(self.rollout.state, "Active")
        return self.deployment.state.value.capitalize()

    @property
    def is_active(self) -> bool:
        """Whether it is what its group gets: the one deployment that is not over, or what that was rolled back to."""
        return self.deployment.state is UpdateState.ACTIVE and not self.has_gone_back

    @property
    def has_gone_back(self) -> bool:
        """Whether it was rolled back, by itself or by hand."""
        return self.rollout is not None and self.rollout.rollback_at > 0

    def brings(self) -> Iterator[tuple[str, UpdateId]]:
        """The ordinary deployment that brings its update to devices."""
        yield self.update_deployment, self.deployment.update

    @property
    def back(self) -> "DeployedUpdate | None":
        """What it was rolled back to, if that is a deployment of its own."""
        policy = self.deployment.policy
        update = policy.update if isinstance(policy, RollbackPolicy) else None
        of_group = None if self.rollout is None else group_and_deployment(self.rollout.rollback)
        if self.rollout is None or of_group is None or update is None:
            return None
        at, one = self.rollout.rollback_at, self.deployment
        deployment = GroupDeployment(of_group[1], update, one.state, 0, at, max(at, one.changed_at), reason=one.reason)
        return DeployedUpdate(self.group, deployment, None, one.id, self.rollout.rollback)

    @property
    def back_to(self) -> str:
        """What its devices were brought back to: an update, or what each of them had."""
        back = self.back
        if back is not None:
            return back.deployment.update.text
        return "" if self.rollout is None else rollout_text.back_to(self.rollout)


_STATES = {
    RolloutState.CREATED: "Inactive",
    RolloutState.ROLLING_BACK: "RollingBack",
    RolloutState.ROLLED_BACK: "RolledBack",
    RolloutState.HALTED: "RollbackFailed",
}
"""Of an active deployment, by its rollout."""


class Compliance(msgspec.Struct, frozen=True, eq=False):
    """Devices by whether the newest update that fits them is on them: `latest`, `under_way` and `outdated` come to all of them."""

    latest: FleetSet
    under_way: FleetSet
    outdated: FleetSet


class GroupProjection:
    """Reads once what it is asked for: one for each request."""

    def __init__(self, log: Log, projections: ProjectionStore) -> None:
        self._log, self._projections = log, projections
        self._query_engine = QueryEngine(log, projections)
        self._conditions: dict[str, FleetSet] = {}
        self._deployed_update: dict[str, list[DeployedUpdate]] = {}

    @cached_property
    def _subjects(self) -> list[str]:
        return sorted(set(self._log.subjects(FLEET)))

    @cached_property
    def _readings(self) -> dict[int, PartitionReading]:
        numbers = range(self._log.partitions)
        return {number: PartitionReading(self._projections.read(number, _WANTED)) for number in numbers}

    def _documents(self, names: list[str]) -> dict[str, bytes]:
        stored = zip(names, self._log.load(names, fleet=True), strict=True)
        return {name: one.snapshot for name, one in stored if one.snapshot is not None}

    # -- updates

    @cached_property
    def updates(self) -> dict[UpdateId, UpdateDocument]:
        """What was imported; the newest version first, of equal ones what was imported last."""
        found = map(update_state.decode_update, self._documents(list(filter(is_update, self._subjects))).values())
        newest = sorted(found, key=lambda one: (one.update.numbers, one.imported_at, one.update), reverse=True)
        return {one.update: one for one in newest}

    def update(self, update: UpdateId) -> UpdateDocument:
        """One update.

        Raises:
            UpdateNotFound: there is none.
        """
        data = self._documents([update.subject]).get(update.subject)
        if data is None:
            raise UpdateNotFound(update.text)
        return update_state.decode_update(data)

    @cached_property
    def classes(self) -> dict[str, str]:
        """Device classes by their ids, with their conditions: one for each compatibility, and the default one first."""
        conditions = sorted({one.condition for one in self.updates.values()} - {EVERYBODY})
        return {DEFAULT_CLASS: EVERYBODY, **{class_of(one): one for one in conditions}}

    def best(self, devices: FleetSet) -> dict[UpdateId, FleetSet]:
        """Those of some devices for whom an update is the newest of all that fit; whom none fits are in none."""
        found = {}
        for update, document in self.updates.items():
            found[update] = devices & self.devices(document.condition)
            devices -= found[update]
        return {update: members for update, members in found.items() if members}

    # -- groups

    @cached_property
    def groups(self) -> dict[str, GroupDocument]:
        """The groups that were defined, or that something was deployed to."""
        found = self._documents(list(filter(is_group, self._subjects)))
        return {name.removeprefix(GROUP): update_state.decode_group(data) for name, data in found.items()}

    @cached_property
    def names(self) -> list[str]:
        """All groups, the default one first: those above, and whatever devices are tagged with that can be a group's name."""
        values = (row.get("name") for row in self._query_engine.page(_TAGGED).rows)
        tagged = {value for value in values if isinstance(value, str) and is_group_name(value)}
        return [DEFAULT_GROUP, *sorted((tagged | self.groups.keys()) - {DEFAULT_GROUP})]

    def members(self, group: str) -> FleetSet:
        """The edge-capable devices of a group.

        Raises:
            GroupNotFound: there is no such group.
        """
        if group not in self.groups and group not in self.names:
            raise GroupNotFound(group)
        return self.devices(condition_of_group(group, self.groups.get(group)))

    def devices(self, condition: str) -> FleetSet:
        """The edge-capable devices that a condition is true for."""
        known = self._conditions.get(condition)
        if known is None:
            edge = {number: one.set("edge") & one.set("live") for number, one in self._readings.items()}
            if condition != EVERYBODY:
                where = parse_condition(condition)
                edge = {number: members & self._query_engine.within(number, where) for number, members in edge.items()}
            known = self._conditions[condition] = FleetSet(edge)
        return known

    # -- deployments

    def deployed_update(self, group: str) -> list[DeployedUpdate]:
        """What was deployed to a group, in the order of that; what a rollback brought comes after what was rolled back."""
        if group in self._deployed_update:
            return self._deployed_update[group]
        document = self.groups.get(group)
        deployments = () if document is None else document.deployments
        rollouts = rollouts_of(self._log, (update_deployment_of(group, deployment.id) for deployment in deployments))
        deployed_update = []
        for deployment in deployments:
            deployed_update.append(
                DeployedUpdate(group, deployment, rollouts.get(update_deployment_of(group, deployment.id)))
            )
            deployed_update += filter(None, [deployed_update[-1].back])
        self._deployed_update[group] = deployed_update
        return deployed_update

    def deployment(self, group: str, name: str) -> DeployedUpdate:
        """One deployment of a group.

        Raises:
            GroupDeploymentNotFound: it has none of that id.
        """
        found = next((one for one in self.deployed_update(group) if one.deployment.id == name), None)
        if found is None:
            raise GroupDeploymentNotFound(group, name)
        return found

    @cached_property
    def every_deployed_update(self) -> list[DeployedUpdate]:
        """What was deployed to any group; what was deployed last comes first."""
        found = [one for group in self.groups for one in self.deployed_update(group)]
        return sorted(found, key=lambda one: one.deployment.created_at, reverse=True)

    def states(self, deployed_update: DeployedUpdate) -> dict[DeviceState, FleetSet]:
        """The devices that a deployment is for, by how they stand to it now; nobody is in two states.

        Whoever had it and has gone on to another one is in none.
        """
        readings, update_deployment = self._readings, deployed_update.update_deployment
        if deployed_update.has_gone_back:
            return self._states_after_rollback(deployed_update)
        status = {number: reading.status(update_deployment) for number, reading in readings.items()}
        live = FleetSet.over(readings, lambda one: one.set("live"))
        target = live & FleetSet.over(readings, lambda one: one.targeted(update_deployment))
        held = FleetSet.over(readings, lambda one: one.over_limit(update_deployment))
        actual = FleetSet.over(status, lambda one: one.actual)
        well = FleetSet.over(status, lambda one: one.healthy)
        failed = FleetSet.over(status, lambda one: one.unhealthy) | (target & held)
        rest = target - actual - failed
        goes_on = deployed_update.is_active
        gone_on = NOBODY if deployed_update.rollout is None else deployed_update.rollout.admitted
        return {
            DeviceState.NOT_STARTED: rest if goes_on else NOBODY,
            DeviceState.IN_PROGRESS: actual - well - failed,
            DeviceState.SUCCEEDED: well,
            DeviceState.FAILED: failed,
            DeviceState.CANCELED: NOBODY if goes_on else rest - gone_on,
        }

    def _states_after_rollback(self, deployed_update: DeployedUpdate) -> dict[DeviceState, FleetSet]:
        """Devices that failed when it was rolled back stay so; no other has it any more, nor gets it."""
        live = FleetSet.over(self._readings, lambda one: one.set("live"))
        failed = live & FleetSet.union(self.failures(deployed_update).values())
        target = live & FleetSet.over(self._readings, lambda one: one.targeted(deployed_update.update_deployment))
        states = dict.fromkeys(DeviceState, NOBODY)
        admitted = NOBODY if deployed_update.rollout is None else deployed_update.rollout.admitted
        return states | {DeviceState.FAILED: failed, DeviceState.CANCELED: (target | (live & admitted)) - failed}

    def failures(self, deployed_update: DeployedUpdate) -> dict[str, FleetSet]:
        """The devices that failed when a deployment ended, by the reason; none while it goes on."""
        results = UNSET if deployed_update.rollout is None else deployed_update.rollout.results
        return {} if results is UNSET else as_sets(results.failed)

    def back(self, deployed_update: DeployedUpdate) -> FleetSet:
        """The devices that run what a deployment was rolled back to."""
        if deployed_update.rollout is None or not deployed_update.has_gone_back:
            return NOBODY
        if deployed_update.rollout.rollback:
            return self.having(deployed_update.rollout.rollback)
        # Back at what else targets each device, or at what it had.
        unmanaged = FleetSet.over(self._readings, lambda one: one.with_status(AssignmentStatus.UNMANAGED))
        live = FleetSet.over(self._readings, lambda one: one.set("live"))
        return (live & deployed_update.rollout.admitted) - unmanaged

    def having(self, deployment_id: str) -> FleetSet:
        """The devices that an ordinary deployment is part of what they run."""
        return FleetSet.over(self._readings, lambda one: one.status(deployment_id).actual)

    def keepers(self, group: str) -> dict[str, dict[str, str]]:
        """Who has what a group gets now, by the deployments that carry it: what a command takes that ends it."""
        found = (one for one in self.deployed_update(group) if one.is_active)
        return {name: self.having(name).devices() for one in found for name, _ in one.brings()}

    @cached_property
    def installed(self) -> dict[UpdateId, FleetSet]:
        """By update, the devices that it was brought to, and that are well with it."""
        found: dict[UpdateId, FleetSet] = {}
        for one in self.every_deployed_update:
            for name, update in one.brings():
                found[update] = found.get(update, NOBODY) | self._well_with(name)
        return found

    def _well_with(self, deployment_id: str) -> FleetSet:
        return FleetSet.over(self._readings, lambda one: one.status(deployment_id).healthy)

    def compliance(self, devices: FleetSet) -> Compliance:
        """How some devices stand to the newest update that fits each of them; whom none fits have the latest."""
        whole = self._compliance
        return Compliance(devices & whole.latest, devices & whole.under_way, devices & whole.outdated)

    @cached_property
    def _compliance(self) -> Compliance:
        devices = self.devices(EVERYBODY)
        best = self.best(devices)
        latest = devices - FleetSet.union(best.values())
        latest |= FleetSet.union(members & self.installed.get(update, NOBODY) for update, members in best.items())
        active = (self.states(one) for one in self.every_deployed_update if one.is_active)
        moving = FleetSet.union(states[DeviceState.IN_PROGRESS] for states in active)
        under_way = (devices & moving) - latest
        return Compliance(latest, under_way, devices - latest - under_way)

    # -- pages

    def page(
        self, devices: FleetSet, *, after: DevicePosition = FIRST, limit: int
    ) -> tuple[list[tuple[str, DevicePosition]], DevicePosition | None]:
        """(id, place) of some devices from behind a place on, and the place to go on from; `None` at the end."""
        locations, location_after = locations_after(
            devices.of_partition, partitions=self._log.partitions, after=after, limit=limit
        )
        return list(zip(device_ids_at(self._projections, locations), locations, strict=True)), location_after


def class_of(condition: str) -> str:
    """The id of the device class that a condition makes; equal conditions, equal classes."""
    return DEFAULT_CLASS if condition == EVERYBODY else digest(condition)[:_CLASS_CHARACTERS]


def is_among(location: tuple[int, int], devices: FleetSet) -> bool:
    """Whether the device of a place is in a set."""
    return location[1] in devices.of_partition(location[0])
