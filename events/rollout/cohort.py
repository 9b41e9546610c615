"""The order in which a rollout admits devices: by a stable hash of rollout and device, different for every rollout."""

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap

from events.rollout.sets import FleetSet

Hashes = npt.NDArray[np.uint64]

# The constants of splitmix64. Mixing two hashes with it puts a million devices in order in 0.1 s; BLAKE2b of every pair of
# rollout and device would take a call for each (docs/decisions/0023).
_GOLDEN, _FIRST, _SECOND = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def hashes_of(device_ids: Iterable[str]) -> Hashes:
    """64 bits of the BLAKE2b digest of each id; they never change, so that the scheduler hashes a device once and caches it."""
    # Python's own hash differs between processes, and the order must be the same after a restart.
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in device_ids)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def ranks(rollout: str, hashes: Hashes) -> Hashes:
    """The rank of each device in a rollout's order, lowest first: the mix of both hashes (splitmix64)."""
    mixed: Hashes = hashes ^ hashes_of([rollout])[0]
    with np.errstate(over="ignore"):
        mixed = mixed + _GOLDEN
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    mixed ^= mixed >> np.uint64(31)
    return mixed


def place(candidates: FleetSet, rollout: str, hashes: dict[int, Hashes], *, number: int, ordinal: int) -> int:
    """The place (from 1) of a device among the candidates in a rollout's order: `first` includes it from this limit on."""
    mine = (ranks(rollout, hashes[number][[ordinal]])[0], number, ordinal)
    before = 0
    for other, members in sorted(candidates.by_partition.items()):
        ordinals = np.array(members, dtype=np.uint32)
        ranked = ranks(rollout, hashes[other][ordinals])
        before += int((ranked < mine[0]).sum())
        if other <= number:
            # Of equal ranks the lower partition and ordinal come first.
            before += int(((ranked == mine[0]) & ((other < number) | (ordinals < ordinal))).sum())
    return before + 1


def first(candidates: FleetSet, limit: int, rollout: str, hashes: dict[int, Hashes]) -> FleetSet:
    """The first candidates in a rollout's order, at most `limit`; `hashes` by partition and ordinal."""
    if limit <= 0:
        return FleetSet({})
    if limit >= len(candidates):
        return candidates
    numbers = sorted(candidates.by_partition)
    ordinals = [np.array(candidates.of_partition(number), dtype=np.uint32) for number in numbers]
    ranked = np.concatenate(
        [
            ranks(rollout, hashes[number][partition_ordinals])
            for number, partition_ordinals in zip(numbers, ordinals, strict=True)
        ]
    )
    # Of equal ranks the lower partition and ordinal come first, so that exactly `limit` devices are chosen.
    chosen = np.zeros(len(ranked), dtype=bool)
    chosen[np.argsort(ranked, kind="stable")[:limit]] = True
    chosen_by_partition, start = {}, 0
    for number, partition_ordinals in zip(numbers, ordinals, strict=True):
        chosen_by_partition[number] = BitMap(partition_ordinals[chosen[start : start + len(partition_ordinals)]])
        start += len(partition_ordinals)
    return FleetSet(chosen_by_partition)
