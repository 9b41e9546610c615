"""All data of the answer to why a device has its configuration."""

from collections.abc import Mapping
from typing import get_args

import msgspec

from events.device.state import DeviceDocument
from events.envelope import Vector
from events.explain.deployment_history import HistoryEntry
from events.explain.device_report import DeviceReport
from events.explain.rollout_turn import Turn
from events.explain.trace import DeviceTrace
from events.explain.verdict import Contest, ExplainedDevice, LoggedDeployment, Standpoint, Weighed
from events.fleet.assignments import NO_ASSIGNMENT, Assignment
from events.projection_store.fleet_projection import Effective
from events.projection_store.port import Blocked
from events.rollout.events import RolloutEvent

_ROLLOUT_EVENTS = frozenset(kind.__name__ for kind in get_args(RolloutEvent))
"""Event types that reveal how a rollout progresses, and so something about its devices."""


class LastAssignmentChange(msgspec.Struct, frozen=True):
    """The vectors before and after the last change of a device's assignment, and the previous assignment."""

    was: Assignment = NO_ASSIGNMENT
    before: Vector = Vector()
    after: Vector = Vector()


class Explanation(msgspec.Struct, frozen=True):
    """One device, explained. `effective` is `None` if the projection does not have the device; a retired device has only its events.

    `histories` has the events on each deployment that the explanation names, oldest first. `scope` is the text of the condition
    that limits the caller, who learns nothing about devices outside of it; `None` is a caller with access to all devices.
    `turns` has, by deployment, why a rollout has not admitted the device; `now` is in milliseconds.
    """

    device_id: str
    document: DeviceDocument
    subject: ExplainedDevice
    standpoint: Standpoint
    deployments: Mapping[str, LoggedDeployment] = {}
    weighed: tuple[Weighed, ...] = ()
    contests: tuple[Contest, ...] = ()
    effective: Effective | None = None
    blocked: Blocked | None = None
    reported: DeviceReport | None = None
    change: LastAssignmentChange = LastAssignmentChange()
    traced: DeviceTrace = DeviceTrace()
    histories: Mapping[str, tuple[HistoryEntry, ...]] = {}
    scope: str | None = None
    turns: Mapping[str, Turn] = {}
    now: int = 0

    def may_know_rollout(self, logged: LoggedDeployment | None) -> bool:
        """Returns whether the caller may know how a deployment is rolled out: for a scoped caller, only if it has the same scope."""
        # `None` is a deleted deployment: its scope is unknown, so a scoped caller learns nothing of its rollout.
        return self.scope is None or (logged is not None and logged.document.scope == self.scope)

    def may_know(self, event_type: str, logged: LoggedDeployment | None) -> bool:
        """Returns whether the caller may know about an event on a deployment."""
        return event_type not in _ROLLOUT_EVENTS or self.may_know_rollout(logged)
