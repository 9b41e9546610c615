"""The replay of a rollout's events: the document that stands as a snapshot beside the fleet's log."""

import enum
from typing import assert_never

import msgspec
from msgspec import UNSET, UnsetType

from events.rollout.events import (
    Devices,
    DevicesAdmitted,
    DevicesRetried,
    PhaseApproved,
    PhaseOpened,
    PhasePassed,
    ResultsRecorded,
    RetryAsked,
    RollbackAsked,
    RollbackBegan,
    RollbackEnded,
    RolloutAborted,
    RolloutCompleted,
    RolloutCreated,
    RolloutDeleted,
    RolloutEvent,
    RolloutPaused,
    RolloutResults,
    RolloutResumed,
    RolloutStarted,
    SoakBegan,
    SoakBroken,
)
from events.rollout.plan import Gate, OnFailure, Phase, RolloutPlan
from events.rollout.sets import FleetSet

ROLLOUT = "rollout:"
"""What the subjects of rollouts begin with; no deployment's id has a colon."""

BATCHES_MAX = 50
"""How many times of admission are told apart; of more, the two oldest count as the younger of them."""

BATCHES_BYTES_MAX = 400_000
"""The same holds where all of them take more than this: an event and its snapshot share a chunk of 1 MB."""


class RolloutState(enum.Enum):
    """Where a rollout stands. After ROLLED_BACK nothing follows; a HALTED rollback waits for somebody."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    ABORTED = "aborted"
    ROLLING_BACK = "rolling back"
    ROLLED_BACK = "rolled back"
    HALTED = "halted"


class Batch(msgspec.Struct, frozen=True):
    """Devices that were admitted together, or that try again since then."""

    admitted_at: int
    devices: Devices


class RolloutDocument(msgspec.Struct, frozen=True):
    """A rollout as its events made it; `*_at` are milliseconds, 0 for not yet.

    `phase` is the phase (from 0) that was opened last, -1 before the first; it `is_open` until it passed. `paced_at` is since
    when the plan's rate grows. `reason` is what the last event gave as one. `unreachable`: it is paused because the gate of the
    open phase cannot be reached any more. `passed` are the phases that did. `results` are how the devices stood when the deployment
    ended, `rollback_reason` is why it was rolled back, and `not_back` the devices that a rollback did not bring back, by the reason.
    """

    version: int
    plan: RolloutPlan
    author: str
    state: RolloutState
    created_at: int
    changed_at: int
    started_at: int = 0
    phase: int = -1
    is_open: bool = False
    phase_at: int = 0
    soak_at: int = 0
    paced_at: int = 0
    approved: tuple[int, ...] = ()
    pool: Devices | UnsetType = UNSET
    batches: tuple[Batch, ...] = ()
    retry_asked: bool = False
    retries: int = 0
    rollback_asked: bool = False
    rollback: str = ""
    rollback_at: int = 0
    reason: str = ""
    unreachable: bool = False
    passed: tuple[int, ...] = ()
    results: RolloutResults | UnsetType = UNSET
    rollback_reason: str = ""
    not_back: dict[str, Devices] = {}

    @property
    def admitted(self) -> FleetSet:
        """Whoever was admitted so far."""
        return FleetSet.union(FleetSet.of(batch.devices) for batch in self.batches)

    @property
    def current(self) -> Phase:
        """The phase that was opened last; not before the first."""
        return self.plan.phases[self.phase]

    @property
    def gate(self) -> Gate:
        """The gate of the phase that was opened last; before the first, that of the first."""
        return self.plan.phases[max(0, self.phase)].gate

    @property
    def why(self) -> str:
        """Why it is as it is: of a rollback, what led to it, and how that went."""
        if not self.rollback_at or self.reason == self.rollback_reason:
            return self.reason
        return f"{self.rollback_reason}; {self.reason}"

    @property
    def is_over(self) -> bool:
        """Whether who is admitted does not follow from it any more."""
        return self.state in {RolloutState.COMPLETED, RolloutState.ABORTED, RolloutState.ROLLED_BACK}

    @property
    def admits(self) -> bool:
        """Whether it may admit somebody yet."""
        return self.state in {RolloutState.CREATED, RolloutState.RUNNING, RolloutState.PAUSED}

    def phase_state(self, number: int) -> str:
        """What became of a phase (from 0): `passed` only if it did, and otherwise what ended the rollout."""
        if number in self.passed:
            return "passed"
        if self.is_open and number == self.phase:
            return "open"
        if number <= self.phase:
            return self.state.value
        return "waiting" if self.admits else "not opened"

    @property
    def can_fail(self) -> bool:
        """Whether it is paused by an unreachable gate, and its failure thresholds or time limit can still be met."""
        return self.unreachable and self.state is RolloutState.PAUSED and self.plan.failure.then is OnFailure.ROLL_BACK

    @property
    def is_active(self) -> bool:
        """Whether the scheduler has something to do with it, or will have."""
        moves = self.state in {RolloutState.RUNNING, RolloutState.ROLLING_BACK} or self.can_fail
        return moves or self.retry_asked or self.rollback_asked


_decoder = msgspec.json.Decoder(RolloutDocument)


def subject_of(deployment_id: str) -> str:
    """`prod` -> `rollout:prod`."""
    return ROLLOUT + deployment_id


def decode(data: bytes) -> RolloutDocument:
    """Read a document's canonical bytes."""
    return _decoder.decode(data)


def evolve(document: RolloutDocument | None, event: RolloutEvent, *, version: int, at: int) -> RolloutDocument | None:
    """The rollout after one more event; `None` when it is gone with its deployment. No arithmetic on `at`: see AT_APPEND."""
    if isinstance(event, RolloutCreated):
        return RolloutDocument(version, event.plan, event.author, RolloutState.CREATED, created_at=at, changed_at=at)
    assert document is not None
    changes: dict[str, object]
    match event:
        case RolloutDeleted():
            return None
        case RolloutStarted():
            changes = {"state": RolloutState.RUNNING, "started_at": at}
        case RolloutPaused(reason, evidence, unreachable):
            # By itself: a rollback that was asked for and cannot be is not tried again, and what is over stays so.
            changes = {
                "state": document.state if document.is_over else RolloutState.PAUSED,
                "reason": reason,
                "soak_at": 0,
                "rollback_asked": document.rollback_asked and evidence is UNSET,
                "unreachable": unreachable is True,
            }
        case RolloutResumed():
            # Who is late gets the whole time again; otherwise what paused it would at once do so again.
            changes = {
                "state": RolloutState.RUNNING,
                "reason": "",
                "unreachable": False,
                "phase_at": at,
                "paced_at": at,
                "batches": _batches((), at, document.admitted),
            }
        case PhaseApproved(phase):
            changes = {"approved": tuple(sorted({*document.approved, phase}))}
        case PhaseOpened(phase, _, pool):
            changes = {
                "phase": phase,
                "is_open": True,
                "phase_at": at,
                "soak_at": 0,
                "paced_at": at,
                "pool": document.pool if pool is UNSET else pool,
            }
        case DevicesAdmitted(_, devices, _, reason):
            changes = {
                "batches": _batches(document.batches, at, FleetSet.of(devices)),
                "soak_at": 0,
                "reason": reason,
            }
        case SoakBegan():
            changes = {"soak_at": at}
        case SoakBroken():
            changes = {"soak_at": 0}
        case PhasePassed(phase, reason):
            changes = {"is_open": False, "soak_at": 0, "reason": reason, "passed": (*document.passed, phase)}
        case RetryAsked():
            changes = {"retry_asked": True}
        case DevicesRetried(devices):
            again = FleetSet.of(devices)
            changes = {
                "retry_asked": False,
                "retries": document.retries + 1,
                "soak_at": 0,
                "batches": _batches(document.batches, at, again),
            }
        case RollbackAsked(reason):
            changes = {"rollback_asked": True, "reason": reason}
        case ResultsRecorded(results):
            changes = {"results": results}
        case RollbackBegan(reason, deployment, _, _, results):
            changes = {
                "state": RolloutState.ROLLING_BACK,
                "rollback_asked": False,
                "retry_asked": False,
                "reason": reason,
                "rollback": deployment,
                "rollback_at": at,
                "rollback_reason": reason,
                "results": results,
                "is_open": False,
                "soak_at": 0,
            }
        case RollbackEnded(succeeded, reason, _, not_back):
            changes = {
                "state": RolloutState.ROLLED_BACK if succeeded else RolloutState.HALTED,
                "reason": reason,
                "not_back": not_back,
                "retry_asked": False,
            }
        case RolloutAborted(reason):
            changes = {
                "state": RolloutState.ABORTED,
                "reason": reason,
                "is_open": False,
                "soak_at": 0,
                "retry_asked": False,
                "rollback_asked": False,
            }
        case RolloutCompleted(_, reason):
            changes = {"state": RolloutState.COMPLETED, "reason": reason, "is_open": False, "soak_at": 0}
        case _:
            assert_never(event)
    return msgspec.structs.replace(document, version=version, changed_at=at, **changes)


def _batches(batches: tuple[Batch, ...], at: int, devices: FleetSet) -> tuple[Batch, ...]:
    """With some devices as of now, and in no other batch."""
    if not devices:
        return batches
    left = [(batch, FleetSet.of(batch.devices)) for batch in batches]
    result = [
        batch if not members & devices else Batch(batch.admitted_at, (members - devices).devices())
        for batch, members in left
        if members - devices
    ]
    result.append(Batch(at, devices.devices()))
    while len(result) > BATCHES_MAX or (len(result) > 1 and _size(result) > BATCHES_BYTES_MAX):
        first, second, *newer = result
        both = FleetSet.of(first.devices) | FleetSet.of(second.devices)
        result = [Batch(second.admitted_at, both.devices()), *newer]
    return tuple(result)


def _size(batches: list[Batch]) -> int:
    return sum(len(data) for batch in batches for data in batch.devices.values())
