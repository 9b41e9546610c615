"""What can happen to a rollout. Subject: `rollout:<deployment id>`; all stand in the fleet's stream."""

import msgspec
from msgspec import UNSET, UnsetType

from events.rollout.plan import RolloutPlan

Devices = dict[str, str]
"""By partition, the base64 of a set of ordinals (events/fleet/fleet_set.py)."""


class RecordedCounts(msgspec.Struct, frozen=True):
    """Who a rollout was judged on; each number is the size of a set.

    Of the `target` devices that are enabled, `admitted` are. Of these, `healthy`, `already` there, `failed` (`timed_out` is a
    part of it), `silent`, `pending`, `outranked` (another deployment wins) and `not_applied` (something else stands in the way,
    as that no base targets the device) come to `admitted`, and `counted` are in the denominator.
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
    """How each admitted device stood when a deployment ended that was rolled out: afterwards no device has it any more.

    `failed` and `not_applied` have the devices by the reason, as a sentence. Every admitted device is in one of the sets, unless
    they are too large to be recorded together: then `is_whole` is false, and `failed` is what is left of them.
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
    """What an automatic act was taken on: the counts, and (partition, fleet) positions of every partition as they were read."""

    counts: RecordedCounts
    vectors: tuple[tuple[int, int], ...]


class RolloutCreated(msgspec.Struct, frozen=True, tag="RolloutCreated", forbid_unknown_fields=True):
    """A deployment is to be rolled out so; nobody is admitted yet. `author` is who may have to find somebody to approve."""

    plan: RolloutPlan
    author: str


class RolloutStarted(msgspec.Struct, frozen=True, tag="RolloutStarted", forbid_unknown_fields=True):
    """From here on phases open. `late_ms` after it was due, where it was due at a time."""

    late_ms: int | UnsetType = UNSET


class RolloutPaused(msgspec.Struct, frozen=True, tag="RolloutPaused", forbid_unknown_fields=True):
    """No further device is admitted until it is resumed; by hand, or with evidence by itself.

    `unreachable`: because the gate of the open phase cannot be reached any more. That is no failure: the thresholds and the time
    limit of the plan still decide whether it has failed.
    """

    reason: str
    evidence: Evidence | UnsetType = UNSET
    unreachable: bool | UnsetType = UNSET


class RolloutResumed(msgspec.Struct, frozen=True, tag="RolloutResumed", forbid_unknown_fields=True):
    """It goes on where it was."""


class PhaseApproved(msgspec.Struct, frozen=True, tag="PhaseApproved", forbid_unknown_fields=True):
    """A phase (from 0) may open. `approver` is who said so."""

    phase: int
    approver: str


class PhaseOpened(msgspec.Struct, frozen=True, tag="PhaseOpened", forbid_unknown_fields=True):
    """Devices of a phase (from 0) are admitted from here on. `pool`: whom the first phase found, where joiners wait."""

    phase: int
    evidence: Evidence
    pool: Devices | UnsetType = UNSET


class DevicesAdmitted(msgspec.Struct, frozen=True, tag="DevicesAdmitted", forbid_unknown_fields=True):
    """These devices may receive the deployment, beside those before; `count` of them."""

    phase: int
    devices: Devices
    count: int
    reason: str
    vectors: tuple[tuple[int, int], ...]


class SoakBegan(msgspec.Struct, frozen=True, tag="SoakBegan", forbid_unknown_fields=True):
    """The gate of the open phase holds from here on."""

    evidence: Evidence


class SoakBroken(msgspec.Struct, frozen=True, tag="SoakBroken", forbid_unknown_fields=True):
    """It does not hold any more: a device is no longer healthy, or more have to be."""

    evidence: Evidence


class PhasePassed(msgspec.Struct, frozen=True, tag="PhasePassed", forbid_unknown_fields=True):
    """The open phase is done; by its gate, with evidence, or as somebody skipped it."""

    phase: int
    reason: str
    evidence: Evidence | UnsetType = UNSET


class RetryAsked(msgspec.Struct, frozen=True, tag="RetryAsked", forbid_unknown_fields=True):
    """Somebody wants the failed devices to try again."""


class DevicesRetried(msgspec.Struct, frozen=True, tag="DevicesRetried", forbid_unknown_fields=True):
    """These devices get the same once more, under a new `$version`; `count` of them."""

    devices: Devices
    count: int


class RollbackAsked(msgspec.Struct, frozen=True, tag="RollbackAsked", forbid_unknown_fields=True):
    """Somebody wants the deployment rolled back."""

    reason: str


class RollbackBegan(msgspec.Struct, frozen=True, tag="RollbackBegan", forbid_unknown_fields=True):
    """The deployment ends, and its devices go back.

    To `deployment`, created for that; with `restore` each to what it had and was well with; else to what else targets them.
    `results`: how the devices stood with the deployment.
    """

    reason: str
    deployment: str
    evidence: Evidence | UnsetType = UNSET
    restore: bool | UnsetType = UNSET
    results: RolloutResults = RolloutResults()


class ResultsRecorded(msgspec.Struct, frozen=True, tag="ResultsRecorded", forbid_unknown_fields=True):
    """The deployment is about to end, by hand or at its time: so the devices stood with it."""

    results: RolloutResults


class RollbackEnded(msgspec.Struct, frozen=True, tag="RollbackEnded", forbid_unknown_fields=True):
    """All devices are back, or the rollback failed in turn: then it halts, and an operator has to decide.

    `not_back` has the devices that are not back, by the reason.
    """

    succeeded: bool
    reason: str
    evidence: Evidence
    not_back: dict[str, Devices] = {}


class RolloutAborted(msgspec.Struct, frozen=True, tag="RolloutAborted", forbid_unknown_fields=True):
    """It ends where it is: who was admitted keeps the deployment, and nobody else gets it."""

    reason: str


class RolloutDeleted(msgspec.Struct, frozen=True, tag="RolloutDeleted", forbid_unknown_fields=True):
    """The deployment is gone, and its rollout with it."""


class RolloutCompleted(msgspec.Struct, frozen=True, tag="RolloutCompleted", forbid_unknown_fields=True):
    """All phases passed: from here on every targeted device is admitted. `reason` says how many have it, and how many do not."""

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
