"""One logic table: a missing property, or one of another type, makes a comparison unknown; only true targets (DESIGN §3)."""

import pytest

from events.properties import merge_patch
from events.query.condition import parse_condition
from events.query.evaluate import holds, twin_row
from events.query.parse import parse
from events.query.select import compile_select
from events.query.system_metric import targeted_query
from events.query.tree import Constant, Not, paths_of
from tests.query.test_select import Index

EDGE = "select deviceId from devices where capabilities.iotEdge = true"
# A null in a patch removes a tag: no twin has a null.
TAGS = merge_patch(
    {"gone": 1},
    {"s": "b", "n": 1, "f": 1.0, "on": True, "gone": None, "list": [1], "deep": {"er": {"x": 2}}, "big": 2**52},
)
ROW = twin_row("edge-1", TAGS, {"model": "4000x", "site": {"floor": 0}})


def verdict(text: str) -> bool | None:
    """The truth of a condition on the row, which a query with this WHERE and the selection by an index must repeat."""
    condition = parse_condition(text)
    truth = holds(condition, ROW)
    if not isinstance(condition, Constant):
        assert holds(parse(f"select * where {text}").where, ROW) is truth
    index = Index([ROW], frozenset({*paths_of(condition)}))
    assert [bool(compile_select(side)(index, None)) for side in (condition, Not(condition))] == [
        truth is True,
        truth is False,
    ]
    return truth


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("*", True),
        ("", False),
        ("tags.s = 'b'", True),
        ("tags.s = 'B'", False),
        ("tags.s != 'a'", True),
        ("tags.s > 'a'", True),
        ("tags.s < 'é'", True),
        ("tags.s >= 'b'", True),
        ("tags.s <= 'aa'", False),
        ("tags.n = 1.0", True),
        ("tags.f = 1", True),
        ("tags.n < 1.5", True),
        ("tags.n <> 2", True),
        ("tags.big >= 4503599627370496", True),
        ("tags.on = true", True),
        ("tags.on != false", True),
        ("tags.on = false", False),
        ("tags.deep.er.x = 2", True),
        ("properties.reported.model = '4000x'", True),
        ("properties.reported.site.floor = 0", True),
        ("deviceId = 'edge-1'", True),
        ("deviceId > 'edge-0'", True),
    ],
)
def test_a_comparison_with_a_value_of_its_type_is_true_or_false(text: str, expected: bool) -> None:  # noqa: FBT001
    assert verdict(text) is expected


@pytest.mark.parametrize(
    "text",
    [
        "tags.missing = 'b'",
        "tags.missing != 'b'",
        "tags.gone != 1",
        "tags.s = 1",
        "tags.s != 1",
        "tags.n = '1'",
        "tags.n = true",
        "tags.on = 1",
        "tags.on != 0",
        "tags.list = 1",
        "tags.deep = 'x'",
        "tags.deep.er != 'x'",
        "tags.s.below = 'x'",
        "deviceId = 1",
    ],
)
def test_a_missing_value_or_one_of_another_type_is_unknown_whatever_the_comparison(text: str) -> None:
    assert verdict(text) is None
    assert verdict(f"NOT {text}") is None
    assert verdict(f"{text} OR tags.s = 'b'") is True
    assert verdict(f"{text} AND tags.s = 'x'") is False
    assert verdict(f"{text} OR tags.s = 'x'") is None
    assert verdict(f"{text} AND tags.s = 'b'") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("is_defined(tags.s)", True),
        ("is_defined(tags.deep)", True),
        ("is_defined(tags.list)", True),
        ("is_defined(tags.gone)", False),
        ("is_defined(tags.missing)", False),
        ("is_defined(tags.s.below)", False),
        ("NOT is_defined(tags.missing)", True),
        ("is_defined(deviceId)", True),
    ],
)
def test_being_defined_is_never_unknown(text: str, expected: bool) -> None:  # noqa: FBT001
    assert verdict(text) is expected


@pytest.mark.parametrize(
    ("condition", "query"),
    [
        ("", ""),
        ("*", EDGE),
        ("tags.a = 'x'", f"{EDGE} and (tags.a = 'x')"),
        (
            "tags.a = 'it''s' OR NOT (tags.b = 1 AND is_defined(tags.[[c d]]))",
            f"{EDGE} and (tags.a = 'it\\'s' or not (tags.b = 1 and is_defined(tags.[[c d]])))",
        ),
        ("tags.a = 'back\\slash' NOT tags.on = true", f"{EDGE} and (tags.a = 'back\\\\slash' and not tags.on = true)"),
    ],
)
def test_a_condition_is_stored_as_a_query_of_the_same_meaning(condition: str, query: str) -> None:
    assert targeted_query(condition) == query


def test_a_configuration_of_own_twins_targets_by_a_query_of_all_devices() -> None:
    assert targeted_query(" ", own=True) == ""
    assert targeted_query("*", own=True) == "select deviceId from devices"
    condition = "tags.a = 'x' OR NOT tags.b = 1"
    assert targeted_query(condition, own=True) == "select deviceId from devices where tags.a = 'x' or not tags.b = 1"
