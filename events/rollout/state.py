"""The replay of a rollout's events: the document that is its snapshot beside the fleet's log."""

import enum
from functools import partial
from typing import assert_never

import msgspec
from msgspec import UNSET, UnsetType

from events.rollout import events
from events.rollout.events import Devices, RolloutEvent, RolloutResults
from events.rollout.plan import Gate, OnFailure, RolloutPlan
from events.rollout.sets import FleetSet

# A deployment id has no colon, so a subject of a rollout cannot be one.
ROLLOUT = "rollout:"

BATCHES_MAX = 50
"""The number of admission times in a document; beyond it, the two oldest batches are merged at the later time."""

# An event and its snapshot share a chunk of 1 MiB; a set of 100,000 of a million devices has 200 KB (docs/decisions/0023).
BATCHES_BYTES_MAX = 400_000
"""The bytes of all batches; beyond it, the two oldest batches are merged as well."""


class RolloutState(enum.Enum):
    """The state of a rollout. ROLLED_BACK is final; a HALTED rollback waits for an operator."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    ABORTED = "aborted"
    ROLLING_BACK = "rolling back"
    ROLLED_BACK = "rolled back"
    HALTED = "halted"


class Batch(msgspec.Struct, frozen=True):
    """Devices that were admitted, or retried, together."""

    admitted_at: int
    devices: Devices


class RolloutDocument(msgspec.Struct, frozen=True):
    """The state of a rollout after its events; `*_at` are milliseconds, 0 for not yet.

    - `phase`: the phase (from 0) that was opened last, -1 before the first; it `is_open` until it passes
    - `paced_at`: the time from which the plan's rate grows
    - `reason`: the reason of the last event; `rollback_reason`: why the rollout was rolled back
    - `unreachable`: the rollout is paused because the gate of the open phase cannot be reached any more
    - `passed`: the phases that passed; `results`: the results of the devices at the end of the deployment
    - `not_back`: the devices that did not go back in a rollback, by reason
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
        """All devices admitted so far."""
        return FleetSet.union(FleetSet.of(batch.devices) for batch in self.batches)

    @property
    def gate(self) -> Gate:
        """The gate of the phase that was opened last, or of the first phase before that."""
        return self.plan.phases[max(0, self.phase)].gate

    @property
    def why(self) -> str:
        """The reason of the current state; for a rollback, its cause and its result."""
        if not self.rollback_at or self.reason == self.rollback_reason:
            return self.reason
        return f"{self.rollback_reason}; {self.reason}"

    @property
    def is_over(self) -> bool:
        """Whether the rollout does not determine the admitted devices any more."""
        return self.state in {RolloutState.COMPLETED, RolloutState.ABORTED, RolloutState.ROLLED_BACK}

    @property
    def admits(self) -> bool:
        """Whether the rollout can still admit devices."""
        return self.state in {RolloutState.CREATED, RolloutState.RUNNING, RolloutState.PAUSED}

    def phase_state(self, number: int) -> str:
        """The state of a phase (from 0): `passed`, `open`, `waiting`, `not opened`, or the state that ended the rollout."""
        if number in self.passed:
            return "passed"
        if self.is_open and number == self.phase:
            return "open"
        if number <= self.phase:
            return self.state.value
        return "waiting" if self.admits else "not opened"

    @property
    def can_fail(self) -> bool:
        """Whether the rollout is paused by an unreachable gate and can still fail by its thresholds or time limit."""
        return self.unreachable and self.state is RolloutState.PAUSED and self.plan.failure.then is OnFailure.ROLL_BACK

    @property
    def is_active(self) -> bool:
        """Whether the scheduler has a step for the rollout, now or later."""
        moves = self.state in {RolloutState.RUNNING, RolloutState.ROLLING_BACK} or self.can_fail
        return moves or self.retry_asked or self.rollback_asked


_CLOSED = {"is_open": False, "soak_at": 0, "retry_asked": False, "rollback_asked": False}
"""Nothing is open or asked for after an abort, or when a rollback begins."""

decode = msgspec.json.Decoder(RolloutDocument).decode
"""The rollout of canonical bytes."""


def subject_of(deployment_id: str) -> str:
    """`prod` -> `rollout:prod`."""
    return ROLLOUT + deployment_id


def evolve(document: RolloutDocument | None, event: RolloutEvent, *, version: int, at: int) -> RolloutDocument | None:
    """The rollout after an event; `None` after its deletion. No arithmetic on `at`: see AT_APPEND."""
    if isinstance(event, events.RolloutCreated):
        return RolloutDocument(version, event.plan, event.author, RolloutState.CREATED, created_at=at, changed_at=at)
    assert document is not None
    after = partial(msgspec.structs.replace, document, version=version, changed_at=at)
    match event:
        case events.RolloutDeleted():
            return None
        case events.RolloutStarted():
            return after(state=RolloutState.RUNNING, started_at=at)
        case events.RolloutPaused(reason, evidence, unreachable):
            # An automatic pause (with evidence) can mean that a requested rollback is impossible, which is then not retried.
            return after(
                state=document.state if document.is_over else RolloutState.PAUSED,
                reason=reason,
                soak_at=0,
                rollback_asked=document.rollback_asked and evidence is UNSET,
                unreachable=unreachable is True,
            )
        case events.RolloutResumed():
            # Late devices get their whole time again; otherwise the same time limit would pause the rollout at once.
            batches = _batches((), at, document.admitted)
            after = partial(after, state=RolloutState.RUNNING, reason="", unreachable=False)
            return after(phase_at=at, paced_at=at, batches=batches)
        case events.PhaseApproved(phase):
            return after(approved=tuple(sorted({*document.approved, phase})))
        case events.PhaseOpened(phase, _, pool):
            pool = document.pool if pool is UNSET else pool
            return after(phase=phase, is_open=True, phase_at=at, soak_at=0, paced_at=at, pool=pool)
        case events.DevicesAdmitted(_, devices, _, reason):
            return after(batches=_batches(document.batches, at, FleetSet.of(devices)), soak_at=0, reason=reason)
        case events.SoakBegan():
            return after(soak_at=at)
        case events.SoakBroken():
            return after(soak_at=0)
        case events.PhasePassed(phase, reason):
            return after(is_open=False, soak_at=0, reason=reason, passed=(*document.passed, phase))
        case events.RetryAsked():
            return after(retry_asked=True)
        case events.DevicesRetried(devices):
            batches = _batches(document.batches, at, FleetSet.of(devices))
            return after(retry_asked=False, retries=document.retries + 1, soak_at=0, batches=batches)
        case events.RollbackAsked(reason):
            return after(rollback_asked=True, reason=reason)
        case events.ResultsRecorded(results):
            return after(results=results)
        case events.RollbackBegan(reason, deployment, _, _, results):
            after = partial(after, rollback=deployment, rollback_at=at, rollback_reason=reason, results=results)
            return after(**_CLOSED, state=RolloutState.ROLLING_BACK, reason=reason)
        case events.RollbackEnded(succeeded, reason, _, not_back):
            state = RolloutState.ROLLED_BACK if succeeded else RolloutState.HALTED
            return after(state=state, reason=reason, not_back=not_back, retry_asked=False)
        case events.RolloutAborted(reason):
            return after(**_CLOSED, state=RolloutState.ABORTED, reason=reason)
        case events.RolloutCompleted(_, reason):
            return after(state=RolloutState.COMPLETED, reason=reason, is_open=False, soak_at=0)
        case _:
            assert_never(event)


def _batches(batches: tuple[Batch, ...], at: int, devices: FleetSet) -> tuple[Batch, ...]:
    """The batches with devices that are admitted at `at`, and removed from all other batches."""
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
