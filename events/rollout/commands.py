"""The commands on a rollout; each names its deployment."""

import msgspec

from events.rollout.events import RolloutEvent, RolloutResults
from events.rollout.plan import RolloutPlan


class _OfRollout(msgspec.Struct, frozen=True):
    deployment_id: str


class CreateRollout(_OfRollout, frozen=True):
    """Create the rollout of a deployment that has not started. It begins with `StartRollout`, or at the deployment's start."""

    plan: RolloutPlan


class StartRollout(_OfRollout, frozen=True):
    """Open the first phase. The scheduler gives `due_at` (milliseconds) and `late_ms`, the time since then."""

    due_at: int | None = None
    late_ms: int | None = None


class PauseRollout(_OfRollout, frozen=True):
    """Admit no further device until the rollout is resumed."""

    reason: str = ""


class ResumeRollout(_OfRollout, frozen=True):
    """Continue a paused or failed rollout at the same phase."""


class ApprovePhase(_OfRollout, frozen=True):
    """Approve a phase (from 0) that requires it, so that it can open."""

    phase: int


class SkipPhase(_OfRollout, frozen=True):
    """End the open phase (from 0) without its gate."""

    phase: int


class RetryFailed(_OfRollout, frozen=True):
    """Retry the failed devices, under a new `$version`."""


class AbortRollout(_OfRollout, frozen=True):
    """End the rollout at its current phase: admitted devices keep the deployment, no other device gets it."""

    reason: str = ""


class RecordResults(_OfRollout, frozen=True):
    """Record the results of the devices before the deployment ends; the caller has read the `results`."""

    results: RolloutResults


class RollBack(_OfRollout, frozen=True):
    """End the deployment and roll its devices back."""

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


class AdvanceRollout(_OfRollout, frozen=True):
    """Append the events that the planner derived from a version of the rollout, in order."""

    version: int
    events: tuple[RolloutEvent, ...]


class DiscardRollout(_OfRollout, frozen=True):
    """Delete a rollout whose deployment is gone."""


SchedulerCommand = AdvanceRollout | DiscardRollout
"""The commands that only the scheduler sends."""
