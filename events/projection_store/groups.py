"""Reads groups and updates: the devices of a group, and the state of each update on them. Every count is the size of a set."""

import enum
from collections.abc import Callable
from functools import cached_property

import msgspec
from msgspec import UNSET

from events.canonical import digest
from events.fleet.assignments import AssignmentStatus
from events.log.fleet_documents import rollouts_of
from events.log.keys import FLEET
from events.log.port import Log
from events.projection_store.deployment_reads import DeploymentReads
from events.projection_store.device_pages import FIRST, DevicePosition, device_ids_at, positions_after
from events.projection_store.port import ProjectionStore
from events.projection_store.query_engine import QueryEngine
from events.query.condition import parse_condition
from events.query.parse import parse as parse_query
from events.rollout import rollout_text
from events.rollout.rollout_counts import as_sets
from events.rollout.sets import NO_DEVICES, FleetSet
from events.rollout.state import RolloutDocument, RolloutState
from events.stored_projection.partition_reader import PartitionReading
from events.update import state as update_state
from events.update.compatibility import ALL_DEVICES
from events.update.errors import GroupDeploymentNotFound, GroupNotFound, UpdateNotFound
from events.update.events import RollbackPolicy
from events.update.names import (
    DEFAULT_GROUP,
    GROUP,
    UPDATE,
    UpdateId,
    group_and_deployment,
    is_group,
    is_group_name,
    is_update,
    update_deployment_of,
)
from events.update.state import GroupDeployment, GroupDocument, UpdateDocument, UpdateState, condition_of_group

DEFAULT_CLASS = "default"
"""The class of the devices that only updates without a compatibility condition fit, or none."""

_CLASS_CHARACTERS = 40
_TAGGED = parse_query("SELECT tags.ADUGroup AS name, COUNT() AS devices FROM devices GROUP BY tags.ADUGroup")


class DeviceState(enum.Enum):
    """The state of a device in a deployment of its group; CANCELED: it does not have the deployment, and will not get it."""

    NOT_STARTED = "NotStarted"
    IN_PROGRESS = "InProgress"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELED = "Canceled"


class DeployedUpdate(msgspec.Struct, frozen=True, eq=False):
    """One deployment of a group, with the rollout of its ordinary deployment; `None` if that was deleted.

    The deployment of a rollback is in the list of its group too: then `back_from` is the id of the deployment that was rolled
    back, and `rollback` is the ordinary deployment.
    """

    group: str
    deployment: GroupDeployment
    rollout: RolloutDocument | None
    back_from: str = ""
    rollback: str = ""

    @property
    def update_deployment(self) -> str:
        """The id of the ordinary deployment that brings the update to devices."""
        return self.rollback or update_deployment_of(self.group, self.deployment.id)

    @property
    def commanded(self) -> str:
        """The id that commands name: the deployment of a rollback is controlled through the one that was rolled back."""
        return self.back_from or self.deployment.id

    @property
    def state(self) -> str:
        """Active, Inactive (it has not started), RollingBack, RolledBack, RollbackFailed, Superseded or Canceled."""
        if self.rollout is not None and self.deployment.state is UpdateState.ACTIVE:
            return _STATES.get(self.rollout.state, "Active")
        return self.deployment.state.value.capitalize()

    @property
    def is_active(self) -> bool:
        """Whether its group gets this deployment: the one that has not ended, or the one that it was rolled back to."""
        return self.deployment.state is UpdateState.ACTIVE and not self.has_gone_back

    @property
    def has_gone_back(self) -> bool:
        """Whether it was rolled back, automatically or by an operator."""
        return self.rollout is not None and self.rollout.rollback_at > 0

    @property
    def back(self) -> "DeployedUpdate | None":
        """The deployment that it was rolled back to; `None` if there is none of its own."""
        policy = self.deployment.policy
        update = policy.update if isinstance(policy, RollbackPolicy) else None
        of_group = None if self.rollout is None else group_and_deployment(self.rollout.rollback)
        if self.rollout is None or of_group is None or update is None:
            return None
        at, failed = self.rollout.rollback_at, self.deployment
        changed_at, reason = max(at, failed.changed_at), failed.reason
        deployment = GroupDeployment(of_group[1], update, failed.state, 0, at, changed_at, reason=reason)
        return DeployedUpdate(self.group, deployment, None, failed.id, self.rollout.rollback)

    @property
    def back_to(self) -> str:
        """What its devices were rolled back to, as text: an update, or what each device had before."""
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
"""The state of an active deployment, by the state of its rollout."""


class Compliance(msgspec.Struct, frozen=True, eq=False):
    """Devices by whether they have the newest update that fits them; every device is in exactly one of the sets."""

    latest: FleetSet
    under_way: FleetSet
    outdated: FleetSet


class GroupProjection:
    """The groups and updates for one request; everything is read once."""

    def __init__(self, log: Log, projections: ProjectionStore) -> None:
        self._log, self._projections = log, projections
        self._query_engine = QueryEngine(log, projections)
        self._conditions: dict[str, FleetSet] = {}
        self._deployed_updates: dict[str, list[DeployedUpdate]] = {}

    @cached_property
    def _readings(self) -> dict[int, PartitionReading]:
        rollouts = [each.rollout for each in self.every_deployed_update if each.rollout is not None]
        deployment_ids = {each.update_deployment for each in self.every_deployed_update}
        deployment_ids |= {rollout.rollback for rollout in rollouts} - {""}
        numbers, reads = range(self._log.partitions), DeploymentReads(self._projections)
        return dict(enumerate(reads.readings(numbers, *sorted(deployment_ids), with_assignments=True)))

    def _documents_of(self, is_kind: Callable[[str], bool], prefix: str) -> dict[str, bytes]:
        # HSCAN may return a field twice.
        return self._documents(sorted({*filter(is_kind, self._log.subjects(FLEET, prefix=prefix))}))

    def _documents(self, names: list[str]) -> dict[str, bytes]:
        stored = zip(names, self._log.load(names, fleet=True), strict=True)
        return {name: document.snapshot for name, document in stored if document.snapshot is not None}

    # -- updates

    @cached_property
    def updates(self) -> dict[UpdateId, UpdateDocument]:
        """The imported updates, newest version first; of equal versions, the last imported first."""
        updates = map(update_state.decode_update, self._documents_of(is_update, UPDATE).values())
        newest = sorted(updates, key=lambda each: (each.update.numbers, each.imported_at, each.update), reverse=True)
        return {update.update: update for update in newest}

    def update(self, update: UpdateId) -> UpdateDocument:
        """The document of an update.

        Raises:
            UpdateNotFound: it does not exist.
        """
        data = self._documents([update.subject]).get(update.subject)
        if data is None:
            raise UpdateNotFound(update.text)
        return update_state.decode_update(data)

    @cached_property
    def classes(self) -> dict[str, str]:
        """Device classes: id → condition. One for each compatibility condition, the default class first."""
        conditions = sorted({update.condition for update in self.updates.values()} - {ALL_DEVICES})
        return {DEFAULT_CLASS: ALL_DEVICES, **{class_of(condition): condition for condition in conditions}}

    def best(self, devices: FleetSet) -> dict[UpdateId, FleetSet]:
        """By update, the devices for which it is the newest that fits; devices that no update fits are not included."""
        devices_by_update = {}
        # Updates come newest first, so a device belongs to the first one that fits.
        for update, document in self.updates.items():
            devices_by_update[update] = devices & self.devices(document.condition)
            devices -= devices_by_update[update]
        return {update: members for update, members in devices_by_update.items() if members}

    # -- groups

    @cached_property
    def groups(self) -> dict[str, GroupDocument]:
        """The groups that were defined, or that have a deployment."""
        documents = self._documents_of(is_group, GROUP)
        return {name.removeprefix(GROUP): update_state.decode_group(data) for name, data in documents.items()}

    @cached_property
    def names(self) -> list[str]:
        """The names of all groups, the default group first: `groups`, and values of the tag `ADUGroup` that are valid names."""
        values = (row.get("name") for row in self._query_engine.page(_TAGGED).rows)
        tagged = {value for value in values if isinstance(value, str) and is_group_name(value)}
        return [DEFAULT_GROUP, *sorted((tagged | self.groups.keys()) - {DEFAULT_GROUP})]

    def members(self, group: str) -> FleetSet:
        """The edge-capable devices of a group.

        Raises:
            GroupNotFound: the group does not exist.
        """
        if group not in self.groups and group not in self.names:
            raise GroupNotFound(group)
        return self.devices(condition_of_group(group, self.groups.get(group)))

    def devices(self, condition: str) -> FleetSet:
        """The edge-capable devices for which a condition is true."""
        devices = self._conditions.get(condition)
        if devices is None:
            edge = {number: reading.set("edge") & reading.set("live") for number, reading in self._readings.items()}
            if condition != ALL_DEVICES:
                where = parse_condition(condition)
                edge = {number: members & self._query_engine.within(number, where) for number, members in edge.items()}
            devices = self._conditions[condition] = FleetSet(edge)
        return devices

    # -- deployments

    def deployed_updates(self, group: str) -> list[DeployedUpdate]:
        """The deployments of a group in order; the deployment of a rollback follows the one that was rolled back."""
        if group in self._deployed_updates:
            return self._deployed_updates[group]
        document = self.groups.get(group)
        deployments = () if document is None else document.deployments
        rollouts = rollouts_of(self._log, (update_deployment_of(group, deployment.id) for deployment in deployments))
        deployed_updates = self._deployed_updates[group] = list[DeployedUpdate]()
        for deployment in deployments:
            rollout = rollouts.get(update_deployment_of(group, deployment.id))
            deployed_updates.append(DeployedUpdate(group, deployment, rollout))
            deployed_updates += filter(None, [deployed_updates[-1].back])
        return deployed_updates

    def deployment(self, group: str, name: str) -> DeployedUpdate:
        """One deployment of a group.

        Raises:
            GroupDeploymentNotFound: the group has no deployment of that id.
        """
        for deployed_update in self.deployed_updates(group):
            if deployed_update.deployment.id == name:
                return deployed_update
        raise GroupDeploymentNotFound(group, name)

    @cached_property
    def every_deployed_update(self) -> list[DeployedUpdate]:
        """The deployments of all groups, the last created first."""
        every = (deployed_update for group in self.groups for deployed_update in self.deployed_updates(group))
        return sorted(every, key=lambda deployed_update: deployed_update.deployment.created_at, reverse=True)

    def states(self, deployed_update: DeployedUpdate) -> dict[DeviceState, FleetSet]:
        """The devices of a deployment by their one present state; a device that has got another deployment since is in none."""
        readings, update_deployment = self._readings, deployed_update.update_deployment
        gone_on = NO_DEVICES if deployed_update.rollout is None else deployed_update.rollout.admitted
        live = FleetSet.over(readings, lambda reading: reading.set("live"))
        target = live & FleetSet.over(readings, lambda reading: reading.targeted(update_deployment))
        if deployed_update.has_gone_back:
            # The devices that failed at the rollback stay failed, all others are canceled.
            failed = live & FleetSet.union(self.failures(deployed_update).values())
            states = dict.fromkeys(DeviceState, NO_DEVICES)
            return states | {DeviceState.FAILED: failed, DeviceState.CANCELED: (target | (live & gone_on)) - failed}
        status = {number: reading.status(update_deployment) for number, reading in readings.items()}
        held = FleetSet.over(readings, lambda reading: reading.over_limit(update_deployment))
        actual = FleetSet.over(status, lambda sets: sets.actual)
        well = FleetSet.over(status, lambda sets: sets.healthy)
        failed = FleetSet.over(status, lambda sets: sets.unhealthy) | (target & held)
        without_update = target - actual - failed
        goes_on = deployed_update.is_active
        return {
            DeviceState.NOT_STARTED: without_update if goes_on else NO_DEVICES,
            DeviceState.IN_PROGRESS: actual - well - failed,
            DeviceState.SUCCEEDED: well,
            DeviceState.FAILED: failed,
            DeviceState.CANCELED: NO_DEVICES if goes_on else without_update - gone_on,
        }

    def failures(self, deployed_update: DeployedUpdate) -> dict[str, FleetSet]:
        """The devices that failed when a deployment ended, by reason; none before its end."""
        # A rollout stores its results at its end, since devices go on to other deployments afterwards.
        results = UNSET if deployed_update.rollout is None else deployed_update.rollout.results
        return {} if results is UNSET else as_sets(results.failed)

    def back(self, deployed_update: DeployedUpdate) -> FleetSet:
        """The devices that run what a deployment was rolled back to."""
        # A rollback to a deployment brings that one; otherwise each device returns to what else targets it, or what it had.
        if deployed_update.rollout is None or not deployed_update.has_gone_back:
            return NO_DEVICES
        if deployed_update.rollout.rollback:
            return self.having(deployed_update.rollout.rollback)
        unmanaged = FleetSet.over(self._readings, lambda reading: reading.with_status(AssignmentStatus.UNMANAGED))
        live = FleetSet.over(self._readings, lambda reading: reading.set("live"))
        return (live & deployed_update.rollout.admitted) - unmanaged

    def having(self, deployment_id: str) -> FleetSet:
        """The devices that run an ordinary deployment."""
        return FleetSet.over(self._readings, lambda reading: reading.status(deployment_id).actual)

    def keepers(self, group: str) -> dict[str, dict[str, str]]:
        """By ordinary deployment, the devices that have what the group gets now: an argument of commands that end it."""
        active = [each.update_deployment for each in self.deployed_updates(group) if each.is_active]
        return {name: self.having(name).devices() for name in active}

    @cached_property
    def installed(self) -> dict[UpdateId, FleetSet]:
        """By update, the devices that have it and are healthy."""
        devices_by_update: dict[UpdateId, FleetSet] = {}
        for deployed_update in self.every_deployed_update:
            name, update = deployed_update.update_deployment, deployed_update.deployment.update
            status = {number: reading.status(name) for number, reading in self._readings.items()}
            healthy = FleetSet.over(status, lambda sets: sets.healthy)
            devices_by_update[update] = devices_by_update.get(update, NO_DEVICES) | healthy
        return devices_by_update

    def compliance(self, devices: FleetSet) -> Compliance:
        """The compliance of devices. A device that no update fits has the latest."""
        whole = self._compliance
        return Compliance(devices & whole.latest, devices & whole.under_way, devices & whole.outdated)

    @cached_property
    def _compliance(self) -> Compliance:
        devices = self.devices(ALL_DEVICES)
        best = self.best(devices)
        latest = devices - FleetSet.union(best.values())
        latest |= FleetSet.union(members & self.installed.get(update, NO_DEVICES) for update, members in best.items())
        active = (deployed_update for deployed_update in self.every_deployed_update if deployed_update.is_active)
        moving = FleetSet.union(self.states(deployed_update)[DeviceState.IN_PROGRESS] for deployed_update in active)
        under_way = (devices & moving) - latest
        return Compliance(latest, under_way, devices - latest - under_way)

    # -- pages

    def page(
        self, devices: FleetSet, *, after: DevicePosition = FIRST, limit: int
    ) -> tuple[list[tuple[str, DevicePosition]], DevicePosition | None]:
        """(id, position) of the next devices after a position, and the position to continue from; `None` at the end."""
        members, partitions = devices.of_partition, self._log.partitions
        positions, position_after = positions_after(members, partitions=partitions, after=after, limit=limit)
        return list(zip(device_ids_at(self._projections, positions), positions, strict=True)), position_after


def class_of(condition: str) -> str:
    """The id of the device class of a condition; equal conditions have equal ids."""
    return DEFAULT_CLASS if condition == ALL_DEVICES else digest(condition)[:_CLASS_CHARACTERS]


def is_among(position: DevicePosition, devices: FleetSet) -> bool:
    """Whether the device at a position is in a set."""
    return position[1] in devices.of_partition(position[0])
