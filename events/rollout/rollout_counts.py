"""The results of a rollout's admitted devices: now, or when its deployment ended."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import UNSET

from events import canonical
from events.rollout.deadlines import Deadlines
from events.rollout.events import Devices, RecordedCounts, RolloutResults
from events.rollout.fleet_snapshot import FleetSnapshot
from events.rollout.plan import Offline, RolloutPlan
from events.rollout.sets import NO_DEVICES, FleetSet
from events.rollout.state import RolloutDocument, RolloutState

ANSWERED_FAILURE: Final = "it answered with a failure"
NOT_AS_DESIRED: Final = "a module is not as desired"
OVER_LIMIT: Final = "its configuration would be over a limit"
LATE: Final = "it did not become healthy in time"
"""Why a device counts as failed."""

# A chunk of the log has at most 1 MiB. Without a limit on the record, a huge fleet could not be rolled back
# (docs/decisions/0034).
RESULTS_BYTES_MAX = 150_000

CODES_MAX = 20
"""The number of codes with a set of their own in a record."""

_SECOND_MS = 1000

Batches = Sequence[tuple[int, FleetSet]]
"""The times (milliseconds) at which devices were admitted or retried, and these devices."""


class RolloutCounts(msgspec.Struct, frozen=True, eq=False):
    """The admitted devices by result; every count is the size of one of these sets.

    `healthy`, `already`, `failed`, `silent`, `pending`, `outranked` and `not_applied` add up to `admitted`, and `timed_out` is a part
    of `failed`. `counted` is the denominator, `waited` the devices that the gate waits for. `failed_by` and `not_applied_by` are
    the same sets by reason.
    """

    target: FleetSet
    admitted: FleetSet
    counted: FleetSet
    healthy: FleetSet
    already: FleetSet
    failed: FleetSet
    timed_out: FleetSet
    silent: FleetSet
    pending: FleetSet
    outranked: FleetSet
    not_applied: FleetSet
    waited: FleetSet
    failed_by: Mapping[str, FleetSet]
    not_applied_by: Mapping[str, FleetSet]

    @property
    def counts(self) -> RecordedCounts:
        """The sizes of the sets."""
        return RecordedCounts(**{name: len(getattr(self, name)) for name in RecordedCounts.__struct_fields__})

    @property
    def succeeded(self) -> int:
        """The number of devices that are healthy, those that were so before included."""
        return len(self.healthy) + len(self.already)

    @property
    def answered(self) -> int:
        """The number of devices that have answered for the deployment."""
        # Devices that ran the same configuration before send no new answer, so they are success without evidence.
        return len(self.healthy) + len(self.failed) - len(self.timed_out)

    @property
    def able(self) -> int:
        """The number of devices that can answer: without those that ran the same before or do not have the deployment."""
        return len(self.admitted) - len(self.already) - len(self.outranked) - len(self.not_applied)

    @property
    def having(self) -> int:
        """The number of devices that have the deployment, whatever their result."""
        over_limit = self.failed_by.get(OVER_LIMIT, NO_DEVICES)
        return len(self.admitted) - len(self.outranked) - len(self.not_applied) - len(over_limit)

    def results(self, codes: Mapping[int, FleetSet]) -> RolloutResults:
        """The sets as a record; `codes` are devices by the code of their answer, as far as it was read.

        If the record is over `RESULTS_BYTES_MAX`, it has the failed devices alone, or nothing if they are over it, too.
        """
        whole = RolloutResults(
            self.healthy.devices(),
            self.already.devices(),
            as_devices(_with_codes(self.failed_by, codes)),
            self.silent.devices(),
            self.pending.devices(),
            self.outranked.devices(),
            as_devices(self.not_applied_by),
        )
        records = (whole, RolloutResults(failed=whole.failed, is_whole=False), RolloutResults(is_whole=False))
        return next(record for record in records if len(canonical.encode(record)) <= RESULTS_BYTES_MAX)


def batches_of(document: RolloutDocument) -> Batches:
    """The batches of a rollout, decoded."""
    return [(batch.admitted_at, FleetSet.of(batch.devices)) for batch in document.batches]


def together(batches: Iterable[tuple[int, FleetSet]]) -> FleetSet:
    """The devices of these batches."""
    return FleetSet.union(devices for _, devices in batches)


def rollout_counts(
    document: RolloutDocument, fleet_snapshot: FleetSnapshot, now: int | Deadlines, batches: Batches | None = None
) -> RolloutCounts:
    """The admitted devices of a rollout by result at a time (milliseconds), or at the end of its deployment after that.

    `batches` are those of the document, if the caller has decoded them. `Deadlines` in place of a time record when the result changes.
    """
    deadlines = now if isinstance(now, Deadlines) else Deadlines(now)
    if document.results is not UNSET:
        # No device has a deployment that has ended, so the sets of now tell nothing about it.
        return _recorded(document.plan, document.results, fleet_snapshot.target)
    plan, gate = document.plan, document.gate
    batches = batches_of(document) if batches is None else batches
    # After completion every targeted device is admitted, but the events name only those targeted before.
    is_open = document.state is RolloutState.COMPLETED and fleet_snapshot.is_open_to_all
    admitted = fleet_snapshot.target if is_open else together(batches) & fleet_snapshot.target
    absent = admitted - fleet_snapshot.actual - fleet_snapshot.held if not fleet_snapshot.lagging else NO_DEVICES
    not_applied_by = _not_empty({why: absent & devices for why, devices in fleet_snapshot.not_applied.items()})
    not_applied = FleetSet.union(not_applied_by.values())
    outranked = absent - not_applied
    well = admitted & fleet_snapshot.healthy
    # A device that has the deployment keeps it while the merge with another one is over a limit, and its health counts.
    over_limit = admitted & (fleet_snapshot.held - fleet_snapshot.actual)
    reported = (admitted & fleet_snapshot.unhealthy) | over_limit
    undecided = admitted - well - reported - absent
    offline, timeout = plan.offline_seconds * _SECOND_MS, gate.device_timeout_seconds * _SECOND_MS
    silent = undecided & together(batch for batch in batches if deadlines.is_reached(batch[0] + offline))
    late = together(batch for batch in batches if timeout and deadlines.is_reached(batch[0] + timeout))
    # The limit that a device reaches first decides, so that its result does not change later; without a time limit no device is late.
    late_first = plan.offline is Offline.WAIT or gate.device_timeout_seconds < plan.offline_seconds
    timed_out = undecided & late if late_first else (undecided - silent) & late
    silent -= timed_out
    pending = undecided - silent - timed_out
    already = well & fleet_snapshot.already
    answered_failure = reported & fleet_snapshot.answered_failure
    failed_by = {
        ANSWERED_FAILURE: answered_failure - over_limit,
        NOT_AS_DESIRED: reported - answered_failure - over_limit,
        OVER_LIMIT: over_limit,
        LATE: timed_out,
    }
    return RolloutCounts(
        target=fleet_snapshot.target,
        admitted=admitted,
        counted=_counted(plan, admitted, absent=absent, silent=silent),
        healthy=well - already,
        already=already,
        failed=reported | timed_out,
        timed_out=timed_out,
        silent=silent,
        pending=pending,
        outranked=outranked,
        not_applied=not_applied,
        waited=pending | silent if plan.offline is Offline.WAIT else pending,
        failed_by=_not_empty(failed_by),
        not_applied_by=not_applied_by,
    )


def _counted(plan: RolloutPlan, admitted: FleetSet, *, absent: FleetSet, silent: FleetSet) -> FleetSet:
    return admitted - (absent | silent if plan.offline is Offline.EXCLUDE else absent)


def recorded_counts(document: RolloutDocument) -> RecordedCounts | None:
    """The counts of the admitted devices at the end of the deployment; `None` before its end."""
    if document.results is UNSET:
        return None
    ended = _recorded(document.plan, document.results, NO_DEVICES)
    return msgspec.structs.replace(ended, target=ended.admitted).counts


def _recorded(plan: RolloutPlan, results: RolloutResults, target: FleetSet) -> RolloutCounts:
    failed_by, not_applied_by = as_sets(results.failed), as_sets(results.not_applied)
    failed, not_applied = FleetSet.union(failed_by.values()), FleetSet.union(not_applied_by.values())
    healthy, already, silent, pending, outranked = map(
        FleetSet.of, (results.healthy, results.already, results.silent, results.pending, results.outranked)
    )
    absent = outranked | not_applied
    admitted = FleetSet.union((healthy, already, failed, silent, pending, absent))
    return RolloutCounts(
        target=target,
        admitted=admitted,
        counted=_counted(plan, admitted, absent=absent, silent=silent),
        healthy=healthy,
        already=already,
        failed=failed,
        timed_out=failed_by.get(LATE, NO_DEVICES),
        silent=silent,
        pending=pending,
        outranked=outranked,
        not_applied=not_applied,
        waited=NO_DEVICES,
        failed_by=failed_by,
        not_applied_by=not_applied_by,
    )


def as_devices(by_reason: Mapping[str, FleetSet]) -> dict[str, Devices]:
    """Sets of devices by reason, in the form of events."""
    return {why: devices.devices() for why, devices in by_reason.items()}


def as_sets(by_reason: Mapping[str, Devices]) -> dict[str, FleetSet]:
    """Sets of devices by reason, from the form of events."""
    return {why: FleetSet.of(devices) for why, devices in by_reason.items()}


def record_of(by_reason: Mapping[str, FleetSet]) -> dict[str, Devices]:
    """Sets of devices by reason, in the form of events; empty if they are over `RESULTS_BYTES_MAX`."""
    record = as_devices(_not_empty(by_reason))
    return record if len(canonical.encode(record)) <= RESULTS_BYTES_MAX else {}


def _with_codes(failed_by: Mapping[str, FleetSet], codes: Mapping[int, FleetSet]) -> dict[str, FleetSet]:
    """Failed devices with their answer's code as the reason; of many codes, the CODES_MAX most frequent."""
    answered = failed_by.get(ANSWERED_FAILURE, NO_DEVICES)
    by_code = sorted(
        ((code, answered & devices) for code, devices in codes.items()), key=lambda item: (-len(item[1]), item[0])
    )
    by_frequent_code = {f"it answered {code}": devices for code, devices in by_code[:CODES_MAX]}
    by_other_reason = {why: devices for why, devices in failed_by.items() if why != ANSWERED_FAILURE}
    return _not_empty(
        {**by_frequent_code, ANSWERED_FAILURE: answered - FleetSet.union(by_frequent_code.values()), **by_other_reason}
    )


def _not_empty(by_reason: Mapping[str, FleetSet]) -> dict[str, FleetSet]:
    return {why: devices for why, devices in by_reason.items() if devices}
