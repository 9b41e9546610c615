"""How a deployment is to reach its devices: phases and their gates, limits on the way, and what follows a failure."""

import enum
import math

import msgspec

PERCENT_MAX = 100.0

_ROUNDING = 1e-9
"""By how much a percentage of a number of devices can be off: 0.07 * 100 is 7.000000000000001 in floating point."""

EVERY_DEVICE = 2**31 - 1
"""As `Gate.answered_min`: every device that can answer, however many there are."""


def share_of(percent: float, devices: int) -> int:
    """A percentage (0 to 100) of some devices, rounded up: of a small fleet, a phase has one device at least."""
    return math.ceil(devices * percent / PERCENT_MAX - _ROUNDING)


class Offline(enum.Enum):
    """What devices count as that have not answered `offline_seconds` after they were admitted.

    WAIT: pending, so that the gate waits for them. EXCLUDE: not at all. UNKNOWN: neither success nor failure, but in the
    denominator; nobody waits for them.
    """

    WAIT = "wait"
    EXCLUDE = "exclude"
    UNKNOWN = "unknown"


class Joiners(enum.Enum):
    """When devices are admitted that come under the target condition after the start: with the others, or at the end."""

    COHORT = "cohort"
    END = "end"


class OnFailure(enum.Enum):
    """What a rollout does by itself when a failure threshold or a time limit of its plan is met."""

    PAUSE = "pause"
    ROLL_BACK = "roll back"


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What must hold before the next phase.

    `success_percent` (0 to 100; `None` where the plan does not say, see `RolloutPlan.required_percent`) of the devices that count are
    healthy, `answered_min` of them have answered, and both without a break for `soak_seconds`. A device that is not healthy
    `device_timeout_seconds` after it was admitted has failed; a phase that has not passed after `phase_timeout_seconds` has.
    0 is no limit.
    """

    success_percent: float | None = None
    answered_min: int = 0
    soak_seconds: int = 0
    device_timeout_seconds: int = 0
    phase_timeout_seconds: int = 0


class Phase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is admitted up to here, together with all former phases: a percentage, a number, or who a condition is true for.

    Exactly one of the three is given. `approval`: somebody has to approve of it before it opens.
    """

    percent: float | None = None
    count: int | None = None
    condition: str | None = None
    gate: Gate = Gate()
    approval: bool = False
    name: str = ""


def read_phase(text: str) -> Phase | None:
    """A phase as `10%` or as `50`, a number of devices; `None` where a text is neither."""
    number, percent, suffix = text.strip().partition("%")
    try:
        if not suffix:
            return Phase(percent=float(number)) if percent else Phase(count=int(number))
    except ValueError:
        pass
    return None


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a rollout has failed: every threshold that is given is reached (>=), once `answered_min` devices have answered.

    seed 004, Automatic rollback policy; DESIGN §9. `percent` (0 to 100) is of the devices that count, `count` a number of
    devices, at least 1. `None` is no threshold; without either, no number of failed devices is a failure of the rollout.
    """

    percent: float | None = None
    count: int | None = None
    answered_min: int = 0
    then: OnFailure = OnFailure.PAUSE

    @property
    def has_threshold(self) -> bool:
        """Whether a number of failed devices can be a failure of the rollout."""
        return self.percent is not None or self.count is not None

    def is_reached(self, *, failed: int, counted: int) -> bool:
        """Whether so many failed devices of those that count reach every threshold that is given; none that failed never do."""
        if not failed or not self.has_threshold:
            return False
        by_percent = 0 if self.percent is None else share_of(self.percent, counted)
        return failed >= max(by_percent, self.count or 0)


class Spread(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """At most so many devices of one value of a tag at once, as in *not more than 2 of a site*; `tag` is `tags.site`."""

    tag: str
    at_most: int = 1


class Rate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many devices are admitted within any minute; `growth_percent` (0 to 100) more with every minute of a phase."""

    per_minute: float
    growth_percent: float = 0.0


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When devices may be admitted: from each time of a cron expression in an IANA time zone, for some minutes."""

    cron: str
    zone: str = "UTC"
    minutes: int = 60


class RolloutPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rollout as its author wants it.

    `rollback_to` is the deployment whose content a rollback brings, or the update (`update:…`, where its group's policy says
    so); empty goes back to what else targets each device. Whom nothing else targets, `restore` brings back to what they had, and
    were well with, when they were admitted: their last known good (seed 004).
    `approval_by_another`: who approves is not the author.
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
        """The share (0 to 100) of healthy devices that a gate requires.

        Where the plan does not say, it is what the failure percentage leaves: otherwise one failed device made the gate
        unreachable long before the failure thresholds are met (DESIGN §9, the act on failure).
        """
        if gate.success_percent is not None:
            return gate.success_percent
        return PERCENT_MAX - (self.failure.percent or 0.0)

    def required_count(self, gate: Gate, *, counted: int) -> int:
        """How many of the devices that count must be healthy for a gate; a share is rounded up.

        A share that the plan does not say requires one healthy device at least: with a failure percentage of 100, no device
        at all would be enough otherwise.
        """
        required = share_of(self.required_percent(gate), counted)
        return max(required, min(1, counted)) if gate.success_percent is None else required
