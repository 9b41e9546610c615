"""The plan of a rollout: phases and their gates, limits on admissions, and the action on failure."""

import enum
import math

import msgspec

PERCENT_MAX = 100.0

# 16.1 % of 1,000 devices are 161.00000000000003 in floating point; without this tolerance they would round up to 162.
_ROUNDING = 1e-9

EVERY_DEVICE = 2**31 - 1
"""As `Gate.answered_min`: all devices that can answer."""


def share_of(percent: float, devices: int) -> int:
    """A percentage (0 to 100) of a number of devices, rounded up."""
    # Rounding up gives a phase of a small fleet at least one device.
    return math.ceil(devices * percent / PERCENT_MAX - _ROUNDING)


class Offline(enum.Enum):
    """How devices count that have not answered `offline_seconds` after their admission.

    WAIT: as pending, so that the gate waits for them. EXCLUDE: not at all. UNKNOWN: neither as success nor as failure, but in
    the denominator; the gate does not wait for them.
    """

    WAIT = "wait"
    EXCLUDE = "exclude"
    UNKNOWN = "unknown"


class Joiners(enum.Enum):
    """When devices are admitted that match the target condition only after the start: with their cohort, or at the end."""

    COHORT = "cohort"
    END = "end"


class OnFailure(enum.Enum):
    """The automatic action when a failure threshold or a time limit of a plan is reached."""

    PAUSE = "pause"
    ROLL_BACK = "roll back"


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The conditions before the next phase.

    `success_percent` (0 to 100; `None` if the plan does not say, see `RolloutPlan.required_percent`) of the counted devices must be
    healthy and `answered_min` of them must have answered, both without a break for `soak_seconds`. A device that is not healthy
    `device_timeout_seconds` after its admission has failed; a phase that has not passed after `phase_timeout_seconds` has failed.
    0 is no limit.
    """

    success_percent: float | None = None
    answered_min: int = 0
    soak_seconds: int = 0
    device_timeout_seconds: int = 0
    phase_timeout_seconds: int = 0


class Phase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The devices admitted by the end of a phase, earlier phases included: a percentage, a number, or a target condition.

    Exactly one of the three is set. `approval`: a person must approve the phase before it opens.
    """

    percent: float | None = None
    count: int | None = None
    condition: str | None = None
    gate: Gate = Gate()
    approval: bool = False
    name: str = ""


def read_phase(text: str) -> Phase | None:
    """A phase from `10%` or from `50`, a number of devices; `None` for any other text."""
    number, percent, suffix = text.strip().partition("%")
    try:
        if not suffix:
            return Phase(percent=float(number)) if percent else Phase(count=int(number))
    except ValueError:
        pass
    return None


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a rollout has failed: every threshold is reached (>=), once `answered_min` devices have answered.

    seed 004, Automatic rollback policy; DESIGN §9. `percent` (0 to 100) is of the counted devices, `count` a number of
    devices, at least 1. `None` is no threshold; without both, failed devices never make the rollout fail.
    """

    percent: float | None = None
    count: int | None = None
    answered_min: int = 0
    then: OnFailure = OnFailure.PAUSE

    @property
    def has_threshold(self) -> bool:
        """Whether failed devices can make the rollout fail."""
        return self.percent is not None or self.count is not None

    def is_reached(self, *, failed: int, counted: int) -> bool:
        """Whether `failed` of `counted` devices reach every threshold."""
        # A threshold of 0 % would otherwise be reached before any device failed.
        if not failed or not self.has_threshold:
            return False
        by_percent = 0 if self.percent is None else share_of(self.percent, counted)
        return failed >= max(by_percent, self.count or 0)


class Spread(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A limit on devices in progress with the same value of a tag, such as at most 2 of a site; `tag` is `tags.site`."""

    tag: str
    at_most: int = 1


class Rate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The number of devices admitted in any minute; it grows by `growth_percent` (0 to 100) with every minute of a phase."""

    per_minute: float
    growth_percent: float = 0.0


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A maintenance window: `minutes` from each time of a cron expression in an IANA time zone."""

    cron: str
    zone: str = "UTC"
    minutes: int = 60


class RolloutPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The plan of a rollout.

    `rollback_to` is the deployment whose content a rollback brings, or the update (`update:…`) of the group's policy; if it is
    empty, each device falls back to the other deployments that target it. `restore` gives devices without another deployment
    their last known good: what they had, and were healthy with, at their admission (seed 004).
    `approval_by_another`: the author cannot approve phases.
    """

    phases: tuple[Phase, ...]
    failure: Failure = Failure()
    rollback_to: str = ""
    restore: bool = False
    offline: Offline = Offline.WAIT
    offline_seconds: int = 3600
    joiners: Joiners = Joiners.COHORT
    spread: Spread | None = None
    rate: Rate | None = None
    windows: tuple[Window, ...] = ()
    approval_by_another: bool = False

    def required_percent(self, gate: Gate) -> float:
        """The share (0 to 100) of healthy devices that a gate requires; by default 100 minus the failure percentage."""
        if gate.success_percent is not None:
            return gate.success_percent
        # With a default of 100 %, one failed device of ten made the gate unreachable although the plan tolerated 20 %, and
        # the whole fleet was rolled back (docs/decisions/0034).
        return PERCENT_MAX - (self.failure.percent or 0.0)

    def required_count(self, gate: Gate, *, counted: int) -> int:
        """The number of counted devices that must be healthy for a gate; a share is rounded up."""
        required = share_of(self.required_percent(gate), counted)
        # With a failure percentage of 100 the default share is 0: no healthy device would be required.
        return max(required, min(1, counted)) if gate.success_percent is None else required
