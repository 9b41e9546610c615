"""Roaring bitmaps in one canonical byte form: equal sets, equal bytes."""

from pyroaring import BitMap


def to_bytes(members: BitMap) -> bytes:
    """Serialize a set so that the bytes depend on the members alone.

    Equal sets serialize differently depending on how they were built unless run-optimised alike (contract/redis-rq.md); and
    run-optimising keeps a run that is there already where it would not make one of the same size.
    """
    canonical = _without_runs(members)
    canonical.run_optimize()
    return bytes(canonical.serialize())


def from_bytes(data: bytes) -> BitMap:
    """The set that `to_bytes` wrote."""
    return _without_runs(BitMap.deserialize(data))


def seen(data: bytes) -> BitMap:
    """The set that `to_bytes` wrote, to look at: its containers are as they came, which takes a tenth of the time."""
    return BitMap.deserialize(data)


def _without_runs(members: BitMap) -> BitMap:
    """A copy made of arrays and bitsets, whose choice follows from their sizes."""
    if members.get_statistics()["n_run_containers"]:
        return BitMap(members.to_array())
    return BitMap(members)
