"""ARRAY_CONTAINS: whether an array has an item (contract/hub.md §1.5, parents of a device)."""

from typing import Any

import pytest

from events.query.errors import QueryInvalid
from events.query.evaluate import holds, row_test
from events.query.parse import parse
from events.query.text import printed_query


def verdict(text: str, row: dict[str, Any]) -> bool | None:
    where = parse(f"SELECT * WHERE {text}").where
    said = holds(where, row)
    assert row_test(where)(row) is (said is True)
    return said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("array_contains(parentScopes, 'a')", True),
        ('Array_Contains ( ParentScopes , "a" )', True),
        ("array_contains(parentScopes, 'A')", False),
        ("array_contains(tags.mixed, 1)", True),
        ("array_contains(tags.mixed, 1.0)", True),
        ("array_contains(tags.mixed, -2)", True),
        ("array_contains(tags.mixed, true)", False),
        ("array_contains(tags.mixed, '1')", False),
        ("array_contains(tags.empty, 1)", False),
        ("array_contains(tags.text, 'a')", None),
        ("array_contains(tags.none, 'a')", None),
        ("NOT array_contains(parentScopes, 'b')", True),
        ("NOT array_contains(tags.none, 'b')", None),
        ("array_contains(parentScopes, 'a') AND array_contains(tags.mixed, 'x')", True),
    ],
)
def test_an_array_has_an_item_of_the_type_and_value_or_it_is_unknown(text: str, *, said: bool | None) -> None:
    row = {"parentScopes": ["a"], "tags": {"mixed": [1, "x", -2], "empty": [], "text": "a"}}
    assert verdict(text, row) is said


def test_it_is_printed_as_it_is_read() -> None:
    query = parse("select deviceId from devices where array_contains(parentScopes, 'it\\'s')")
    assert parse(printed_query(query)) == query


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("select * from devices where array_contains(parentScopes)", "expected a comma"),
        ("select * from devices where array_contains('a', parentScopes)", "expected a property"),
        ("select array_contains(parentScopes, 'a') from devices", "ARRAY_CONTAINS is allowed only in WHERE"),
    ],
)
def test_what_is_not_an_array_and_a_value_is_refused_with_what_is_expected(text: str, why: str) -> None:
    with pytest.raises(QueryInvalid, match=why):
        parse(text)
