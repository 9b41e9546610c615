"""The next automatic step of a rollout: a pure function of the rollout, the fleet snapshot, and the time."""

import math
from typing import Final

import msgspec
from msgspec import UNSET

from events.number_text import counted
from events.rollout import events, rollout_text
from events.rollout.cohort import first
from events.rollout.deadlines import Deadlines
from events.rollout.events import Evidence, RecordedCounts, RolloutEvent
from events.rollout.fleet_snapshot import AdmissionOrder, ByValue, FailureCodes, FleetSnapshot, RollbackId, Where
from events.rollout.plan import Joiners, Offline, OnFailure, Rate, RolloutPlan, share_of
from events.rollout.rollout_counts import (
    ANSWERED_FAILURE,
    LATE,
    RolloutCounts,
    batches_of,
    record_of,
    rollout_counts,
    together,
)
from events.rollout.sets import NO_DEVICES, FleetSet
from events.rollout.state import RolloutDocument, RolloutState, evolve
from events.rollout.times import closes_at, duration, opens_at

_STEPS_MAX = 4
_MOVING = (events.DevicesAdmitted, events.DevicesRetried, events.RollbackBegan, events.RolloutCompleted)
_SECOND_MS = 1000
_MINUTE_MS = 60_000
_QUARTER_MS = 15 * _MINUTE_MS
_ROUNDING = 1e-9
_COUNT_MAX = 2**31 - 1
_EXPONENT_MAX = 700.0

NOT_WELL_BACK: Final = "it is not healthy with what it went back to"
NOTHING_ELSE: Final = "nothing else targets it: it keeps what it has"
SILENT: Final = "it is silent"
NOT_ANSWERED: Final = "it has not answered yet"
"""Why a device is not back after a rollback."""


class Judgement(msgspec.Struct, frozen=True, eq=False):
    """The events that follow now, in order; without events, `says` is a sentence about what the rollout waits for.

    Without events, the same inputs give no events before `stands_until` (milliseconds; `None` without an end). The sentence has
    durations, which change. With events, the judgement stands until its own time: they change the rollout.
    """

    rollout_counts: RolloutCounts
    events: tuple[RolloutEvent, ...]
    says: str
    stands_until: int | None

    @property
    def counts(self) -> RecordedCounts:
        """The sizes of the sets that the rollout was judged on."""
        return self.rollout_counts.counts


def judge(name: str, document: RolloutDocument, fleet_snapshot: FleetSnapshot, now: int) -> Judgement:
    """The step of a rollout at a time (milliseconds), and the reason if there is none; `name` is its deployment.

    Raises:
        NotRead: names the question to read of the fleet first.
    """
    steps: list[RolloutEvent] = []
    while True:
        turn = _Turn(name, document, fleet_snapshot, now)
        event = turn.act()
        if event is None and not steps:
            return Judgement(turn.rollout_counts, (), turn.says, turn.deadlines.next)
        if event is None or len(steps) == _STEPS_MAX:
            return Judgement(turn.rollout_counts, tuple(steps), turn.says, now)
        steps.append(event)
        if isinstance(event, _MOVING):
            # The event moves devices, so a further step needs a new fleet snapshot.
            return Judgement(turn.rollout_counts, tuple(steps), turn.says, now)
        after = evolve(document, event, version=document.version + 1, at=now)
        assert after is not None
        document = after


class _Turn:
    """One step of a rollout: at most one event."""

    def __init__(self, name: str, document: RolloutDocument, fleet_snapshot: FleetSnapshot, now: int) -> None:
        self._name, self._document, self._fleet_snapshot, self._now = name, document, fleet_snapshot, now
        self._plan: RolloutPlan = document.plan
        self._gate = document.gate
        # The batches are decoded once: in a large fleet decoding is most of the work.
        self._batches = batches_of(document)
        self._admitted = together(self._batches)
        self.deadlines = Deadlines(now)
        self.rollout_counts = rollout_counts(document, fleet_snapshot, self.deadlines, self._batches)
        self.says = ""

    @property
    def _evidence(self) -> Evidence:
        return Evidence(self.rollout_counts.counts, self._fleet_snapshot.vectors)

    def act(self) -> RolloutEvent | None:
        document = self._document
        if self._fleet_snapshot.lagging:
            # Events that these partitions have not applied could change the result.
            return self._wait(f"waits for {', '.join(self._fleet_snapshot.lagging)}: behind or stopped")
        if document.rollback_asked:
            return self._roll_back(document.reason, UNSET)
        if document.retry_asked:
            is_halted = document.state is RolloutState.HALTED
            failed = self._fleet_snapshot.back.unhealthy if is_halted else self.rollout_counts.failed
            retried = self._spread_out(failed)
            return events.DevicesRetried(retried.devices(), len(retried))
        match document.state:
            case RolloutState.RUNNING if document.is_open:
                return self._go_on()
            case RolloutState.RUNNING:
                return self._open_next()
            case RolloutState.PAUSED if document.can_fail and (why := self._failure() or self._timed_out()):
                # An unreachable gate paused it. More devices can fail and the time limit can be reached: without this check,
                # one failed device would prevent the rollback that the plan requires (docs/decisions/0034).
                return self._fail(why)
            case RolloutState.ROLLING_BACK:
                return self._judge_rollback()
            case _:
                return self._wait(rollout_text.progress(document))

    def _wait(self, says: str) -> RolloutEvent | None:
        self.says = says
        return None

    # -- between phases

    def _open_next(self) -> RolloutEvent | None:
        number, phases, windows = self._document.phase + 1, self._plan.phases, self._plan.windows
        if number == len(phases):
            return events.RolloutCompleted(self._evidence, self._completed())
        called = f"phase {number + 1} of {len(phases)}"
        if phases[number].approval and number not in self._document.approved:
            if number and (why := self._failure()):
                return self._fail(why)
            by = " by another person than its author" if self._plan.approval_by_another else ""
            return self._wait(f"{called} waits for approval{by}")
        condition, target = phases[number].condition, self._fleet_snapshot.target
        if not target or (condition is not None and not target & self._fleet_snapshot.answer(Where(condition))):
            what = (
                "the deployment targets no enabled device"
                if condition is None
                else f"no device is targeted with {condition}"
            )
            return self._wait(f"{called} waits for devices: {what}")
        if not self._is_window_open():
            # The time limit of a phase begins when it opens, so a phase opens only when devices can be admitted.
            return self._wait(f"{called} waits: {rollout_text.next_window(windows, self._now)}")
        waits = number == 0 and self._plan.joiners is Joiners.END
        return events.PhaseOpened(number, self._evidence, target.devices() if waits else UNSET)

    def _is_window_open(self) -> bool:
        """Whether a maintenance window is open, or the plan has none."""
        windows = self._plan.windows
        if not windows:
            return True
        closes = closes_at(windows, self._now)
        # Where clocks go back by half an hour (Australia/Lord_Howe), `opens_at` skips windows of the hours after that. It is
        # right again from the next full hour on, and clocks change at quarters of an hour.
        quarter = self._now - self._now % _QUARTER_MS + _QUARTER_MS
        self.deadlines.is_reached(min(quarter, opens_at(windows, self._now)) if closes is None else closes)
        return closes is not None

    def _completed(self) -> str:
        """The number of devices that have the deployment, and the reasons of the remaining: `52 of 134 devices have it; …`."""
        counts, having = self.rollout_counts, self.rollout_counts.having
        parts = [f"{having} of {counted(len(counts.target), 'device')} {'has' if having == 1 else 'have'} it"]
        parts += [f"{len(devices)} not applied ({why})" for why, devices in counts.not_applied_by.items()]
        devices_by_state = {"outranked": counts.outranked, "failed": counts.failed, "silent": counts.silent}
        return "; ".join([*parts, *(f"{len(devices)} {name}" for name, devices in devices_by_state.items() if devices)])

    # -- within a phase

    def _go_on(self) -> RolloutEvent | None:
        if why := self._failure():
            return self._fail(why)
        # Devices that join during the soak time come with the next phase; otherwise every joiner would restart the soak.
        candidates = NO_DEVICES if self._document.soak_at else self._candidates()
        holds = not candidates and self._holds()
        if not holds and (why := self._timed_out()):
            return self._fail(why)
        if candidates:
            return self._admit(candidates)
        if holds:
            return self._hold()
        if why := self._out_of_reach():
            return self._pause(why, unreachable=True)
        return events.SoakBroken(self._evidence) if self._document.soak_at else self._wait(self._sentence())

    def _candidates(self) -> FleetSet:
        """The devices of the open phase that are not admitted yet."""
        devices, phase = universe(self._document, self._fleet_snapshot), self._plan.phases[self._document.phase]
        free = devices - self._admitted
        if not free:
            return NO_DEVICES
        if phase.condition is not None:
            return free & self._fleet_snapshot.answer(Where(phase.condition))
        limit = phase.count if phase.percent is None else share_of(phase.percent, len(devices))
        assert limit is not None
        # A disabled device that has the deployment takes a place: it runs it again once it is enabled.
        places = min(limit, len(devices)) - len(self._admitted & (devices | self._fleet_snapshot.actual))
        return self._first(free, places) if places > 0 else NO_DEVICES

    def _first(self, candidates: FleetSet, limit: int) -> FleetSet:
        order = order_of(self._name, self._document)
        return first(candidates, limit, order, self._fleet_snapshot.answer(AdmissionOrder()))

    def _admit(self, candidates: FleetSet) -> RolloutEvent | None:
        document, windows, rate, spread = self._document, self._plan.windows, self._plan.rate, self._plan.spread
        if not self._is_window_open():
            return self._wait(self._sentence(rollout_text.next_window(windows, self._now)))
        chosen = self._spread_out(candidates)
        if not chosen:
            assert spread is not None
            text = f"more are admitted when admitted devices answer: {spread.at_most} at once of each {spread.tag}"
            return self._wait(self._sentence(text))
        if rate is not None and (allowance := self._allowance(rate)) < len(chosen):
            if not allowance:
                return self._wait(self._sentence(f"more are admitted at {rate.per_minute:g} a minute"))
            chosen = self._first(chosen, allowance)
        later = len(candidates) - len(chosen)
        reason = f"phase {document.phase + 1} of {len(self._plan.phases)} admits {len(chosen)}"
        reason += f", {later} later" if later else ""
        vectors = self._fleet_snapshot.vectors
        return events.DevicesAdmitted(document.phase, chosen.devices(), len(chosen), reason, vectors)

    def _spread_out(self, candidates: FleetSet) -> FleetSet:
        """The candidates within the plan's limit for each value of a tag; devices without a value are not limited."""
        spread = self._plan.spread
        if spread is None:
            return candidates
        unlimited, chosen = candidates, NO_DEVICES
        for members in self._fleet_snapshot.answer(ByValue(spread.tag)).values():
            limited = candidates & members
            if limited:
                unlimited -= limited
                chosen |= self._first(limited, spread.at_most - len(self.rollout_counts.waited & members))
        return chosen | unlimited

    def _allowance(self, rate: Rate) -> int:
        """The number of devices that a rate admits now."""
        minutes = max(0, self._now - self._document.paced_at) // _MINUTE_MS
        if rate.growth_percent:
            self.deadlines.is_reached(self._document.paced_at + (minutes + 1) * _MINUTE_MS)
        # Exponential growth overflows a float after some hours; above the number of devices, every limit is the same.
        growth = min(_COUNT_MAX, math.exp(min(_EXPONENT_MAX, minutes * math.log1p(rate.growth_percent / 100))))
        per_minute = min(_COUNT_MAX, rate.per_minute * growth)
        # A closed window must not save up admissions for one burst: only those of the last minute count, or of the time
        # that a rate below one device a minute needs for a device.
        lasts = _MINUTE_MS * max(1.0, 1 / per_minute)
        lately = sum(
            len(devices)
            for admitted_at, devices in self._batches
            if not self.deadlines.is_reached(math.ceil(admitted_at + lasts))
        )
        return max(0, max(1, math.floor(per_minute + _ROUNDING)) - lately)

    # -- the gate

    def _hold(self) -> RolloutEvent | None:
        document, soak_ms = self._document, self._gate.soak_seconds * _SECOND_MS
        if soak_ms and not document.soak_at:
            return events.SoakBegan(self._evidence)
        soaked_at = document.soak_at + soak_ms
        if soak_ms and not self.deadlines.is_reached(soaked_at):
            left = duration(soaked_at - self._now)
            return self._wait(self._sentence(f"the gate holds and has to for another {left}"))
        passed = f"held for {duration(soak_ms)}" if soak_ms else "the gate holds"
        return events.PhasePassed(document.phase, self._sentence(passed), self._evidence)

    def _timed_out(self) -> str:
        left = self._left()
        timeout = duration(self._gate.phase_timeout_seconds * _SECOND_MS)
        is_over = left is not None and self.deadlines.is_reached(self._now + left)
        return f"it has not passed within {timeout}" if is_over else ""

    def _left(self) -> int | None:
        """The milliseconds until the open phase times out; `None` without a limit."""
        timeout = self._gate.phase_timeout_seconds * _SECOND_MS
        return self._document.phase_at + timeout - self._now if timeout and self._document.is_open else None

    def _required(self) -> int:
        return self._plan.required_count(self._gate, counted=len(self.rollout_counts.counted))

    def _holds(self) -> bool:
        rollout_counts = self.rollout_counts
        if self._gate.success_percent != 0 and self._admitted and not rollout_counts.counted:
            # Any share of no device is reached; a gate without evidence must wait.
            return False
        answered_min = min(self._gate.answered_min, rollout_counts.able)
        return rollout_counts.succeeded >= self._required() and rollout_counts.answered >= answered_min

    def _failure(self) -> str:
        """Why the rollout has failed by the thresholds of its plan (DESIGN §9); empty if it has not."""
        failure, rollout_counts = self._plan.failure, self.rollout_counts
        denominator = len(rollout_counts.counted)
        reached = failure.is_reached(failed=len(rollout_counts.failed), counted=denominator)
        if not reached or rollout_counts.answered < min(failure.answered_min, denominator):
            return ""
        counts = rollout_counts.counts
        late = f", {counts.timed_out} of them late" if counts.timed_out else ""
        share = 100 * counts.failed / counts.counted if counts.counted else 0.0
        percent = None if failure.percent is None else f"{failure.percent:g} %"
        count = None if failure.count is None else counted(failure.count, "device")
        limit = " and ".join(filter(None, (percent, count)))
        return f"{counts.failed} of {counts.counted} failed ({share:.3g} %){late}: the limit is {limit}"

    def _out_of_reach(self) -> str:
        """Why the gate cannot hold any more, whatever devices answer, with the operator's options; empty if it can."""
        rollout_counts, timeout = self.rollout_counts, self._gate.device_timeout_seconds * _SECOND_MS
        recent = together(batch for batch in self._batches if not self.deadlines.is_reached(batch[0] + timeout))
        # A failed device can recover until its time limit.
        hopeful = len(rollout_counts.waited) + len(recent & (rollout_counts.failed - rollout_counts.timed_out))
        if rollout_counts.succeeded + hopeful >= self._required():
            return ""
        counts, required_percent = rollout_counts.counts, self._plan.required_percent(self._gate)
        failed = f"{counts.failed} of {counts.counted} failed{rollout_text.silent(counts)}"
        return (
            f"the gate of {required_percent:g} % cannot be reached: {failed}; "
            "retry the failed devices, skip the phase, abort or roll back"
        )

    def _fail(self, why: str) -> RolloutEvent:
        if self._plan.failure.then is OnFailure.ROLL_BACK:
            return self._roll_back(why, self._evidence)
        return self._pause(why)

    def _pause(self, why: str, *, unreachable: bool | msgspec.UnsetType = UNSET) -> RolloutEvent:
        return events.RolloutPaused(f"{self._sentence()}; {why}", self._evidence, unreachable)

    def _sentence(self, addition: str = "") -> str:
        left = self._left()
        limit = "" if left is None or left <= 0 else f"{duration(left)} until timeout"
        required = self._plan.required_percent(self._gate)
        return rollout_text.phase(self._document, required, self.rollout_counts.counts, addition, limit)

    # -- going back

    def _roll_back(self, why: str, evidence: Evidence | msgspec.UnsetType) -> RolloutEvent:
        rollback = self._fleet_snapshot.answer(RollbackId()) if self._plan.rollback_to else ""
        if self._plan.rollback_to and not rollback:
            gone = f"{why}; it cannot be rolled back: {self._plan.rollback_to!r} does not exist any more"
            return events.RolloutPaused(gone, self._evidence)
        restore = True if self._plan.restore else UNSET
        has_codes = ANSWERED_FAILURE in self.rollout_counts.failed_by
        codes = self._fleet_snapshot.answer(FailureCodes()) if has_codes else {}
        return events.RollbackBegan(why, rollback, evidence, restore, self.rollout_counts.results(codes))

    def _judge_rollback(self) -> RolloutEvent | None:
        back, document = self._fleet_snapshot.back, self._document
        timeout = self._gate.device_timeout_seconds * _SECOND_MS
        pending = back.devices - back.healthy - back.unhealthy - back.unmanaged
        is_old = self.deadlines.is_reached(document.rollback_at + self._plan.offline_seconds * _SECOND_MS)
        silent = pending if is_old and self._plan.offline is not Offline.WAIT else NO_DEVICES
        is_late = timeout and self.deadlines.is_reached(document.rollback_at + timeout)
        timed_out = pending - silent if is_late else NO_DEVICES
        failed, waited = back.unhealthy | timed_out, pending - silent - timed_out
        counts = RecordedCounts(
            target=len(back.devices),
            admitted=len(back.devices),
            counted=len(back.devices) - len(silent),
            healthy=len(back.healthy),
            failed=len(failed) + len(back.unmanaged),
            timed_out=len(timed_out),
            silent=len(silent),
            pending=len(waited),
        )
        has_failed = self._plan.failure.is_reached(failed=len(failed), counted=counts.counted)
        if waited and not has_failed:
            progress = f"{counts.healthy} of {counts.target} are back, {counts.failed} failed, {counts.pending} pending"
            return self._wait(f"rolling back to {rollout_text.back_to(document)}: {progress}")
        succeeded = not has_failed and not failed and not back.unmanaged
        reason = f"{counts.healthy} of {counts.target} are back{rollout_text.silent(counts)}"
        if not succeeded:
            reason = f"the rollback failed: {counts.failed} of {counts.target} are not back"
            if back.unmanaged and not has_failed:
                reason += f"; nothing else targets {len(back.unmanaged)} of them, which keep what they have"
        not_back = {
            NOT_WELL_BACK: back.unhealthy,
            LATE: timed_out,
            NOTHING_ELSE: back.unmanaged,
            SILENT: silent,
            NOT_ANSWERED: waited,
        }
        evidence = Evidence(counts, self._fleet_snapshot.vectors)
        return events.RollbackEnded(succeeded, reason, evidence, record_of(not_back))


def order_of(name: str, document: RolloutDocument) -> str:
    """The name of a rollout's order of admission."""
    # A deployment of the same id can be created again; its rollout must not take the same devices first.
    return f"{name}:{document.created_at}"


def universe(document: RolloutDocument, fleet_snapshot: FleetSnapshot) -> FleetSet:
    """The devices of a rollout's phases: enabled targeted devices, without joiners that wait for the end."""
    return fleet_snapshot.target if document.pool is UNSET else fleet_snapshot.target & FleetSet.of(document.pool)
