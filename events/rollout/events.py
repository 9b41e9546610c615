"""The events of a rollout. Subject: `rollout:<deployment id>`, in the fleet's stream."""

import msgspec
from msgspec import UNSET, UnsetType

from events.rollout.plan import RolloutPlan

Devices = dict[str, str]
"""By partition, the base64 of a set of ordinals (events/rollout/sets.py)."""


class RecordedCounts(msgspec.Struct, frozen=True):
    """The numbers of devices that a rollout was judged on; each is the size of a set.

    `target` are the enabled targeted devices, `admitted` a part of them, and `counted` the denominator. `admitted` is the sum of
    `healthy`, `already` there, `failed` (including `timed_out`), `silent`, `pending`, `outranked` (another deployment wins) and
    `not_applied` (another reason, such as no base that targets the device).
    """

    target: int = 0
    admitted: int = 0
    counted: int = 0
    healthy: int = 0
    already: int = 0
    failed: int = 0
    timed_out: int = 0
    silent: int = 0
    pending: int = 0
    outranked: int = 0
    not_applied: int = 0


class RolloutResults(msgspec.Struct, frozen=True):
    """The result of each admitted device when a deployment that was rolled out ended.

    `failed` and `not_applied` have the devices by reason, a sentence. Every admitted device is in one set, unless the sets are
    too large for one record: then `is_whole` is false, and only `failed` is recorded, or nothing.
    """

    healthy: Devices = {}
    already: Devices = {}
    failed: dict[str, Devices] = {}
    silent: Devices = {}
    pending: Devices = {}
    outranked: Devices = {}
    not_applied: dict[str, Devices] = {}
    is_whole: bool = True


class Evidence(msgspec.Struct, frozen=True):
    """The basis of an automatic step: the counts, and the (partition, fleet) positions at which every partition was read."""

    counts: RecordedCounts
    vectors: tuple[tuple[int, int], ...]


class RolloutCreated(msgspec.Struct, frozen=True, tag="RolloutCreated", forbid_unknown_fields=True):
    """A rollout was created by `author`; no device is admitted yet."""

    plan: RolloutPlan
    author: str


class RolloutStarted(msgspec.Struct, frozen=True, tag="RolloutStarted", forbid_unknown_fields=True):
    """The rollout started, and phases can open. `late_ms` is the delay after a scheduled start."""

    late_ms: int | UnsetType = UNSET


class RolloutPaused(msgspec.Struct, frozen=True, tag="RolloutPaused", forbid_unknown_fields=True):
    """No further device is admitted until the rollout is resumed. It was paused by an operator, or automatically with evidence.

    `unreachable`: the gate of the open phase cannot be reached any more. That is no failure: the thresholds and the time
    limit of the plan still decide whether the rollout has failed (docs/decisions/0034).
    """

    reason: str
    evidence: Evidence | UnsetType = UNSET
    unreachable: bool | UnsetType = UNSET


class RolloutResumed(msgspec.Struct, frozen=True, tag="RolloutResumed", forbid_unknown_fields=True):
    """The rollout continues at the same phase."""


class PhaseApproved(msgspec.Struct, frozen=True, tag="PhaseApproved", forbid_unknown_fields=True):
    """`approver` approved a phase (from 0), so that it can open."""

    phase: int
    approver: str


class PhaseOpened(msgspec.Struct, frozen=True, tag="PhaseOpened", forbid_unknown_fields=True):
    """A phase (from 0) opened. `pool` has the devices targeted at the first phase, if later joiners wait for the end."""

    phase: int
    evidence: Evidence
    pool: Devices | UnsetType = UNSET


class DevicesAdmitted(msgspec.Struct, frozen=True, tag="DevicesAdmitted", forbid_unknown_fields=True):
    """Another `count` devices were admitted to the deployment."""

    phase: int
    devices: Devices
    count: int
    reason: str
    vectors: tuple[tuple[int, int], ...]


class SoakBegan(msgspec.Struct, frozen=True, tag="SoakBegan", forbid_unknown_fields=True):
    """The gate of the open phase holds, and its soak time began."""

    evidence: Evidence


class SoakBroken(msgspec.Struct, frozen=True, tag="SoakBroken", forbid_unknown_fields=True):
    """The gate does not hold any more: a device is no longer healthy, or more devices must be healthy."""

    evidence: Evidence


class PhasePassed(msgspec.Struct, frozen=True, tag="PhasePassed", forbid_unknown_fields=True):
    """The open phase ended: by its gate, with evidence, or because an operator skipped it."""

    phase: int
    reason: str
    evidence: Evidence | UnsetType = UNSET


class RetryAsked(msgspec.Struct, frozen=True, tag="RetryAsked", forbid_unknown_fields=True):
    """An operator requested a retry of the failed devices."""


class DevicesRetried(msgspec.Struct, frozen=True, tag="DevicesRetried", forbid_unknown_fields=True):
    """`count` devices get the same configuration again, under a new `$version`."""

    devices: Devices
    count: int


class RollbackAsked(msgspec.Struct, frozen=True, tag="RollbackAsked", forbid_unknown_fields=True):
    """An operator requested a rollback of the deployment."""

    reason: str


class RollbackBegan(msgspec.Struct, frozen=True, tag="RollbackBegan", forbid_unknown_fields=True):
    """The deployment ended, and its devices roll back. `results` are those of the deployment.

    They go back to `deployment`, which was created for that; with `restore` each to what it had and was healthy with; else to
    the other deployments that target them.
    """

    reason: str
    deployment: str
    evidence: Evidence | UnsetType = UNSET
    restore: bool | UnsetType = UNSET
    results: RolloutResults = RolloutResults()


class ResultsRecorded(msgspec.Struct, frozen=True, tag="ResultsRecorded", forbid_unknown_fields=True):
    """The results of the devices before the deployment ends, by an operator or at its scheduled end."""

    results: RolloutResults


class RollbackEnded(msgspec.Struct, frozen=True, tag="RollbackEnded", forbid_unknown_fields=True):
    """The rollback succeeded, or it failed and halts until an operator decides.

    `not_back` has the devices that did not go back, by reason.
    """

    succeeded: bool
    reason: str
    evidence: Evidence
    not_back: dict[str, Devices] = {}


class RolloutAborted(msgspec.Struct, frozen=True, tag="RolloutAborted", forbid_unknown_fields=True):
    """The rollout ended at its current phase: admitted devices keep the deployment, and no other device gets it."""

    reason: str


class RolloutDeleted(msgspec.Struct, frozen=True, tag="RolloutDeleted", forbid_unknown_fields=True):
    """The rollout was deleted together with its deployment."""


class RolloutCompleted(msgspec.Struct, frozen=True, tag="RolloutCompleted", forbid_unknown_fields=True):
    """All phases passed, and every targeted device is admitted. `reason` gives the numbers of devices with and without it."""

    evidence: Evidence
    reason: str = ""


RolloutEvent = (
    RolloutCreated
    | RolloutStarted
    | RolloutPaused
    | RolloutResumed
    | PhaseApproved
    | PhaseOpened
    | DevicesAdmitted
    | SoakBegan
    | SoakBroken
    | PhasePassed
    | RetryAsked
    | DevicesRetried
    | RollbackAsked
    | RollbackBegan
    | ResultsRecorded
    | RollbackEnded
    | RolloutAborted
    | RolloutDeleted
    | RolloutCompleted
)
