"""The kept form of a partition held against another: every hash, field, array and number of the checkpoint."""

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from events.bitmaps import from_bytes
from events.log.keys import key
from events.readiness.effective import read_found
from events.views.kept import ARRAYS, HASHES, Kept
from events.wording import counted
from workers.replay.differing import difference_of_bytes, first_difference
from workers.replay.report import Difference

_SETS = frozenset({"already", "before", "children", "index", "modules", "sets", "targets"})
_DEVICES_NAMED = 5


def count_of(kept: Kept) -> int:
    """How many fields, arrays and checkpoints there are to compare."""
    return 1 + len(kept.arrays) + sum(map(len, kept.hashes.values()))


def differences(number: int, stored: Kept, folded: Kept) -> Iterator[Difference]:
    """What is kept otherwise than the facts give it."""
    pair: list[Any] = [msgspec.to_builtins(one.checkpoint) for one in (stored, folded)]
    found = first_difference(*pair)
    if found is not None:
        path, one, other = found
        yield Difference("checkpoint", key(number, "view:checkpoint"), path=path, stored=one, folded=other)
    for name in HASHES:
        fields = stored.hashes[name].keys() | folded.hashes[name].keys()
        for field in sorted(fields):
            data, wanted = stored.hashes[name].get(field), folded.hashes[name].get(field)
            if data != wanted and not _is_of_other_rules(name, data):
                yield _of_field(f"{key(number, f'view:{name}')} {field}", name, data, wanted, folded)
    for name in ARRAYS:
        if stored.arrays[name] != folded.arrays[name]:
            yield _of_array(key(number, f"view:{name}"), stored.arrays[name], folded.arrays[name], folded)


def _is_of_other_rules(name: str, data: bytes | None) -> bool:
    """What rules of another version found stands until the partition is read from its views the next time."""
    return name == "readiness" and data is not None and read_found(data) is None


def _of_field(place: str, name: str, data: bytes | None, wanted: bytes | None, folded: Kept) -> Difference:
    if name in _SETS and data is not None and wanted is not None:
        try:
            members = from_bytes(data)
        except ValueError:
            return Difference("view", place, stored="no set", folded=counted(len(from_bytes(wanted)), "device"))
        differing = members ^ from_bytes(wanted)
        return Difference(
            "view",
            place,
            stored=counted(len(members), "device"),
            folded=counted(len(from_bytes(wanted)), "device"),
            devices=names_of(list(differing[:_DEVICES_NAMED]), folded),
        )
    if name in _SETS:
        one, other = ("" if some is None else "a set" for some in (data, wanted))
        return Difference("view", place, stored=one, folded=other)
    path, one, other = difference_of_bytes(data, wanted) or ("$", "", "")
    return Difference("view", place, path=path, stored=one, folded=other)


def _of_array(place: str, stored: bytes, folded: bytes, kept: Kept) -> Difference:
    if len(stored) % 4:
        return Difference("view", place, stored=f"{len(stored)} bytes", folded=f"{len(folded)} bytes")
    size = max(len(stored), len(folded))
    one, other = (np.frombuffer(data.ljust(size, b"\0"), dtype="<u4") for data in (stored, folded))
    differing = np.flatnonzero(one != other)
    if not len(differing):
        return Difference("view", place, stored=f"{len(stored)} bytes", folded=f"{len(folded)} bytes")
    first = int(differing[0])
    return Difference(
        "view",
        f"{place} [{first}]",
        stored=str(int(one[first])),
        folded=str(int(other[first])),
        devices=names_of(differing[:_DEVICES_NAMED].tolist(), kept),
    )


def names_of(ordinals: list[int], kept: Kept) -> tuple[str, ...]:
    """The devices of some ordinals, as far as they have an id."""
    ids: list[str] = []
    for page in range(len(kept.hashes["ids"])):
        ids += msgspec.json.decode(kept.hashes["ids"].get(str(page), b"[]"), type=list[str])
    return tuple(ids[ordinal] for ordinal in ordinals if ordinal < len(ids))
