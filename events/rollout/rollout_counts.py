"""How the admitted devices of a rollout stand: now, or when its deployment ended."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import UNSET

from events import canonical
from events.rollout.events import Devices, RecordedCounts, RolloutResults
from events.rollout.fleet_snapshot import FleetSnapshot
from events.rollout.plan import Gate, Offline, RolloutPlan
from events.rollout.sets import NOBODY, FleetSet
from events.rollout.state import RolloutDocument, RolloutState

ANSWERED_FAILURE: Final = "it answered with a failure"
NOT_AS_DESIRED: Final = "a module is not as desired"
OVER_LIMIT: Final = "its configuration would be over a limit"
LATE: Final = "it did not become healthy in time"
"""Why a device counts as failed."""

RESULTS_BYTES_MAX = 150_000
"""What the record of a rollout's end takes at most, so that the end itself always fits into the log (1 MiB a chunk)."""

CODES_MAX = 20
"""How many codes are told apart in a record."""

_SECOND_MS = 1000

Batches = Sequence[tuple[int, FleetSet]]
"""When devices were admitted, or tried again (milliseconds), and which."""


class RolloutCounts(msgspec.Struct, frozen=True, eq=False):
    """How the admitted devices stand; every count is the size of one of these sets.

    `healthy`, `already`, `failed`, `silent`, `pending`, `outranked` and `not_applied` come to `admitted`, and `timed_out` is a part of
    `failed`. `counted` is the denominator, `waited` the devices that the gate waits for. `failed_by` and `not_applied_by` are the
    same sets by the reason.
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
        """The sizes."""
        return RecordedCounts(**{name: len(getattr(self, name)) for name in RecordedCounts.__struct_fields__})

    @property
    def succeeded(self) -> int:
        """How many are as they are meant to be."""
        return len(self.healthy) + len(self.already)

    @property
    def answered(self) -> int:
        """How many have said how it went."""
        return len(self.healthy) + len(self.failed) - len(self.timed_out)

    @property
    def able(self) -> int:
        """How many can answer: a device that was there already never does anew, nor does one that does not have it."""
        return len(self.admitted) - len(self.already) - len(self.outranked) - len(self.not_applied)

    @property
    def having(self) -> int:
        """How many have the deployment, however they are with it."""
        over_limit = self.failed_by.get(OVER_LIMIT, NOBODY)
        return len(self.admitted) - len(self.outranked) - len(self.not_applied) - len(over_limit)

    def results(self, codes: Mapping[int, FleetSet]) -> RolloutResults:
        """The sets as a record; `codes` are devices by the code that they answered with, as far as those were read.

        Of a fleet for which that is over `RESULTS_BYTES_MAX`, the failed devices alone, or nothing where even they are: the
        end of a rollout must never depend on the size of its record.
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


def rollout_counts(document: RolloutDocument, fleet_snapshot: FleetSnapshot, now: int) -> RolloutCounts:
    """How the admitted devices of a rollout stand at a time (milliseconds); once its deployment has ended, how they stood then."""
    if document.results is not UNSET:
        return _recorded(document.plan, document.results, fleet_snapshot.target)
    return rollout_counts_of(document, batches_of(document), fleet_snapshot, now)


def batches_of(document: RolloutDocument) -> Batches:
    """The batches of a rollout, decoded."""
    return [(batch.admitted_at, FleetSet.of(batch.devices)) for batch in document.batches]


def together(batches: Iterable[tuple[int, FleetSet]]) -> FleetSet:
    """The devices of some batches."""
    return FleetSet.union(devices for _, devices in batches)


def rollout_counts_of(
    document: RolloutDocument, batches: Batches, fleet_snapshot: FleetSnapshot, now: int
) -> RolloutCounts:
    """As `rollout_counts` while the deployment goes on, from batches that are decoded."""
    plan, gate = document.plan, document.gate
    # A completed rollout has admitted every targeted device, and an event only those that it found.
    is_open = document.state is RolloutState.COMPLETED and fleet_snapshot.is_open_to_all
    admitted = fleet_snapshot.target if is_open else together(batches) & fleet_snapshot.target
    absent = admitted - fleet_snapshot.actual - fleet_snapshot.held if not fleet_snapshot.lagging else NOBODY
    not_applied_by = _some({why: absent & devices for why, devices in fleet_snapshot.not_applied.items()})
    not_applied = FleetSet.union(not_applied_by.values())
    outranked = absent - not_applied
    well = admitted & fleet_snapshot.healthy
    # A device for which something else is over a limit keeps it, and is as well with it as before.
    over_limit = admitted & (fleet_snapshot.held - fleet_snapshot.actual)
    reported = (admitted & fleet_snapshot.unhealthy) | over_limit
    undecided = admitted - well - reported - absent
    silent, timed_out = _silent_and_late(plan, gate, batches, undecided, now)
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
        failed_by=_some(failed_by),
        not_applied_by=not_applied_by,
    )


def _silent_and_late(
    plan: RolloutPlan, gate: Gate, batches: Batches, undecided: FleetSet, now: int
) -> tuple[FleetSet, FleetSet]:
    """The devices without a result that have been silent for too long, and those that are late; no device is both."""
    offline, timeout = plan.offline_seconds * _SECOND_MS, gate.device_timeout_seconds * _SECOND_MS
    silent = undecided & together(batch for batch in batches if now - batch[0] >= offline)
    late = together(batch for batch in batches if timeout and now - batch[0] >= timeout)
    # Of both limits, the one that came first counts for good; without a time limit nothing is late.
    late_first = plan.offline is Offline.WAIT or gate.device_timeout_seconds < plan.offline_seconds
    timed_out = undecided & late if late_first else (undecided - silent) & late
    return silent - timed_out, timed_out


def _counted(plan: RolloutPlan, admitted: FleetSet, *, absent: FleetSet, silent: FleetSet) -> FleetSet:
    return admitted - (absent | silent if plan.offline is Offline.EXCLUDE else absent)


def recorded_counts(document: RolloutDocument) -> RecordedCounts | None:
    """How many devices stood how when the deployment ended, of the admitted ones alone; `None` while it goes on."""
    if document.results is UNSET:
        return None
    ended = _recorded(document.plan, document.results, NOBODY)
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
        timed_out=failed_by.get(LATE, NOBODY),
        silent=silent,
        pending=pending,
        outranked=outranked,
        not_applied=not_applied,
        waited=NOBODY,
        failed_by=failed_by,
        not_applied_by=not_applied_by,
    )


def as_devices(by_reason: Mapping[str, FleetSet]) -> dict[str, Devices]:
    """Sets of devices by the reason, in the form that events have."""
    return {why: devices.devices() for why, devices in by_reason.items()}


def as_sets(by_reason: Mapping[str, Devices]) -> dict[str, FleetSet]:
    """Read what `as_devices` wrote."""
    return {why: FleetSet.of(devices) for why, devices in by_reason.items()}


def record_of(by_reason: Mapping[str, FleetSet]) -> dict[str, Devices]:
    """Sets of devices by the reason as an event has them; none of them where they are over `RESULTS_BYTES_MAX`."""
    record = as_devices(_some(by_reason))
    return record if len(canonical.encode(record)) <= RESULTS_BYTES_MAX else {}


def _with_codes(failed_by: Mapping[str, FleetSet], codes: Mapping[int, FleetSet]) -> dict[str, FleetSet]:
    """Devices that answered with a failure by its code; of many codes, the CODES_MAX that most devices answered with."""
    answered = failed_by.get(ANSWERED_FAILURE, NOBODY)
    by_code = sorted(
        ((code, answered & devices) for code, devices in codes.items()), key=lambda item: (-len(item[1]), item[0])
    )
    by_frequent_code = {f"it answered {code}": devices for code, devices in by_code[:CODES_MAX]}
    by_other_reason = {why: devices for why, devices in failed_by.items() if why != ANSWERED_FAILURE}
    return _some(
        {**by_frequent_code, ANSWERED_FAILURE: answered - FleetSet.union(by_frequent_code.values()), **by_other_reason}
    )


def _some(by_reason: Mapping[str, FleetSet]) -> dict[str, FleetSet]:
    return {why: devices for why, devices in by_reason.items() if devices}
