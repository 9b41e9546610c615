"""What can be asked of a rollout; each names the deployment."""

import msgspec

from events.rollout.events import RolloutEvent, RolloutResults
from events.rollout.plan import RolloutPlan


class CreateRollout(msgspec.Struct, frozen=True):
    """Roll a deployment out that has not started. It begins with `StartRollout`, or at the deployment's time."""

    deployment_id: str
    plan: RolloutPlan


class StartRollout(msgspec.Struct, frozen=True):
    """Open the first phase. `due_at` (milliseconds) is for the scheduler, and `late_ms` how long ago that was."""

    deployment_id: str
    due_at: int | None = None
    late_ms: int | None = None


class PauseRollout(msgspec.Struct, frozen=True):
    """Admit nobody more for now."""

    deployment_id: str
    reason: str = ""


class ResumeRollout(msgspec.Struct, frozen=True):
    """Go on where it was paused or has failed."""

    deployment_id: str


class ApprovePhase(msgspec.Struct, frozen=True):
    """Let a phase (from 0) open that needs approval."""

    deployment_id: str
    phase: int


class SkipPhase(msgspec.Struct, frozen=True):
    """Pass the open phase (from 0) without its gate."""

    deployment_id: str
    phase: int


class RetryFailed(msgspec.Struct, frozen=True):
    """Let the devices that failed try again, under a new `$version`."""

    deployment_id: str


class AbortRollout(msgspec.Struct, frozen=True):
    """End it here: who was admitted keeps the deployment, nobody else gets it."""

    deployment_id: str
    reason: str = ""


class RecordResults(msgspec.Struct, frozen=True):
    """Record how the devices stand, as the deployment is about to end; `results` are as its giver has read them."""

    deployment_id: str
    results: RolloutResults


class RollBack(msgspec.Struct, frozen=True):
    """End the deployment, and bring its devices back."""

    deployment_id: str
    reason: str = ""


RolloutCommand = (
    CreateRollout
    | StartRollout
    | PauseRollout
    | ResumeRollout
    | ApprovePhase
    | SkipPhase
    | RetryFailed
    | AbortRollout
    | RecordResults
    | RollBack
)


class AdvanceRollout(msgspec.Struct, frozen=True):
    """Let happen what the planner found to follow for a rollout as of a version: the events, in order."""

    deployment_id: str
    version: int
    events: tuple[RolloutEvent, ...]


class DiscardRollout(msgspec.Struct, frozen=True):
    """Delete a rollout whose deployment is gone."""

    deployment_id: str


SchedulerCommand = AdvanceRollout | DiscardRollout
"""What the scheduler alone asks: nobody else knows what follows by itself."""
