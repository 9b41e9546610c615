"""The verdict on each deployment for a device or module, with its reason as data."""

import enum
from collections.abc import Mapping

import msgspec

from events.canonical import Json
from events.deployment.state import DeploymentDocument
from events.envelope import Vector
from events.explain.judged_condition import Judged
from events.fleet.assignments import NO_ASSIGNMENT, Assignment
from events.manifest.document import ContentKind
from events.query.evaluate import QueryRow
from events.rollout.state import RolloutDocument


class Verdict(enum.Enum):
    """The effect of a deployment on a device."""

    BASE = "base"
    LAYER = "layer"
    APPLIES = "applies"
    """Its properties go to the device's own twin, or to the twin of one of its modules."""
    NOT_APPLIED = "not applied"
    NOT_TARGETED = "not targeted"
    UNDECIDED = "not decided yet"


class Reason(enum.Enum):
    """Why a deployment does not apply or is undecided: the names of `Why`, and the reasons for not targeting the device."""

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


class ExplainedDevice(msgspec.Struct, frozen=True):
    """The device's state in the log: its twin and the twins of its modules, as conditions read them."""

    twin: QueryRow
    edge: bool = True
    enabled: bool = True
    modules: Mapping[str, QueryRow] = {}


class LoggedDeployment(msgspec.Struct, frozen=True):
    """A deployment's state in the log, with its rollout if it has one."""

    document: DeploymentDocument
    rollout: RolloutDocument | None = None


class Obstacle(msgspec.Struct, frozen=True):
    """The reason that a deployment does not apply; `by` names the deployment that prevents it, if any."""

    reason: Reason
    by: str | None = None


class Weighed(msgspec.Struct, frozen=True):
    """The verdict on one deployment for one device, or for one of its modules.

    `created` is the fleet position of its creation, 0 if the projections do not have the deployment. `targeted` is the state in
    the projections; `holds` is the truth of the condition and the scope on the current twins (`None`: unknown). `rank` counts
    layers from 1. `then` is the obstacle that would remain if the deployment targeted the device.
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
        """Whether it is part of the device's assignment."""
        return self.verdict in {Verdict.BASE, Verdict.LAYER, Verdict.APPLIES}

    @property
    def is_settled(self) -> bool:
        """Whether the projections agree with the current twins."""
        return self.targeted == (self.holds is True)


class Setter(msgspec.Struct, frozen=True):
    """A deployment that sets a property, with the value; secrets show as `***`."""

    deployment: str
    value: Json


class Contest(msgspec.Struct, frozen=True):
    """A property that several layers of a stack set to different values; the value of the top one, `winner`, applies."""

    module: str
    path: str
    winner: Setter
    losers: tuple[Setter, ...]


class Standpoint(msgspec.Struct, frozen=True):
    """The vector of the projections and of the log, with the device's assignment; `ordinal` is `None` if they do not have the device."""

    number: int = 0
    vector: Vector = Vector()
    head: Vector = Vector()
    ordinal: int | None = None
    assignment: Assignment = NO_ASSIGNMENT

    @property
    def is_behind(self) -> bool:
        """Whether the log has events that the projections do not include."""
        return self.vector.partition < self.head.partition or self.vector.fleet < self.head.fleet
