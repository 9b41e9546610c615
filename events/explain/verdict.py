"""What an explanation is made of: one verdict for each deployment and twin that it could be for, with its reason as data."""

import enum
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from events.canonical import Json
from events.deployment.state import DeploymentDocument
from events.envelope import Vector
from events.explain.judged_condition import Judged
from events.fleet.assignments import NO_ASSIGNMENT, Assignment
from events.manifest.document import ContentKind
from events.query.evaluate import twin_row
from events.rollout.state import RolloutDocument
from events.stored_projection.not_applied import Why


class Verdict(enum.Enum):
    """What a deployment is to a device."""

    BASE = "base"
    LAYER = "layer"
    APPLIES = "applies"
    """Part of what its own twin, or one of its modules', is given."""
    NOT_APPLIED = "not applied"
    NOT_TARGETED = "not targeted"
    UNDECIDED = "not decided yet"


class Reason(enum.Enum):
    """Why a deployment does not apply, or stands open: those of `Why` by the same names, and why it does not target the device."""

    BASE_OUTRANKED = "base-outranked"
    LAYER_NOT_ABOVE_BASE = "layer-not-above-base"
    NEWER_LAYER = "newer-layer"
    NO_BASE = "no-base"
    NOT_STARTED = "not-started"
    ENDED = "ended"
    NOT_ADMITTED = "not-admitted"
    OVER_LIMIT = "over-limit"
    BY_HAND = "by-hand"
    RESTORED = "restored"
    CONDITION = "condition"
    OUT_OF_SCOPE = "out-of-scope"
    NOT_EDGE = "not-edge-capable"
    NO_MODULE = "no-such-module"
    NOT_APPLIED_YET = "not-applied-yet"

    @classmethod
    def of(cls, why: Why) -> "Reason":
        """The same reason."""
        return cls[why.name]


class JudgedTwin(msgspec.Struct, frozen=True):
    """A device or one of its modules as conditions read it; of a module, `device_id` is its device's."""

    device_id: str
    tags: Mapping[str, Json] = {}
    reported: Mapping[str, Json] = {}

    @property
    def assignment(self) -> Mapping[str, Any]:
        """The twin as conditions are evaluated on it."""
        return twin_row(self.device_id, self.tags, self.reported)


class ExplainedDevice(msgspec.Struct, frozen=True):
    """The device as it stands in the log: its twin, and those of the modules that it has."""

    twin: JudgedTwin
    edge: bool = True
    enabled: bool = True
    modules: Mapping[str, JudgedTwin] = {}


class LoggedDeployment(msgspec.Struct, frozen=True):
    """A deployment as it stands in the log, with its rollout if it has one."""

    document: DeploymentDocument
    rollout: RolloutDocument | None = None


class Obstacle(msgspec.Struct, frozen=True):
    """Something in a deployment's way; `by` names the deployment that is, if one is."""

    reason: Reason
    by: str | None = None


class Weighed(msgspec.Struct, frozen=True):
    """One deployment against one device, or one of its modules.

    `created` is the fleet position of its creation, 0 where the projections do not know it. `targeted` is what the
    projections have, `holds`
    what the condition and the scope come to on the twins as they stand now (`None`: unknown). `rank` counts layers from 1. `then` is what
    would stand in the way if it did target the device.
    """

    id: str
    created: int
    kind: ContentKind
    priority: int
    layered: bool
    verdict: Verdict
    module: str = ""
    obstacle: Obstacle | None = None
    rank: int = 0
    targeted: bool = False
    holds: bool | None = None
    condition: Judged | None = None
    scope: Judged | None = None
    then: Obstacle | None = None

    @property
    def applies(self) -> bool:
        """Whether it is part of what the device has."""
        return self.verdict in {Verdict.BASE, Verdict.LAYER, Verdict.APPLIES}

    @property
    def is_settled(self) -> bool:
        """Whether the projections have what follows from the twins as they stand."""
        return self.targeted == (self.holds is True)


class Setter(msgspec.Struct, frozen=True):
    """A deployment that sets a property, and to what; secrets show as `***`."""

    deployment: str
    value: Json


class Contest(msgspec.Struct, frozen=True):
    """A property that several parts of a stack set: the last one, `winner`, has it."""

    module: str
    path: str
    winner: Setter
    losers: tuple[Setter, ...]


class Standpoint(msgspec.Struct, frozen=True):
    """As of when the projections answer, and how far the log is; `ordinal` is `None` where they do not know the device."""

    number: int = 0
    vector: Vector = Vector()
    head: Vector = Vector()
    ordinal: int | None = None
    assignment: Assignment = NO_ASSIGNMENT

    @property
    def is_behind(self) -> bool:
        """Whether there are events that the projections do not have."""
        return self.vector.partition < self.head.partition or self.vector.fleet < self.head.fleet


def scope_of(document: DeploymentDocument) -> str:
    """A deployment's scope; `*` where it has none."""
    return "*" if document.scope is UNSET else document.scope
