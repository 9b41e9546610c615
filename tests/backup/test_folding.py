"""What is beside the log is folded past facts that do not fold, and past nothing else."""

from collections.abc import Iterator

import msgspec
import pytest

from events.backup.folding import Folding
from events.log.raw import RawEntry


def _entry(position: int, kind: str, data: bytes, *, version: int = 1) -> RawEntry:
    fields = {"type": kind, "subject": "d0", "version": version, "at": position, "by": "user:ada", "cause": ""}
    return RawEntry(position, {**{name.encode(): str(value).encode() for name, value in fields.items()}, b"data": data})


REGISTERED = _entry(1, "DeviceRegistered", b'{"type":"DeviceRegistered","edge":true}')
ENTRIES = [
    REGISTERED,
    _entry(2, "DeploymentDeleted", b'{"type":"DeploymentDeleted"}', version=2),
    _entry(3, "X", b"{", version=2),
    _entry(4, "TwinPatched", b'{"type":"TwinPatched","tags":{"n":1}}', version=2),
]


def test_a_fact_that_does_not_fold_is_named_and_those_behind_it_are_folded() -> None:
    folding = Folding("p00", lambda: iter(ENTRIES), ())
    documents = folding.run()
    assert folding.unfolded == ["p00:2", "p00:3"]
    assert (folding.heads, folding.at) == ({"d0": b"2:1"}, 4)
    assert msgspec.json.decode(documents["d0"])["tags"] == {"n": 1}


def test_an_entry_that_cannot_be_had_is_no_fact_that_does_not_fold() -> None:
    turns = iter([REGISTERED, None])

    def entries() -> Iterator[RawEntry]:
        for one in turns:
            if one is None:
                raise RuntimeError("the disk is on fire")
            yield one

    folding = Folding("p00", entries, ())
    with pytest.raises(RuntimeError, match="on fire"):
        folding.run()
    assert folding.unfolded == []
