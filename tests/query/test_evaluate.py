from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings

from events.query.condition import parse_condition
from events.query.errors import ConditionInvalid
from events.query.evaluate import holds, projected, row_test
from events.query.parse import parse
from events.query.tree import Expression
from tests.query.given import rows, wheres
from tests.query.reference import verdict as verdict_of

ROW: dict[str, Any] = {
    "deviceId": "edge1",
    "tags": {
        "site": "north",
        "n": 5,
        "f": 2.5,
        "on": True,
        "off": False,
        "none": None,
        "list": [1],
        "one": 1,
        "s": "5",
    },
    "properties": {
        "desired": {"$version": 3},
        "reported": {"lastDesiredVersion": 3, "lastDesiredStatus": {"code": 200}},
    },
    "configurations": {"my-conf": {"status": "Applied"}},
    "capabilities": {"iotEdge": True},
}


def said(condition: str) -> bool | None:
    return holds(parse(f"select * where {condition}").where, ROW)


@pytest.mark.parametrize(
    ("condition", "verdict"),
    [
        ("tags.site = 'north'", True),
        ("tags.site = 'North'", False),
        ("tags.site < 'z' and tags.site > 'Z'", True),
        ("tags.n = 5.0", True),
        ("tags.n != 5", False),
        ("tags.f <= 2.5", True),
        ("5 > tags.f", True),
        ("tags.on = true", True),
        ("tags.off = true", False),
        ("tags.off != true", True),
        # Of another type.
        ("tags.n = '5'", None),
        ("tags.s != 5", None),
        ("tags.one = true", None),
        ("tags.on = 1", None),
        ("tags.site < 1", None),
        ("tags.list = 1", None),
        ("tags = 'north'", None),
        # Booleans have no order.
        ("tags.off < true", None),
        ("tags.on >= true", None),
        # Missing.
        ("tags.missing = 1", None),
        ("tags.missing != 1", None),
        ("not tags.missing = 1", None),
        ("tags.site.deeper = 'x'", None),
        ("tags.missing = undefined", None),
        ("undefined = undefined", None),
        ("managedBy = 'x'", None),
        # Null.
        ("tags.none = null", True),
        ("tags.none != null", False),
        ("tags.none >= null", None),
        ("tags.site = null", None),
        ("tags.site != null", None),
        ("tags.missing = null", None),
        ("is_defined(tags.none)", True),
        ("is_defined(tags.missing)", False),
        ("not is_defined(tags.missing)", True),
        # Three values.
        ("tags.missing = 1 or tags.n = 5", True),
        ("tags.missing = 1 or tags.n = 6", None),
        ("tags.missing = 1 and tags.n = 5", None),
        ("tags.missing = 1 and tags.n = 6", False),
        ("not (tags.missing = 1 and tags.n = 6)", True),
        # Lists: equal to one of them.
        ("tags.n in [1, 5]", True),
        ("tags.n in [1, 2]", False),
        ("tags.n nin [1, 2]", True),
        ("tags.n in ['x', 5]", True),
        ("tags.n in ['x', 1]", None),
        ("tags.n nin ['x', 1]", None),
        ("tags.missing nin [1]", None),
        ("tags.none in [1, null]", True),
        # Bare values.
        ("tags.on", True),
        ("tags.off", False),
        ("not tags.off", True),
        ("tags.n", None),
        ("tags.missing", None),
        ("true", True),
        ("false or null", None),
        ("'true'", None),
        ("tags.n + 1", None),
        ("(tags.n = 5) = true", True),
        ("(tags.missing = 5) = false", None),
        # Numbers.
        ("tags.n + 2 * tags.f = 10", True),
        ("tags.n - 6 = -1", True),
        ("-tags.n = -5", True),
        ("tags.n / 2 = 2.5", True),
        ("tags.n % 3 = 2", True),
        ("-tags.n % 3 = -2", True),
        ("-tags.f % 2 = -0.5", True),
        ("tags.n / 0 = 1", None),
        ("tags.n % 0 != 1", None),
        ("tags.f % 0 != 1", None),
        ("tags.site + 1 = 1", None),
        ("tags.on + 1 = 2", None),
        ("1e308 * 10 > 1", None),
        ("9e18 * 9223372036854775807 * 9223372036854775807 > 1", True),
        # What metrics ask.
        ("configurations.[[my-conf]].status = 'Applied'", True),
        ("properties.desired.$version = properties.reported.lastDesiredVersion", True),
        ("properties.reported.lastDesiredStatus.code != 200", False),
        ("devices.capabilities.iotEdge = true", True),
        ("DeviceId != ''", True),
    ],
)
def test_a_condition_says_of_a_row(condition: str, verdict: bool | None) -> None:  # noqa: FBT001 - three truth values
    assert said(condition) is verdict
    assert row_test(parse(f"select * where {condition}").where)(ROW) is (verdict is True)
    # What is a target condition, too, says the same of the same row.
    with suppress(ConditionInvalid):
        assert holds(parse_condition(condition), ROW) is verdict


def test_a_result_beyond_what_floats_hold_is_undefined() -> None:
    factors = " * ".join(["9223372036854775807"] * 20)
    assert said(f"{factors} > 1") is None
    assert said(f"{factors} * 0.5 > 1") is None


def test_without_a_condition_every_row_is_selected() -> None:
    assert holds(None, {}) is True
    assert row_test(None)({})


@settings(derandomize=True, deadline=None, max_examples=400)
@given(wheres, rows)
def test_what_holds_is_what_the_plain_reading_says(where: Expression, row: dict[str, Any]) -> None:
    assert holds(where, row) is verdict_of(where, row)
    assert row_test(where)(row) is (verdict_of(where, row) is True)


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("select *", ROW),
        ("select deviceId", {"deviceId": "edge1"}),
        (
            "select tags.site as s, properties.reported.lastDesiredStatus, tags.missing",
            {"s": "north", "lastDesiredStatus": {"code": 200}},
        ),
        ("select tags.none, tags.list", {"none": None, "list": [1]}),
        ("select properties.desired.$version as a, tags.n, tags.n", {"a": 3, "n": 5, "n2": 5}),
        ("select tags.missing", {}),
    ],
)
def test_a_row_is_shown_under_the_keys_of_the_query(query: str, shown: dict[str, Any]) -> None:
    assert projected(parse(query), ROW) == shown
