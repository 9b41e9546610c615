"""JSON is counted and its depth told before anything is made of it."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.api.http.json_bounds import DEPTH_MAX, JsonOutOfBounds, check_bounds

TRICKY = st.text(st.sampled_from('"\\{}[],: a\u00e9'), max_size=12)
DOCUMENTS: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | TRICKY,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TRICKY, inner, max_size=4),
    max_leaves=40,
)


def names_and_values(document: Any) -> int:
    """All objects, arrays, names and other values of a document: as many as the rule counts, or more."""
    if isinstance(document, dict):
        return 2 + sum(1 + names_and_values(value) for value in document.values())
    return 2 + sum(map(names_and_values, document)) if isinstance(document, list) else 1


@settings(derandomize=True, max_examples=300)
@given(document=DOCUMENTS, escaped=st.booleans())
def test_what_is_within_the_bounds_passes_whatever_stands_in_its_strings(*, document: Any, escaped: bool) -> None:
    text = json.dumps(document, ensure_ascii=escaped)
    check_bounds(text.encode(), values_max=names_and_values(document))


@pytest.mark.parametrize(
    "text",
    [
        "[" + ",".join("1" * 101) + "]",
        "{" + ",".join(f'"a{number}":1' for number in range(60)) + "}",
        "[" + ",".join(["{}"] * 60) + "]",
        '["' + "\\\\" * 50 + '",' + ",".join(["1"] * 101) + "]",
    ],
)
def test_too_many_names_and_values_are_refused(text: str) -> None:
    with pytest.raises(JsonOutOfBounds, match="the limit of this path is 100"):
        check_bounds(text.encode(), values_max=100)


def test_commas_and_brackets_in_strings_do_not_count() -> None:
    check_bounds(json.dumps(["{[,:]}" * 1000, '"', "\\"]).encode(), values_max=10)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_the_depth_has_a_limit(opening: str, closing: str) -> None:
    levels = DEPTH_MAX // (opening.count("[") + opening.count("{"))
    check_bounds((opening * levels + "1" + closing * levels).encode(), values_max=1000)
    with pytest.raises(JsonOutOfBounds, match=f"deeper than {DEPTH_MAX}"):
        check_bounds((opening * (levels + 1) + "1" + closing * (levels + 1)).encode(), values_max=1000)


def test_what_stands_beside_each_other_is_not_deep() -> None:
    check_bounds(json.dumps([{"a": []}] * 200).encode(), values_max=1000)


@pytest.mark.parametrize("text", [b"", b'"', b'"\\', b"]" * 100_000, b"}" * 70 + b"{" * 60, b"\xff\xfe", b'{"a": "'])
def test_what_is_no_json_is_left_to_the_decoder(text: bytes) -> None:
    check_bounds(text, values_max=100)


def test_a_string_that_never_ends_is_read_once() -> None:
    """Read anew from each quote within it, this would take hours."""
    check_bounds(b'[[],"' + b'\\",' * 1_000_000, values_max=100)
    check_bounds(b'[[],"' + b'\\",' * 1_000_000 + b"\\", values_max=100)
