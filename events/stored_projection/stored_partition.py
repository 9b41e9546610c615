"""The stored form of a partition: named hashes, packed arrays and a checkpoint, the same bytes for the same state."""

import msgspec
from msgspec import UNSET, UnsetType

from events import canonical
from events.envelope import Vector

HASHES = (
    "already",
    "before",
    "children",
    "configurations",
    "deliveries",
    "deployments",
    "ids",
    "index",
    "metrics",
    "modules",
    "ordinals",
    "readiness",
    "assignments",
    "sets",
    "signatures",
    "targets",
    "undelivered",
)
"""Field → bytes. `already` deployment → who ran the same before they were admitted; `before` [deployment, configuration] →
who had it, and was well, before they were admitted; `children` scope of a parent → who has it;
`ids` page → ids of 256 ordinals; `ordinals` device → ordinal; `index` [path, kind, value] → set;
`sets` and `targets` name → set, `name/module` where a deployment may be for any; `modules` module made by hand → who has
it; `metrics` metric → how many assignments; `deployments` name → place; `readiness` configuration → what rules found in it;
`undelivered` module → who does not have its section yet; `assignments`, `configurations`, `signatures` (runtime statuses by
module) and `deliveries` (delivered versions by module) by number or digest."""

ARRAYS = (
    "answer_codes",
    "answer_runtimes",
    "answer_signatures",
    "answer_versions",
    "delivered_of",
    "hand_written",
    "hub_codes",
    "hub_versions",
    "moved_by",
    "assignment_of",
    "twin_versions",
)
"""Little-endian unsigned 32-bit numbers by ordinal."""


def target_field(created: int, deployment_id: str) -> str:
    """`17:prod`: a deployment and the fleet position of its creation, which tells it from another of the same id."""
    return f"{created}:{deployment_id}"


class Checkpoint(msgspec.Struct, frozen=True):
    """How far a partition is applied, and the few numbers that its state has beside sets and arrays."""

    vector: Vector = Vector()
    at: int = 0
    assignment_changes: int = 0
    decided: Vector = Vector()
    ordinals: int = 0
    next_assignment: int = 1
    next_signature: int = 1
    next_delivery: int = 1
    over_budget: tuple[tuple[str, ...], ...] = ()
    named: tuple[tuple[str, ...], ...] = ()
    has_own: bool | UnsetType = UNSET
    """Set once there was a configuration of devices' own twins; until then no assignment has anything for one."""
    hand_writes: int = 0
    """How often desired properties were written by hand: devices that wait for that are told when it moves."""
    rebuilt: int | UnsetType = UNSET
    """How often what is kept was replaced by what the events give: copies of what it was are of no use from then on."""

    def is_indexed(self, path: tuple[str, ...]) -> bool:
        """Whether the index has a path: a tag within the budget, or what a deployment names."""
        return path in self.named or (path[0] == "tags" and len(path) > 1 and path not in self.over_budget)


class DeploymentRank(msgspec.Struct, frozen=True, array_like=True):
    """Where a deployment stands among others, beside the time of its creation; `admission` is the tag of its admission.

    `own` ones are for one twin of a device and no others' rivals: its own, or that of a `module`, which may be `EVERY_MODULE`.
    """

    priority: int
    layered: bool
    admission: str
    own: bool = False
    module: str = ""

    def to_bytes(self) -> bytes:
        """Canonical bytes; what is as it is for edge deployments is left out."""
        own = (self.own, self.module) if self.module else (self.own,) if self.own else ()
        return canonical.encode((self.priority, self.layered, self.admission, *own))

    @property
    def is_open(self) -> bool:
        """Whether it has started and not ended: otherwise it targets nobody."""
        return self.admission not in CLOSED


CLOSED = ("NotStarted", "Ended")


class AssignmentEntry(msgspec.Struct, frozen=True):
    """An assignment change as it goes into `{pNN}:assignments` at `position`.

    `at` is the time of the newest event that it is about, and `recorded` when a worker wrote it down; `None` in the log of a
    version that did not say so. Both in milliseconds, neither falls within a stream, and `recorded` is not before `at`.
    """

    position: int
    at: int
    cause: str
    data: bytes
    recorded: int | None = None

    @property
    def effective_from(self) -> int:
        """Since when it is in effect, in milliseconds."""
        return self.at if self.recorded is None else self.recorded


class Writes(msgspec.Struct, frozen=True):
    """What one commit changes. A field set to `None` goes; array bytes are written at their offsets."""

    expected: Checkpoint
    checkpoint: Checkpoint
    hashes: dict[str, dict[str, bytes | None]]
    arrays: dict[str, tuple[tuple[int, bytes], ...]]
    assignment_change: AssignmentEntry | None


class StoredPartition(msgspec.Struct, frozen=True):
    """Everything that is kept of a partition."""

    checkpoint: Checkpoint
    hashes: dict[str, dict[str, bytes]]
    arrays: dict[str, bytes]
