"""All data of the answer to why a device has its configuration."""

from collections.abc import Mapping
from typing import Any

import msgspec

from events.device.state import DeviceDocument
from events.envelope import Envelope, Vector
from events.explain import cause
from events.explain.audience import Audience
from events.explain.cause import Cause
from events.explain.deployment_history import HistoryEntry
from events.explain.device_report import DeviceReport
from events.explain.trace import DeviceTrace
from events.explain.verdict import Contest, ExplainedDevice, LoggedDeployment, Reason, Standpoint, Weighed
from events.fleet.assignments import NO_ASSIGNMENT, Assignment
from events.projection_store.fleet_projection import Effective
from events.projection_store.port import Blocked
from events.rollout.state import RolloutDocument


class LastAssignmentChange(msgspec.Struct, frozen=True):
    """The last change of a device's assignment: the previous assignment, and the vectors before and after the change."""

    position: int = 0
    at: int = 0
    cause: str = ""
    was: Assignment = NO_ASSIGNMENT
    before: Vector = Vector()
    after: Vector = Vector()


class Explanation(msgspec.Struct, frozen=True):
    """One device, explained. `effective` is `None` if the projection does not have the device; a retired device has only its events.

    `histories` has the events on each deployment that the explanation names, oldest first.
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

    @property
    def registration(self) -> Cause | None:
        """The device's registration, if the trace reached it."""
        return self._cause(self.traced.registered)

    @property
    def retirement(self) -> Cause | None:
        """The retirement of a device that is retired, if the trace reached it."""
        return self._cause(self.traced.retired) if self.document.retired else None

    def _cause(self, envelope: Envelope[Any] | None) -> Cause | None:
        return None if envelope is None else cause.of_device(self.standpoint.number, envelope)

    def waiting(self, audience: Audience) -> dict[str, RolloutDocument]:
        """Returns the rollouts that have not admitted the device and that the caller may know, by deployment."""
        return {
            weighed.id: logged.rollout
            for weighed in self.weighed
            if Reason.NOT_ADMITTED in {each.reason for each in (weighed.obstacle, weighed.then) if each is not None}
            and (logged := self.deployments[weighed.id]).rollout is not None
            and logged.rollout.admits
            and audience.may_know_rollout(logged)
        }

    def causes_of_verdict(
        self, weighed: Weighed, audience: Audience, admission: HistoryEntry | None
    ) -> tuple[Cause, ...]:
        """Returns the events behind a verdict: the last changes of its properties, and the events that shaped the deployment.

        `admission` is the event of a rollout that admitted the device, if any.
        """
        logged = self.deployments[weighed.id]
        of_deployment = cause.of_history(self.histories.get(weighed.id, ()), admission)
        return (
            *cause.of_conditions(weighed, self.traced.last_changes, self.standpoint.number),
            *(entry_cause for entry_cause in of_deployment if audience.may_know(entry_cause.act, logged)),
        )

    def causes_of_device(self) -> tuple[Cause, ...]:
        """Returns the device's registration, identity changes, configuration by hand, and last report, by position."""
        traced, number = self.traced, self.standpoint.number
        retired = traced.retired if self.document.retired else None
        envelopes = (traced.registered, traced.by_hand, traced.reported, retired)
        causes = {each.position: cause.of_device(number, each) for each in envelopes if each is not None}
        causes |= {each.position: each for each in cause.of_identity(self.document, traced.last_changes, number)}
        return tuple(each for _, each in sorted(causes.items()))

    def undecided(self) -> tuple[Cause, ...]:
        """Returns the events of the device that workers have not processed."""
        return tuple(cause.of_device(self.standpoint.number, envelope) for envelope in self.traced.undecided)

    def causes_of_change(self, audience: Audience) -> tuple[Cause, ...]:
        """Returns the events of the last assignment change: of the device, and on deployments that it added or removed."""
        layers, had = set(self.standpoint.assignment.layers), set(self.change.was.layers)
        # A device that became unmanaged keeps its stack, so both stacks are equal; the event is then on a deployment of that stack.
        names = {layer.id for layer in (layers ^ had or layers)}
        before, after = self.change.before.fleet, self.change.after.fleet
        of_device = [cause.of_device(self.standpoint.number, envelope) for envelope in self.traced.moving]
        of_fleet = [
            cause.of_deployment(entry)
            for name in sorted(names)
            for entry in self.histories.get(name, ())
            if before < entry.position <= after and audience.may_know(entry.kind, self.deployments.get(name))
        ]
        return (*of_device, *sorted(of_fleet, key=lambda each: each.position))
