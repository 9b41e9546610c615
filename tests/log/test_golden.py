"""Every event that ever landed in a log is read forever: `golden/` holds entries as they were written, and is only added to."""

import json
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from events import canonical
from events.envelope import Principal
from events.log.codec import FIELDS, decode_entry, type_of
from events.log.errors import UnreadableEvent
from events.log.port import Event

GOLDEN = Path(__file__).parent / "golden"
LINES = [(path.stem, line) for path in sorted(GOLDEN.glob("*.jsonl")) for line in path.read_text().splitlines()]


def entry(line: str) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() for name, value in json.loads(line).items()}


@pytest.mark.parametrize(("name", "line"), LINES)
def test_an_entry_of_long_ago_reads_as_ever_and_would_be_written_the_same(name: str, line: str) -> None:
    fields = entry(line)
    assert tuple(field.decode() for field in fields) == FIELDS
    envelope = decode_entry("p00", 7, fields)
    assert (envelope.position, envelope.by, type_of(envelope.event)) == (7, Principal.parse("user:ada"), name)
    assert str(envelope.version).encode() == fields[b"version"]
    assert str(envelope.at).encode() == fields[b"at"]
    assert canonical.encode(envelope.event) == fields[b"data"]


def test_every_event_there_is_has_a_golden_file() -> None:
    assert {event.__name__ for event in get_args(Event)} == {path.stem for path in GOLDEN.glob("*.jsonl")}


@pytest.mark.parametrize("event", get_args(Event), ids=lambda event: event.__name__)
def test_the_golden_entries_of_an_event_set_every_member_of_it(event: Any) -> None:
    lines = (GOLDEN / f"{event.__name__}.jsonl").read_text().splitlines()
    events = [msgspec.json.decode(json.loads(line)["data"], type=event) for line in lines]
    defaults = {field.name: field.default for field in msgspec.structs.fields(event)}
    for name, default in defaults.items():
        assert any(getattr(one, name) != default for one in events), name


def test_an_event_of_an_older_shape_is_brought_up_to_date_as_it_is_read() -> None:
    fields = entry(LINES[0][1]) | {b"type": b"DeviceJoined", b"data": b'{"type":"DeviceJoined","kind":"edge"}'}
    with pytest.raises(UnreadableEvent, match="DeviceJoined"):
        decode_entry("p00", 1, fields)

    def registered(old: dict[str, Any]) -> dict[str, Any]:
        return {"type": "DeviceRegistered", "edge": old["kind"] == "edge", "enabled": False}

    envelope = decode_entry("p00", 1, fields, upcasters={b"DeviceJoined": registered})
    assert (type_of(envelope.event), getattr(envelope.event, "enabled", None)) == ("DeviceRegistered", False)


@pytest.mark.parametrize("missing", [name for name in FIELDS if name != "type"])
def test_an_entry_without_a_field_is_named(missing: str) -> None:
    fields = entry(LINES[0][1])
    del fields[missing.encode()]
    with pytest.raises(UnreadableEvent, match=missing):
        decode_entry("p00", 1, fields)
