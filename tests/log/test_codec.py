from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from events import canonical
from events.envelope import Envelope, Principal
from events.log.codec import FIELDS, decode_entry
from events.log.errors import UnreadableEvent
from tests.log.test_golden import LINES, entry

FUZZ = settings(derandomize=True, deadline=None, max_examples=300)


def read(fields: dict[bytes, bytes]) -> Envelope[Any] | UnreadableEvent:
    try:
        return decode_entry("p00", 1, fields)
    except UnreadableEvent as error:
        return error


@FUZZ
@given(line=st.sampled_from(LINES), name=st.sampled_from(FIELDS), value=st.binary(max_size=30))
@example(LINES[0], "data", b"[" * 100_000)
@example(LINES[0], "data", b'{"type":"TwinPatched","tags":' + b'{"a":' * 100_000)
@example(LINES[0], "version", b"9" * 10_000)
@example(LINES[0], "subject", b"\xff")
def test_any_bytes_in_a_field_are_an_event_or_unreadable(line: tuple[str, str], name: str, value: bytes) -> None:
    fields = entry(line[1]) | {name.encode(): value}
    found = read(fields)
    if isinstance(found, UnreadableEvent):
        assert (found.stream, found.position) == ("p00", 1)
        assert len(str(found)) < 1000
    else:
        canonical.encode(found.event)


@FUZZ
@given(fields=st.dictionaries(st.sampled_from(FIELDS).map(str.encode) | st.binary(), st.binary()))
def test_any_fields_at_all_are_an_event_or_unreadable(fields: dict[bytes, bytes]) -> None:
    with pytest.raises(UnreadableEvent):
        decode_entry("fleet", 7, fields)


@pytest.mark.parametrize("text", ["", "ada", "user:", ":ada", "robot:ada", "user", None])
def test_a_principal_is_a_known_kind_and_an_id(text: Any) -> None:
    with pytest.raises((ValueError, AttributeError)):
        Principal.parse(text)


@given(st.text(min_size=1))
def test_a_principal_is_written_as_it_is_read(name: str) -> None:
    assert str(Principal.parse(f"user:{name}")) == f"user:{name}"
