"""Compares two stored forms of a partition: every hash, field, array and number of the checkpoint."""

from collections.abc import Iterator

import msgspec
import numpy as np

from events.bitmaps import from_bytes
from events.log.keys import key
from events.number_text import counted
from events.readiness.effective import read_findings
from events.stored_projection.stored_partition import ARRAYS, HASHES, StoredPartition, all_device_ids
from workers.replay.first_difference import difference_of_bytes, first_difference
from workers.replay.report import ReplayDifference

_SETS = frozenset({"already", "before", "children", "index", "modules", "sets", "targets"})
_DEVICES_NAMED = 5


def count_of(stored: StoredPartition) -> int:
    """How many fields, arrays and checkpoints there are to compare."""
    return 1 + len(stored.arrays) + sum(map(len, stored.hashes.values()))


def differences(number: int, stored: StoredPartition, replayed: StoredPartition) -> Iterator[ReplayDifference]:
    """Every part of a partition that is stored differently from what the events give."""
    difference = first_difference(msgspec.to_builtins(stored.checkpoint), msgspec.to_builtins(replayed.checkpoint))
    if difference is not None:
        yield ReplayDifference("checkpoint", key(number, "projection:checkpoint"), *difference)
    for name in HASHES:
        for field in sorted(stored.hashes[name].keys() | replayed.hashes[name].keys()):
            data, expected = stored.hashes[name].get(field), replayed.hashes[name].get(field)
            # Findings of an older version's readiness rules stay stored until a worker loads the partition the next time. They
            # are no sign of a damaged projection.
            is_of_other_rules = name == "readiness" and data is not None and read_findings(data) is None
            if data != expected and not is_of_other_rules:
                location = f"{key(number, f'projection:{name}')} {field}"
                if name in _SETS:
                    yield _of_set(location, data, expected, replayed)
                else:
                    first = difference_of_bytes(data, expected) or ("$", "", "")
                    yield ReplayDifference("projection", location, *first)
    for name in ARRAYS:
        if stored.arrays[name] != replayed.arrays[name]:
            yield _of_array(key(number, f"projection:{name}"), stored.arrays[name], replayed.arrays[name], replayed)


def _of_set(location: str, data: bytes | None, expected: bytes | None, replayed: StoredPartition) -> ReplayDifference:
    if data is None or expected is None:
        stored_text, replayed_text = ("" if side is None else "a set" for side in (data, expected))
        return ReplayDifference("projection", location, stored=stored_text, replayed=replayed_text)
    expected_members, ordinals = from_bytes(expected), list[int]()
    try:
        members = from_bytes(data)
        stored_text, ordinals = counted(len(members), "device"), list((members ^ expected_members)[:_DEVICES_NAMED])
    except ValueError:
        stored_text = "no set"
    return ReplayDifference(
        "projection",
        location,
        stored=stored_text,
        replayed=counted(len(expected_members), "device"),
        devices=_names_of(ordinals, replayed),
    )


def _of_array(location: str, stored: bytes, replayed: bytes, partition: StoredPartition) -> ReplayDifference:
    lengths = ReplayDifference("projection", location, stored=f"{len(stored)} bytes", replayed=f"{len(replayed)} bytes")
    # Arrays hold numbers of 4 bytes.
    if len(stored) % 4:
        return lengths
    size = max(len(stored), len(replayed))
    stored_numbers, replayed_numbers = (
        np.frombuffer(data.ljust(size, b"\0"), dtype="<u4") for data in (stored, replayed)
    )
    differing = np.flatnonzero(stored_numbers != replayed_numbers)
    if not len(differing):
        return lengths
    first = int(differing[0])
    return ReplayDifference(
        "projection",
        f"{location} [{first}]",
        stored=str(int(stored_numbers[first])),
        replayed=str(int(replayed_numbers[first])),
        devices=_names_of(differing[:_DEVICES_NAMED].tolist(), partition),
    )


def _names_of(ordinals: list[int], stored: StoredPartition) -> tuple[str, ...]:
    """The ids of the devices with these ordinals; ordinals without an id are skipped."""
    ids = all_device_ids(stored.hashes["ids"])
    return tuple(ids[ordinal] for ordinal in ordinals if ordinal < len(ids))
