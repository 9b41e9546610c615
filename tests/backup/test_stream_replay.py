"""A replay skips events that cannot be applied, and no others."""

import itertools
from collections.abc import Iterator

import msgspec
import pytest

from events.backup.document_repair import replay_stream
from events.log.entries import RawEntry
from events.log.port import Head


def _entry(position: int, kind: str, data: bytes, *, version: int = 1, subject: str = "d0") -> RawEntry:
    fields = {"type": kind, "subject": subject, "version": version, "at": position, "by": "user:ada", "cause": ""}
    return RawEntry(position, {**{name.encode(): str(value).encode() for name, value in fields.items()}, b"data": data})


REGISTERED = _entry(1, "DeviceRegistered", b'{"type":"DeviceRegistered","edge":true}')
ENTRIES = [
    REGISTERED,
    _entry(2, "DeploymentDeleted", b'{"type":"DeploymentDeleted"}', version=2),
    _entry(3, "X", b"{", version=2),
    _entry(4, "TwinPatched", b'{"type":"TwinPatched","tags":{"n":1}}', version=2),
]


def test_an_event_that_does_not_apply_is_named_and_those_behind_it_are_applied() -> None:
    replay = replay_stream("p00", lambda: iter(ENTRIES))
    assert replay.unapplied == ("p00:2", "p00:3")
    (stored,) = replay.subjects.values()
    assert (list(replay.subjects), stored.head, replay.at) == (["d0"], Head(2, 1), 4)
    assert msgspec.json.decode(stored.snapshot or b"")["tags"] == {"n": 1}


def test_events_of_a_device_whose_registration_is_lost_are_named_in_one_pass_and_leave_nothing_behind() -> None:
    passes = itertools.count(1)
    number = 0
    lost = [_entry(5, "DeviceRegistered", b"{", subject="d1")]
    for position in range(6, 56):
        subject = ("d1", "d1/m")[position % 2]
        data = b'{"type":"TwinPatched","tags":{"n":1}}'
        lost.append(_entry(position, "TwinPatched", data, version=position, subject=subject))

    def entries() -> Iterator[RawEntry]:
        nonlocal number
        number = next(passes)
        return iter([*ENTRIES, *lost])

    replay = replay_stream("p00", entries)
    assert number == 1
    assert replay.unapplied == ("p00:2", "p00:3", *(f"p00:{position}" for position in range(5, 56)))
    assert {subject: stored.head for subject, stored in replay.subjects.items()} == {"d0": Head(2, 1)}


def test_events_of_the_fleet_that_do_not_apply_move_no_head() -> None:
    fleet = [
        _entry(1, "DeploymentDeleted", b'{"type":"DeploymentDeleted"}', version=7, subject="deployment:a"),
        _entry(2, "DeviceRegistered", b'{"type":"DeviceRegistered","edge":true}', subject="deployment:b"),
    ]
    replay = replay_stream("fleet", lambda: iter(fleet))
    assert replay.subjects == {}


def test_an_entry_that_cannot_be_had_is_no_event_that_does_not_apply() -> None:
    turns = iter([REGISTERED, None])

    def entries() -> Iterator[RawEntry]:
        for one in turns:
            if one is None:
                raise RuntimeError("the disk is on fire")
            yield one

    with pytest.raises(RuntimeError, match="on fire"):
        replay_stream("p00", entries)
