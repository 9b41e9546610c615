"""Roaring bitmaps in one canonical byte form: equal sets, equal bytes."""

from pyroaring import BitMap


def to_bytes(members: BitMap) -> bytes:
    """Serialize a copy whose containers are run-optimised, so that the bytes depend on the members alone.

    Equal sets serialize differently depending on how they were built unless run-optimised alike (contract/redis-rq.md).
    """
    canonical = BitMap(members)
    canonical.run_optimize()
    canonical.shrink_to_fit()
    return bytes(canonical.serialize())


def from_bytes(data: bytes) -> BitMap:
    """The set that `to_bytes` wrote."""
    return BitMap.deserialize(data)
