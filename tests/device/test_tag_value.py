"""Which value a tag has that comes as text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import tag_value
from events.properties import INTEGER_MAX, INTEGER_MIN
from services.cli.client import pairs


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("false", False),
        ("True", "True"),
        ("null", "null"),
        ("", None),
        ("2", 2),
        ("-1.5", -1.5),
        ("0", 0),
        ("1.0", 1.0),
        (str(INTEGER_MAX), INTEGER_MAX),
        (str(INTEGER_MIN), INTEGER_MIN),
        (str(INTEGER_MAX + 1), str(INTEGER_MAX + 1)),
        ("007", "007"),
        ("1.10", "1.10"),
        ("1e5", "1e5"),
        ("+1", "+1"),
        ("-0", "-0"),
        (" 2", " 2"),
        ("\u0663", "\u0663"),
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ("9" * 5000, "9" * 5000),
        ('"2"', "2"),
        ('""', ""),
        ('"true"', "true"),
        ('"open', '"open'),
        ("north", "north"),
        ("[1]", "[1]"),
        ('{"a": 1}', '{"a": 1}'),
    ],
)
def test_a_text_has_one_type_by_one_rule(text: str, value: object) -> None:
    assert json.dumps(tag_value(text)) == json.dumps(value)
    assert type(tag_value(text)) is type(value)
    assert json.dumps(pairs([f"name={text}"])) == json.dumps({"name": value})


@given(st.integers(INTEGER_MIN, INTEGER_MAX) | st.floats(allow_nan=False, allow_infinity=False))
def test_what_json_writes_as_a_number_is_that_number(number: float) -> None:
    value = tag_value(json.dumps(number))
    assert value == number or (isinstance(value, str) and "e" in value)


@given(st.text(min_size=1))
def test_any_text_can_be_had_as_text(text: str) -> None:
    assert tag_value(json.dumps(text)) == text
