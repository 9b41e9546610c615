"""The commands on a rollout; each names its deployment."""

import msgspec

from events.rollout.events import RolloutEvent, RolloutResults
from events.rollout.plan import RolloutPlan


class CreateRollout(msgspec.Struct, frozen=True):
    """Create the rollout of a deployment that has not started. It begins with `StartRollout`, or at the deployment's start."""

    deployment_id: str
    plan: RolloutPlan


class StartRollout(msgspec.Struct, frozen=True):
    """Open the first phase. The scheduler gives `due_at` (milliseconds) and `late_ms`, the time since then."""

    deployment_id: str
    due_at: int | None = None
    late_ms: int | None = None


class PauseRollout(msgspec.Struct, frozen=True):
    """Admit no further device until the rollout is resumed."""

    deployment_id: str
    reason: str = ""


class ResumeRollout(msgspec.Struct, frozen=True):
    """Continue a paused or failed rollout at the same phase."""

    deployment_id: str


class ApprovePhase(msgspec.Struct, frozen=True):
    """Approve a phase (from 0) that requires it, so that it can open."""

    deployment_id: str
    phase: int


class SkipPhase(msgspec.Struct, frozen=True):
    """End the open phase (from 0) without its gate."""

    deployment_id: str
    phase: int


class RetryFailed(msgspec.Struct, frozen=True):
    """Retry the failed devices, under a new `$version`."""

    deployment_id: str


class AbortRollout(msgspec.Struct, frozen=True):
    """End the rollout at its current phase: admitted devices keep the deployment, no other device gets it."""

    deployment_id: str
    reason: str = ""


class RecordResults(msgspec.Struct, frozen=True):
    """Record the results of the devices before the deployment ends; the caller has read the `results`."""

    deployment_id: str
    results: RolloutResults


class RollBack(msgspec.Struct, frozen=True):
    """End the deployment and roll its devices back."""

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
    """Append the events that the planner derived from a version of the rollout, in order."""

    deployment_id: str
    version: int
    events: tuple[RolloutEvent, ...]


class DiscardRollout(msgspec.Struct, frozen=True):
    """Delete a rollout whose deployment is gone."""

    deployment_id: str


SchedulerCommand = AdvanceRollout | DiscardRollout
"""The commands that only the scheduler sends."""
