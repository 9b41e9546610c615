"""How a deployment is to reach its devices: phases and their gates, limits on the way, and what follows a failure."""

import enum

import msgspec


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
    """What a rollout does by itself when it fails."""

    PAUSE = "pause"
    ROLL_BACK = "roll back"


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What must hold before the next phase.

    `success_percent` (0 to 100) of those who count are healthy, `answered_min` of them have answered, and both without a
    break for `soak_seconds`. A device that is not healthy `device_timeout_seconds` after it was admitted has failed; a phase that
    has not passed after `phase_timeout_seconds` has. 0 is no limit.
    """

    success_percent: float = 100.0
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


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a rollout has failed: both thresholds are reached (>=), once `answered_min` devices have answered.

    seed 004, Automatic rollback policy; DESIGN §7. `percent` is of those who count (0 to 100), `count` of devices.
    """

    percent: float = 100.0
    count: int = 1
    answered_min: int = 0
    then: OnFailure = OnFailure.PAUSE


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


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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
