"""One partition of the fleet: it applies its own events and the fleet's, and decides the assignment of every device."""

from collections.abc import Iterable, Sequence
from typing import Any, assert_never

import numpy as np
from pyroaring import BitMap

from events.device.events import (
    ConfigurationSet,
    DesiredDelivered,
    DeviceEvent,
    DeviceRegistered,
    DeviceRetired,
    DeviceUpdated,
    ModuleCreated,
    ModuleDeleted,
    ModuleUpdated,
    PropertiesReported,
    TwinPatched,
    TwinReplaced,
)
from events.envelope import Envelope, Vector, event_digest
from events.fleet.answers import Expected
from events.fleet.assigner import Assigner
from events.fleet.assignments import AssignmentChange, AssignmentMove, MergeCache
from events.fleet.configuration import AGENT, HUB
from events.fleet.deployment_status import DeploymentStatuses
from events.fleet.deployments import CONTENT_KEY, DeploymentChange, deployment_of, paths_in, targeting_events
from events.fleet.errors import CannotApply
from events.fleet.index import DEVICE_ID
from events.fleet.metrics import PartitionMetrics
from events.fleet.packed import PAGE_ITEMS
from events.fleet.state import PartitionState
from events.fleet.targets import AppliedChanges, Planned
from events.query.tree import Path
from events.rollout.events import DevicesRetried, RollbackBegan

_EXPECTED_MAX = 10_000


class Partition(PartitionState):
    """Applies events to the state of a partition, then resolves; an exception leaves it unusable."""

    def __init__(self, number: int, merge: MergeCache | None = None) -> None:
        super().__init__(number)
        self._changes = AppliedChanges()
        self._expected: dict[int, Expected] = {}
        self._assigner = Assigner(self, merge or MergeCache())
        self.metrics = PartitionMetrics(self)
        self.statuses = DeploymentStatuses(self)

    # -- applying the partition's own events

    def apply(self, events: Sequence[Envelope[DeviceEvent]]) -> None:
        """Apply events of the partition's log, without a gap from the vector on.

        Raises:
            CannotApply: an event does not follow from the state, which is unusable afterwards.
        """
        ordinal_of, patch_tags = self.directory.ordinal_of, self.index.patch_tags
        position, at = self.vector.partition, self.at
        for envelope in events:
            event, subject = envelope.event, envelope.subject
            assert envelope.position == position + 1
            ordinal = ordinal_of.get(subject)
            try:
                # Most events of a fleet are of this kind; by `_apply_device` alone they take a third longer.
                if ordinal is not None and type(event) is TwinPatched and event.desired is None:
                    if event.tags is not None and patch_tags(ordinal, event.tags):
                        self._changes.touched.add(ordinal)
                    self.twin_versions[ordinal] = envelope.version
                elif ordinal is not None:
                    self._apply_device(ordinal, subject, event, envelope)
                elif type(event) is DeviceRegistered:
                    self._register(subject, event, envelope.version)
                else:
                    self._apply_module(subject, event, envelope)
            except CannotApply:
                raise
            except Exception as error:
                # Whatever is wrong with an event must block this partition visibly and not crash the worker of all.
                raise CannotApply(envelope.position, subject, f"{type(error).__name__}: {error}") from error
            position += 1
            at = max(at, envelope.at)
        if events:
            self.vector, self.own_event = Vector(position, self.vector.fleet), event_digest(events[-1])
        self.at = at

    def skip_to(self, position: int) -> None:
        """Skip events that an operator decided to skip, up to a position; no effect at or behind the current position."""
        if position > self.vector.partition:
            self.vector = Vector(position, self.vector.fleet)

    def _apply_device(self, ordinal: int, device_id: str, event: DeviceEvent, envelope: Envelope[DeviceEvent]) -> None:
        match event:
            case TwinPatched():
                if event.desired is not None:
                    self._write_by_hand(ordinal)
                if event.tags is not None and self.index.patch_tags(ordinal, event.tags):
                    self._changes.touched.add(ordinal)
            case TwinReplaced():
                self._write_by_hand(ordinal)
                if self.index.replace_tags(ordinal, event.tags):
                    self._changes.touched.add(ordinal)
            case PropertiesReported():
                if self.index.patch_reported(ordinal, event.patch):
                    self._changes.touched.add(ordinal)
            case ConfigurationSet(content):
                self._changes.by_hand.setdefault(ordinal, []).append(content.get(CONTENT_KEY, {}))
            case DesiredDelivered(versions):
                self.answers.apply_delivered(ordinal, versions)
            case DeviceUpdated():
                self.directory.update(ordinal, edge=event.edge, enabled=event.enabled)
                self.children.put(ordinal, event.parent_scope or "")
                self._changes.renewed.add(ordinal)
            case DeviceRetired():
                self._retire(device_id)
                return
            case DeviceRegistered():
                raise CannotApply(envelope.position, device_id, "registered although it is not retired")
            case ModuleCreated(module_id):
                self.modules.setdefault(module_id, BitMap()).add(ordinal)
                self.changed_modules.add(module_id)
                self._changes.renewed.add(ordinal)
            case ModuleDeleted(module_id):
                self._remove_module(ordinal, module_id)
            case ModuleUpdated():
                pass
            case _:
                assert_never(event)
        self.twin_versions[ordinal] = envelope.version

    def _remove_module(self, ordinal: int, module_id: str) -> None:
        self.modules[module_id].discard(ordinal)
        self.changed_modules.add(module_id)
        self.index.forget_module(ordinal, module_id)
        self._changes.renewed.add(ordinal)
        if not self.modules[module_id]:
            del self.modules[module_id]

    def _apply_module(self, subject: str, event: DeviceEvent, envelope: Envelope[DeviceEvent]) -> None:
        device_id, slash, _ = subject.partition("/")
        ordinal = self.directory.ordinal_of.get(device_id)
        if not slash or ordinal is None:
            raise CannotApply(envelope.position, subject, "the device is not registered")
        module_id, changed = subject[len(device_id) + 1 :], False
        match event:
            case PropertiesReported(patch):
                if module_id == AGENT:
                    self.answers.apply_agent(ordinal, patch, self._expected_of(self.assignment_of[ordinal]))
                elif module_id == HUB:
                    self.answers.apply_hub(ordinal, patch)
                changed = self.index.patch_module(ordinal, module_id, "reported", patch)
            case TwinPatched(tags, desired):
                if desired is not None:
                    self._write_by_hand(ordinal)
                if tags is not None:
                    changed = self.index.patch_module(ordinal, module_id, "tags", tags)
            case TwinReplaced(tags=tags):
                self._write_by_hand(ordinal)
                changed = self.index.replace_module_tags(ordinal, module_id, tags)
            case _:
                pass
        if changed:
            self._changes.touched.add(ordinal)

    def _write_by_hand(self, ordinal: int) -> None:
        self.hand_written[ordinal] += 1
        self.hand_writes += 1

    def _register(self, device_id: str, event: DeviceRegistered, version: int) -> None:
        ordinal = self.directory.register(device_id, edge=event.edge, enabled=event.enabled)
        if ordinal % PAGE_ITEMS == 0:
            for packed in (self.assignment_of, self.moved_by, self.twin_versions, self.hand_written, self.answers):
                packed.reserve(ordinal + 1)
        self.twin_versions[ordinal] = version
        self.children.put(ordinal, event.parent_scope or "")
        self._changes.renewed.add(ordinal)

    def _retire(self, device_id: str) -> None:
        ordinal = self.directory.retire(device_id)
        self.index.forget(ordinal)
        self.answers.forget(ordinal)
        self.children.put(ordinal, "")
        self.twin_versions[ordinal] = 0
        self._changes.by_hand.pop(ordinal, None)
        for module_id in [name for name, members in self.modules.items() if ordinal in members]:
            self._remove_module(ordinal, module_id)
        self._changes.renewed.discard(ordinal)
        self._changes.gone.add(ordinal)

    # -- applying the fleet's events

    def paths_to_fill(self, events: Iterable[Envelope[Any]]) -> frozenset[Path]:
        """The paths that fleet events name and the index does not have; the caller must fill them before `apply_fleet`."""
        return self.index.missing(self.deployments.paths_named_after(targeting_events(events)))

    def open_paths(self, paths: frozenset[Path]) -> None:
        """Index further paths: `apply` updates them from now on, and `NewPaths` fills in the earlier values."""
        self.index.name(self.index.named | paths)

    def hold_paths_of(self, events: Iterable[Envelope[Any]]) -> frozenset[Path]:
        """Index all paths that fleet events will name, before the first event; returns the new ones, which are empty."""
        paths = frozenset().union(*(paths_in(event) for _, _, event in targeting_events(events))) - {DEVICE_ID}
        missing = self.index.missing(paths)
        self.index.hold(paths, named=self.deployments.named_paths())
        return missing

    def release_paths(self) -> None:
        """Index only the paths that the deployments name now."""
        self.index.hold(frozenset(), named=self.deployments.named_paths())

    def apply_fleet(self, events: Sequence[Envelope[Any]]) -> None:
        """Apply events of the fleet's log, without a gap from the vector on; events of other packages only move the vector."""
        if not events:
            return
        assert events[0].position == self.vector.fleet + 1
        for name, change in self.deployments.apply(targeting_events(events)).items():
            previous = self._changes.deployments.get(name, change)
            self._changes.deployments[name] = DeploymentChange(previous.before, change.after)
        for envelope in events:
            if isinstance(envelope.event, DevicesRetried):
                self._changes.retried.append(self.deployments.members(envelope.event.devices))
            elif isinstance(envelope.event, RollbackBegan) and envelope.event.restore is True:
                self._changes.restoring.add(deployment_of(envelope.subject))
        self.index.name(self.deployments.named_paths())
        self.vector, self.fleet_event = Vector(self.vector.partition, events[-1].position), event_digest(events[-1])
        self.at = max(self.at, events[-1].at)

    # -- deciding

    def resolve(self) -> AssignmentChange | None:
        """Decide the assignments of all devices that changes since the last call can concern; `None` if none changed."""
        changes = self._take_changes()
        targeted = self.targets.targeted_by(changes.deployments)
        planned, concerned = self._assigner.plan(changes)
        stale = self.answers.stale
        if self.deployments.has_phased:
            # `RolloutNotes` records which devices were healthy before their move, so answers are judged before it as well.
            self.answers.judge(self.assignment_of, self._expected_of)
        moves = self._move(planned)
        # The status of a deployment counts devices that it targets and does not admit, although their assignment stays.
        targeted |= self.targets.targeted_by(changes.deployments)
        status = targeted | concerned | self.answers.stale | stale
        for name, change in changes.deployments.items():
            if change.before is not None and (change.after is None or change.after.created != change.before.created):
                self.metrics.define(change.before.created, name, {})
            if change.after is not None:
                self.metrics.define(change.after.created, name, change.after.metrics)
        self.metrics.update(changes.sets, changes.touched, changes.renewed | changes.gone, status)
        self.answers.judge(self.assignment_of, self._expected_of)
        self.statuses.update()
        if not moves:
            return None
        self.assignment_changes += 1
        for move in moves:
            self.moved_by.put(np.array(move.ordinals(), dtype=np.uint32), self.assignment_changes)
        before, self.decided = self.decided, self.vector
        return AssignmentChange(self.number, before, self.vector, moves)

    def planned(self) -> tuple[Planned, set[str]]:
        """The moves that `resolve` would carry out, and the stored names of the targets that it would change.

        No device is moved; afterwards the state can only be read.
        """
        planned, _ = self._assigner.plan(self._take_changes())
        return planned, {name for _, name in self.targets.changed}

    def _take_changes(self) -> AppliedChanges:
        changes, self._changes = self._changes, AppliedChanges()
        changes.sets, noted = self.index.take_touched()
        changes.touched = (changes.touched | noted) - changes.gone
        for name, change in changes.deployments.items():
            sides = (side for side in (change.before, change.after) if side is not None)
            self.changed_deployments |= {(deployment.created, name) for deployment in sides}
        return changes

    def _move(self, planned: Planned) -> tuple[AssignmentMove, ...]:
        # New assignments are numbered by the lowest ordinal that moved, so that a replay gives the same numbers.
        moves = []
        for (old, _), (after, members) in sorted(planned.items(), key=lambda move: move[1][1].min()):
            before, new = self.assignments.by_number[old], self.assignments.number_of(after)
            self.assignments.move(old, new, len(members))
            self.assignment_of.put(np.array(members, dtype=np.uint32), new)
            self.answers.stale |= members
            self.statuses.move(before, after, members)
            if after.stack != before.stack:
                self.notes.note(before, after, members)
            moves.append(AssignmentMove.of(before, after, members))
        self.notes.drop()
        self.assignments.drop_unused()
        return tuple(moves)

    def _expected_of(self, number: int) -> Expected:
        # Cached without invalidation: the number of an assignment is never reused.
        expected = self._expected.get(number)
        if expected is None:
            if len(self._expected) >= _EXPECTED_MAX:
                self._expected.clear()
            assignment = self.assignments.by_number[number]
            configuration = self.assignments.configurations[assignment.configuration]
            expected = self._expected[number] = assignment.expected(configuration)
        return expected
