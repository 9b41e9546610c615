import copy
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import canonical
from events.properties import INTEGER_MAX, INTEGER_MIN, is_secret, merge_patch, patch_between, problems_of, size_of
from tests.manifest.values import anything, objects


def rules(value: object, **how: Any) -> list[tuple[str, str]]:
    return [(one.path, one.rule) for one in problems_of(value, root="tags", size_bytes_max=8192, **how)]


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({"a": "foo"}, {"a": {"b": None, "c": 1}}, {"a": {"c": 1}}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_rfc_7386_says(
    target: dict[str, Any], patch: dict[str, Any], result: dict[str, Any]
) -> None:
    assert merge_patch(target, patch) == result


@settings(derandomize=True, deadline=None, max_examples=200)
@given(objects, objects)
def test_a_merge_patch_changes_neither_argument_and_twice_is_once(
    target: dict[str, Any], patch: dict[str, Any]
) -> None:
    kept = copy.deepcopy((target, patch))
    once = merge_patch(target, patch)
    assert (target, patch) == kept
    assert merge_patch(once, patch) == once


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {"end": 1}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "value",
    [
        {"k" * 256: 1},
        {"k": "x" * 4096},
        {"k": "ä" * 2048},
        {"k": INTEGER_MAX},
        {"k": INTEGER_MIN},
        {"k": 1.5, "l": True, "m": [1, "x", {"y": 2}]},
        {"a": nested(10)},
        {"k-_:;,'\"!?": 1},
    ],
)
def test_what_keeps_every_limit_has_no_problem(value: dict[str, Any]) -> None:
    assert rules(value) == []


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"k" * 1025: 1}, [("tags." + "k" * 80 + "…", "key-length")]),
        ({"k": "x" * 4097}, [("tags.k", "string-length")]),
        ({"k": "ä" * 2049}, [("tags.k", "string-length")]),
        ({"k": INTEGER_MAX + 1}, [("tags.k", "integer-range")]),
        ({"k": INTEGER_MIN - 1}, [("tags.k", "integer-range")]),
        ({"k": math.nan, "l": math.inf}, [("tags.k", "number-finite"), ("tags.l", "number-finite")]),
        ({"a.b": 1, "$c": 1, "d e": 1, "f#": 1, "g\x01": 1}, None),
        ({"k": "\ud800"}, [("tags.k", "string-unicode")]),
        ({"k": None}, [("tags.k", "null")]),
        ({"k": [1, None]}, [("tags.k[1]", "null")]),
        ({"k": object()}, [("tags.k", "type")]),
        ({7: 1}, [("tags.7", "type")]),
        ([], [("tags", "type")]),
        (None, [("tags", "type")]),
    ],
)
def test_each_problem_names_its_path_and_its_rule(value: object, found: list[tuple[str, str]] | None) -> None:
    if found is None:
        assert {rule for _, rule in rules(value)} == {"key-characters"}
        assert len(rules(value)) == 5
    else:
        assert rules(value) == found


def test_depth_and_size_are_bounded_and_told_with_limit_and_actual_value() -> None:
    (problem,) = problems_of({"a": nested(11)}, root="tags", size_bytes_max=8192)
    assert (problem.rule, problem.limit, problem.actual) == ("depth", 10, 11)
    (problem,) = problems_of({"a": "x" * 4000, "b": "x" * 4000, "c": "x" * 191}, root="tags", size_bytes_max=8192)
    assert (problem.rule, problem.limit, problem.actual) == ("size", 8192, 8194)
    assert "8192" in problem.message
    assert "8194" in problem.message


@settings(derandomize=True, deadline=None, max_examples=300)
@given(objects, objects)
def test_the_patch_between_two_objects_leads_from_one_to_the_other(one: dict[str, Any], two: dict[str, Any]) -> None:
    before, after = merge_patch({}, one), merge_patch({}, two)
    patch = patch_between(before, after)
    assert canonical.encode(merge_patch(before, patch)) == canonical.encode(after)
    assert patch_between(after, after) == {}


def test_the_patch_between_objects_tells_numbers_and_booleans_apart() -> None:
    assert patch_between({"a": 1, "b": {"c": 1}}, {"a": True, "b": {"c": 1.0}}) == {"a": True, "b": {"c": 1.0}}


def test_a_patch_may_hold_nulls_that_remove_and_none_in_arrays() -> None:
    assert rules({"a": None, "b": {"c": None}}, nulls_allowed=True) == []
    assert rules({"a": [None]}, nulls_allowed=True) == [("tags.a[0]", "null")]


def test_sizes_count_keys_and_values_but_not_what_the_service_adds() -> None:
    assert size_of({"ab": "cd", "e": 1, "f": True, "g": None, "h": [1.5]}) == 2 + 2 + 1 + 8 + 1 + 4 + 1 + 1 + 8
    assert size_of({"$version": 7, "$metadata": {"x": 1}, "$etag": "x", "a": 1}) == 9


def test_a_reference_to_a_secret_is_an_object_with_that_one_text() -> None:
    assert is_secret({"$secret": "id"})
    assert not any(map(is_secret, [{"$secret": 1}, {"$secret": "a", "b": 1}, {}, "id", None, ["$secret"]]))


@settings(derandomize=True, deadline=None, max_examples=300)
@given(anything, st.booleans())
def test_any_value_is_answered(value: object, nulls_allowed: bool) -> None:  # noqa: FBT001 - drawn by position
    for problem in problems_of(value, root="tags", size_bytes_max=100, nulls_allowed=nulls_allowed):
        assert problem.path.startswith("tags")
        assert len(problem.message) < 1000


def test_nesting_without_end_and_numbers_without_end_are_answered() -> None:
    deep: Any = {}
    for _ in range(100_000):
        deep = {"a": deep}
    assert ("depth") in {rule for _, rule in rules(deep)}
    assert rules({"k": 10**10_000}) == [("tags.k", "integer-range")]
