"""The faults that verification finds in the log."""

import enum

import msgspec


class FaultKind(enum.Enum):
    """Kinds of faults: of entries, of the archive's files, and of seals."""

    CHANGED = "changed"
    DROPPED = "dropped"
    REORDERED = "reordered"
    INSERTED = "inserted"
    MISSING = "missing"
    SEGMENT = "segment"
    SEAL_CHANGED = "seal-changed"
    SEAL_DROPPED = "seal-dropped"
    SEAL_INSERTED = "seal-inserted"
    SEAL_SIGNATURE = "seal-signature"


class Fault(msgspec.Struct, frozen=True):
    """A fault: `location` is `p03:17`, `p03:17-20` or `seal 5`, `what` the rest of the sentence."""

    kind: FaultKind
    location: str
    what: str
