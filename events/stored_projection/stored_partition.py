"""The stored form of a partition: named hashes, packed arrays and a checkpoint, the same bytes for the same state."""

from collections.abc import Mapping
from itertools import chain

import msgspec
from msgspec import UNSET, UnsetType

from events import canonical
from events.envelope import Vector

HASHES = (
    "already",  # deployment → set that ran the same configuration before its admission
    "applied",  # as `targets` → `Applied`, if the deployment is open and not all targeted devices run it
    "before",  # [deployment, configuration] → set that had it, and was healthy, before its admission
    "children",  # scope of a parent → set of its children
    "configurations",  # by digest
    "counts",  # id of a deployment → `DeploymentCounts`
    "deliveries",  # delivered versions by module, by number
    "deployments",  # deployment → `DeploymentRank`
    "ids",  # page → ids of 256 ordinals
    "index",  # [path, kind, value] → set
    "metrics",  # [position of the deployment's creation, deployment, metric] → number of rows
    "modules",  # module made by hand → set that has it
    "ordinals",  # device → ordinal
    "readiness",  # configuration → findings of the rules
    "assignments",  # by number
    "sets",  # name → set
    "signatures",  # runtime statuses by module, by number
    "targets",  # deployment → set, `deployment/module` if it can be for any module
    "undelivered",  # module → set that has not received its section
)
"""The hashes, each from a field to bytes; a set is a canonical set of ordinals (docs/decisions/0012)."""

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
    """`17:prod`: the field of a deployment, with the fleet position of its creation."""
    # An id can be used again after a deletion; the position tells the two deployments apart.
    return f"{created}:{deployment_id}"


class Checkpoint(msgspec.Struct, frozen=True):
    """The position up to which a partition is applied, and the numbers of its state beside sets and arrays."""

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
    """Set for ever once there was a configuration of devices' own twins; until then no assignment has a part for them."""
    hand_writes: int = 0
    """The number of writes to desired properties by hand; waiting devices are notified when it changes."""
    rebuilt: int | UnsetType = UNSET
    """The number of rebuilds that replaced the stored form; copies of an earlier form are invalid."""
    own_event: str | UnsetType = UNSET
    fleet_event: str | UnsetType = UNSET
    """The digests of the last events applied (`event_digest`), without which a position that was lost and given to another
    event would look the same."""

    def is_indexed(self, path: tuple[str, ...]) -> bool:
        """Whether the index has a path: a tag within the budget, or a path that a deployment names."""
        return path in self.named or (path[0] == "tags" and len(path) > 1 and path not in self.over_budget)


class DeploymentRank(msgspec.Struct, frozen=True, array_like=True):
    """The rank of a deployment, without the position of its creation; `admission` is the tag of its admission.

    An `own` deployment configures one twin and has no rivals: the device's own, or that of `module`, which can be `EVERY_MODULE`.
    """

    priority: int
    layered: bool
    admission: str
    own: bool = False
    module: str = ""

    def to_bytes(self) -> bytes:
        """Canonical bytes."""
        # Members with the values of edge deployments are left out: fleets without other kinds keep the bytes of before.
        own = (self.own, self.module) if self.module else (self.own,) if self.own else ()
        return canonical.encode((self.priority, self.layered, self.admission, *own))

    @property
    def is_open(self) -> bool:
        """Whether it has started and not ended; otherwise it targets no device."""
        return self.admission not in {"NotStarted", "Ended"}


class AssignmentEntry(msgspec.Struct, frozen=True):
    """An assignment change as it is appended to `{pNN}:assignments` at `position`.

    `at` is the time of the newest event that led to it, and `recorded` the time when a worker recorded it, or `None` in logs of
    earlier versions. Both are milliseconds and never decrease within a stream; `recorded` is not before `at`.
    """

    position: int
    at: int
    cause: str
    data: bytes
    recorded: int | None = None

    @property
    def effective_from(self) -> int:
        """The time from which it is in effect, in milliseconds."""
        return self.at if self.recorded is None else self.recorded


class Writes(msgspec.Struct, frozen=True):
    """The changes of one commit. A field with `None` is deleted; array bytes are written at their offsets."""

    expected: Checkpoint
    checkpoint: Checkpoint
    hashes: dict[str, dict[str, bytes | None]]
    arrays: dict[str, tuple[tuple[int, bytes], ...]]
    assignment_change: AssignmentEntry | None


def all_device_ids(pages: Mapping[str, bytes]) -> list[str]:
    """The device id of every ordinal, retired devices included; `pages` is the hash `ids`."""
    decoded = (msgspec.json.decode(pages[str(page)], type=list[str]) for page in range(len(pages)))
    return list(chain.from_iterable(decoded))


class StoredPartition(msgspec.Struct, frozen=True):
    """Everything that is stored of a partition."""

    checkpoint: Checkpoint
    hashes: dict[str, dict[str, bytes]]
    arrays: dict[str, bytes]
