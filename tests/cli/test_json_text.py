"""Patches of JSON as text: the value becomes what the patch says, and the rest stays as it was written."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.readiness.pointer import Operation, pointer
from services.cli.check.json_text import TextPosition, edited, line_of, spans
from tests.readiness.patching import patched, value_at

NAMES = st.sampled_from(["a", "b", "a/b", "~", "", "é", '"', "\n"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
FORMS: list[dict[str, Any]] = [{}, {"indent": 2}, {"indent": "\t"}, {"separators": (",", ":")}, {"ensure_ascii": False}]


def objects(value: Any) -> list[tuple[str, dict[str, Any]]]:
    found, nodes = [], [("", value)]
    for at, node in nodes:
        if isinstance(node, dict):
            found.append((at, node))
            nodes.extend((at + pointer(name), item) for name, item in node.items())
        elif isinstance(node, list):
            nodes.extend((at + pointer(number), item) for number, item in enumerate(node))
    return found


@settings(derandomize=True, deadline=None, max_examples=100)
@given(value=VALUES, form=st.sampled_from(FORMS))
def test_a_span_holds_its_value(value: Any, form: dict[str, Any]) -> None:
    text = json.dumps(value, **form)
    found = spans(text)
    for at, span in found.items():
        assert json.loads(text[span.start : span.end]) == value_at(value, at)
    assert {at for at, _ in objects(value)} <= set(found)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(value=VALUES, form=st.sampled_from(FORMS), data=st.data())
def test_an_edited_text_is_the_patched_value(value: Any, form: dict[str, Any], data: st.DataObject) -> None:
    text = json.dumps(value, **form)
    steps = []
    current = value
    for _ in range(3):
        if not (holders := objects(current)):
            break
        above, holder = data.draw(st.sampled_from(holders))
        op = data.draw(st.sampled_from(["add", "replace", "remove"] if holder else ["add"]))
        name = data.draw(NAMES if op == "add" else st.sampled_from(sorted(holder)))
        steps.append(Operation(op, above + pointer(name), data.draw(VALUES) if op != "remove" else None))
        current = patched(current, steps[-1:])
    after = edited(text, steps)
    assert json.loads(after) == current == patched(value, steps)
    # Members keep their order, too.
    assert json.dumps(json.loads(after)) == json.dumps(current)


@pytest.mark.parametrize(
    "step", [Operation("remove", "/b"), Operation("replace", "/b", 1), Operation("add", "/b/c", 1)]
)
def test_a_patch_that_leads_nowhere_is_refused(step: Operation) -> None:
    with pytest.raises(LookupError):
        edited('{"a": 1}', [step])


@pytest.mark.parametrize(
    ("text", "step", "after"),
    [
        ('{\n  "a": 1\n}\n', Operation("add", "/b", {"c": 2}), '{\n  "a": 1,\n  "b": {\n    "c": 2\n  }\n}\n'),
        ('{\n  "a": {}\n}', Operation("add", "/a/b", 1), '{\n  "a": {\n    "b": 1\n  }\n}'),
        ('{"a":{}}', Operation("add", "/a/b", [1, 2]), '{"a":{"b":[1,2]}}'),
        ('{\n  "a": {"b": 1}\n}', Operation("add", "/a/c", {"d": 2}), '{\n  "a": {"b": 1, "c": {"d": 2}}\n}'),
        ('{ "a" : 1 , "b" : 2 }', Operation("remove", "/a"), '{ "b" : 2 }'),
        ('{\n  "a": 1,\n  "b": 2\n}', Operation("remove", "/b"), '{\n  "a": 1\n}'),
        ('{\n  "a": 1\n}', Operation("remove", "/a"), "{}"),
        ('{"a": 1, "b": [ ]}', Operation("replace", "/a", "é"), '{"a": "é", "b": [ ]}'),
        ('{"a": 1}', Operation("add", "/b\ud800", "é\ud800"), '{"a": 1, "b\\ud800": "\\u00e9\\ud800"}'),
    ],
)
def test_what_is_written_looks_like_what_is_beside_it(text: str, step: Operation, after: str) -> None:
    assert edited(text, [step]) == after


def test_lines_and_columns_count_from_1() -> None:
    text = '{\n  "a": 1\n}'
    assert line_of(text, spans(text)["/a"].name) == TextPosition(2, 3)
    assert line_of(text, 0) == TextPosition(1, 1)
