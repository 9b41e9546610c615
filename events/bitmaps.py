"""Encodes Roaring bitmaps so that equal sets have equal bytes."""

from typing import TYPE_CHECKING

from pyroaring import BitMap

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def to_bytes(members: BitMap) -> bytes:
    """The bytes of a set, which depend only on its members."""
    # Equal sets serialised to 15 or to 8,208 bytes, depending on how they were built (contract/redis-rq.md). Run-optimising is
    # not enough: it keeps an existing run where it would not make a new one. So the runs are removed first.
    canonical = _without_runs(members)
    canonical.run_optimize()
    return bytes(canonical.serialize())


def from_bytes(data: bytes) -> BitMap:
    """The set of these bytes."""
    return _without_runs(BitMap.deserialize(data))


def as_stored(data: bytes) -> BitMap:
    """The set of these bytes with its containers as they are stored; takes a tenth of the time of `from_bytes`."""
    return BitMap.deserialize(data)


def members_where(holds: "npt.NDArray[np.bool_]") -> BitMap:
    """The set of the indices at which an array is true."""
    import numpy as np  # noqa: PLC0415 - slow to import, and a producer, which imports this module, has no arrays

    return BitMap(np.flatnonzero(holds).astype(np.uint32))


def _without_runs(members: BitMap) -> BitMap:
    """A copy whose containers are arrays and bitsets; which of the two depends only on their sizes."""
    if members.get_statistics()["n_run_containers"]:
        return BitMap(members.to_array())
    return BitMap(members)
