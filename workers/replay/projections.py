"""The stored form of a partition held against another: every hash, field, array and number of the checkpoint."""

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from events.bitmaps import from_bytes
from events.log.keys import key
from events.number_text import counted
from events.readiness.effective import read_found
from events.stored_projection.stored_partition import ARRAYS, HASHES, StoredPartition
from workers.replay.first_difference import difference_of_bytes, first_difference
from workers.replay.report import ReplayDifference

_SETS = frozenset({"already", "before", "children", "index", "modules", "sets", "targets"})
_DEVICES_NAMED = 5


def count_of(kept: StoredPartition) -> int:
    """How many fields, arrays and checkpoints there are to compare."""
    return 1 + len(kept.arrays) + sum(map(len, kept.hashes.values()))


def differences(number: int, stored: StoredPartition, replayed: StoredPartition) -> Iterator[ReplayDifference]:
    """What is kept otherwise than the events give it."""
    pair: list[Any] = [msgspec.to_builtins(one.checkpoint) for one in (stored, replayed)]
    found = first_difference(*pair)
    if found is not None:
        path, one, other = found
        yield ReplayDifference(
            "checkpoint", key(number, "projection:checkpoint"), path=path, stored=one, replayed=other
        )
    for name in HASHES:
        fields = stored.hashes[name].keys() | replayed.hashes[name].keys()
        for field in sorted(fields):
            data, wanted = stored.hashes[name].get(field), replayed.hashes[name].get(field)
            if data != wanted and not _is_of_other_rules(name, data):
                yield _of_field(f"{key(number, f'projection:{name}')} {field}", name, data, wanted, replayed)
    for name in ARRAYS:
        if stored.arrays[name] != replayed.arrays[name]:
            yield _of_array(key(number, f"projection:{name}"), stored.arrays[name], replayed.arrays[name], replayed)


def _is_of_other_rules(name: str, data: bytes | None) -> bool:
    """What rules of another version found stands until the partition is read from its projections the next time."""
    return name == "readiness" and data is not None and read_found(data) is None


def _of_field(
    location: str, name: str, data: bytes | None, wanted: bytes | None, replayed: StoredPartition
) -> ReplayDifference:
    if name in _SETS and data is not None and wanted is not None:
        try:
            members = from_bytes(data)
        except ValueError:
            return ReplayDifference(
                "projection", location, stored="no set", replayed=counted(len(from_bytes(wanted)), "device")
            )
        differing = members ^ from_bytes(wanted)
        return ReplayDifference(
            "projection",
            location,
            stored=counted(len(members), "device"),
            replayed=counted(len(from_bytes(wanted)), "device"),
            devices=names_of(list(differing[:_DEVICES_NAMED]), replayed),
        )
    if name in _SETS:
        one, other = ("" if some is None else "a set" for some in (data, wanted))
        return ReplayDifference("projection", location, stored=one, replayed=other)
    path, one, other = difference_of_bytes(data, wanted) or ("$", "", "")
    return ReplayDifference("projection", location, path=path, stored=one, replayed=other)


def _of_array(location: str, stored: bytes, replayed: bytes, kept: StoredPartition) -> ReplayDifference:
    if len(stored) % 4:
        return ReplayDifference(
            "projection", location, stored=f"{len(stored)} bytes", replayed=f"{len(replayed)} bytes"
        )
    size = max(len(stored), len(replayed))
    one, other = (np.frombuffer(data.ljust(size, b"\0"), dtype="<u4") for data in (stored, replayed))
    differing = np.flatnonzero(one != other)
    if not len(differing):
        return ReplayDifference(
            "projection", location, stored=f"{len(stored)} bytes", replayed=f"{len(replayed)} bytes"
        )
    first = int(differing[0])
    return ReplayDifference(
        "projection",
        f"{location} [{first}]",
        stored=str(int(one[first])),
        replayed=str(int(other[first])),
        devices=names_of(differing[:_DEVICES_NAMED].tolist(), kept),
    )


def names_of(ordinals: list[int], kept: StoredPartition) -> tuple[str, ...]:
    """The devices of some ordinals, as far as they have an id."""
    ids: list[str] = []
    for page in range(len(kept.hashes["ids"])):
        ids += msgspec.json.decode(kept.hashes["ids"].get(str(page), b"[]"), type=list[str])
    return tuple(ids[ordinal] for ordinal in ordinals if ordinal < len(ids))
