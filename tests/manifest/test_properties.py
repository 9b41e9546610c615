"""Twin limits and merge patches."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings

from events import canonical
from events.properties import (
    DESIRED_BYTES_MAX,
    INTEGER_MAX,
    INTEGER_MIN,
    KEY_BYTES_MAX,
    STRING_BYTES_MAX,
    TAGS_BYTES_MAX,
    is_secret,
    merge_patch,
    problems_of,
    size_of,
)
from tests.manifest.values import anything, objects


def rules(value: object, *, nulls_allowed: bool = False) -> list[tuple[str, str]]:
    found = problems_of(value, root="tags", size_bytes_max=TAGS_BYTES_MAX, nulls_allowed=nulls_allowed)
    return [(problem.path, problem.rule) for problem in found]


def nested(depth: int, leaf: object = 1) -> Any:
    for _ in range(depth):
        leaf = {"a": leaf}
    return leaf


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"": "an empty key is taken"},
        {"site": {"floor": 3, "outside": False, "height": 1.5}, "lines": [1, "two", [3]]},
        {"low": INTEGER_MIN, "high": INTEGER_MAX},
        {"text": "x" * STRING_BYTES_MAX},
        {"k" * KEY_BYTES_MAX: 1},
        nested(11),
    ],
    ids=str,
)
def test_what_keeps_the_limits_has_no_problem(value: object) -> None:
    assert rules(value) == []


@pytest.mark.parametrize("character", [" ", ".", "$", "#", "\x00", "\x1f", "\x7f", "\x85", "\ud800"], ids=repr)
def test_a_key_with_a_forbidden_character_is_named(character: str) -> None:
    assert [rule for _, rule in rules({f"a{character}b": 1})] == ["key-characters"]


@pytest.mark.parametrize(
    ("value", "path", "rule"),
    [
        ({"é" * 513: 1}, f"tags.{'é' * 80}…", "key-length"),
        ({"a": {"b": "é" * 2049}}, "tags.a.b", "string-length"),
        ({"a": "half \ud800"}, "tags.a", "string-unicode"),
        ({"a": [1, INTEGER_MAX + 1]}, "tags.a[1]", "integer-range"),
        ({"a": INTEGER_MIN - 1}, "tags.a", "integer-range"),
        ({"a": 10**5000}, "tags.a", "integer-range"),
        ({"a": float("nan")}, "tags.a", "number-finite"),
        ({"a": float("-inf")}, "tags.a", "number-finite"),
        (nested(12), "tags" + ".a" * 11, "depth"),
        ({"a": [None]}, "tags.a[0]", "null"),
        ({"a": None}, "tags.a", "null"),
        ({"a": {1, 2}}, "tags.a", "type"),
        ({1: 1}, "tags.1", "type"),
        ([], "tags", "type"),
        (None, "tags", "type"),
        ({f"k{number}": "x" * 1000 for number in range(9)}, "tags", "size"),
    ],
)
def test_what_breaks_a_limit_is_named_with_its_path(value: object, path: str, rule: str) -> None:
    assert rules(value) == [(path, rule)]


def test_a_problem_names_the_limit_and_what_was_found() -> None:
    (problem,) = problems_of({"a": "x" * 5000}, root="tags", size_bytes_max=TAGS_BYTES_MAX)
    assert (problem.limit, problem.actual) == (4096, 5000)
    (problem,) = problems_of({"a": "x" * 10}, root="tags", size_bytes_max=9)
    assert (problem.limit, problem.actual) == (9, 11)


def test_all_problems_are_found_not_only_the_first() -> None:
    assert len(rules({"a b": [None], "c": 2**60, "d": {"e$": float("inf")}})) == 5


def test_nulls_are_allowed_in_patches_but_never_in_arrays() -> None:
    assert rules({"a": None, "b": {"c": None}}, nulls_allowed=True) == []
    assert rules({"a": [None]}, nulls_allowed=True) == [("tags.a[0]", "null")]


def test_no_depth_of_nesting_is_too_much_to_be_answered() -> None:
    deep_array: Any = []
    for _ in range(100_000):
        deep_array = [deep_array]
    assert [rule for _, rule in rules({"a": deep_array})] == ["depth"]
    assert [rule for _, rule in rules(nested(100_000))] == ["depth"]
    assert size_of(nested(100_000)) == 100_000 + 8
    assert merge_patch({}, nested(100_000)).keys() == {"a"}


def test_sizes_follow_the_formula_of_the_contract() -> None:
    assert size_of({}) == 0
    assert size_of({"key": "value"}) == 8
    assert size_of({"é": "ü"}) == 4
    assert size_of({"n": 1, "f": 1.5, "b": True, "z": None}) == 4 + 8 + 8 + 4
    assert size_of({"a": [1, {"b": "c"}]}) == 1 + 8 + 2


def test_the_sections_own_metadata_is_not_counted() -> None:
    assert size_of({"a": 1, "$version": 4, "$etag": "x", "$metadata": {"a": {"$lastUpdated": "now"}}}) == 9


@settings(derandomize=True, max_examples=100, deadline=None)
@given(objects)
def test_the_check_and_the_measure_agree_about_size(value: dict[str, Any]) -> None:
    size = size_of(value)
    assert "size" not in {problem.rule for problem in problems_of(value, root="r", size_bytes_max=size)}
    if size and not any(problem.rule == "depth" for problem in problems_of(value, root="r", size_bytes_max=size)):
        assert "size" in {problem.rule for problem in problems_of(value, root="r", size_bytes_max=size - 1)}


@settings(derandomize=True, max_examples=200, deadline=None)
@given(anything)
def test_any_value_is_answered(value: object) -> None:
    for problem in problems_of(value, root="r", size_bytes_max=DESIRED_BYTES_MAX):
        assert problem.path.startswith("r")
        assert canonical.encode(problem)


def test_only_a_lone_key_with_a_text_is_a_secrets_reference() -> None:
    assert is_secret({"$secret": "id"})
    assert not is_secret({"$secret": 1})
    assert not is_secret({"$secret": "id", "more": 1})
    assert not is_secret("id")


@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": "b"}, {"missing": None}, {"a": "b"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": {"b": "c"}}, {"a": {"b": None}}, {"a": {}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": "text"}, {"a": {"b": {"c": None, "d": 1}}}, {"a": {"b": {"d": 1}}}),
        ({"a": {"b": 1}}, {"a": [1]}, {"a": [1]}),
    ],
)
def test_a_merge_patch_follows_rfc_7386(target: dict[str, Any], patch: dict[str, Any], merged: dict[str, Any]) -> None:
    before = copy.deepcopy((target, patch))
    assert merge_patch(target, patch) == merged
    assert (target, patch) == before


@settings(derandomize=True, max_examples=150, deadline=None)
@given(objects, objects)
def test_patching_twice_is_patching_once_and_changes_neither_argument(
    target: dict[str, Any], patch: dict[str, Any]
) -> None:
    before = copy.deepcopy((target, patch))
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once
    assert (target, patch) == before
