"""JSON as text: the position of each element, and patches that keep every other character."""

import json
import re
from collections.abc import Callable, Sequence
from functools import reduce
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

import msgspec

from events.canonical import Json
from events.readiness.pointer import Operation, names_of, pointer

# A parser of our own: libraries find positions, but neither repeated members nor edits that keep the layout (decision 0054).
_space = re.compile(r"[ \t\r\n]*").match
_scalar = re.compile(r"[^\s,\]}]+").match
_surrogate_in = re.compile("[\ud800-\udfff]").search
_INDENT = "  "


class TextSpan(msgspec.Struct, frozen=True):
    """The offsets of a value, `end` excluded; `name` is where its member's name begins, or `start` for items of arrays."""

    name: int
    start: int
    end: int


class TextPosition(msgspec.Struct, frozen=True):
    """A position for people, counted from 1."""

    line: int
    column: int


class _Open(msgspec.Struct):
    """An object or an array that is being read."""

    pointer: str
    name: int
    start: int
    items: int = 0
    names: set[str] = msgspec.field(default_factory=set)


def spans(text: str) -> dict[str, TextSpan]:
    """JSON pointer → offsets of the element. The text must be JSON; of members with the same name the last counts."""
    return _read(text)[0]


def doubled(text: str) -> tuple[str, ...]:
    """Pointers to members whose name is repeated within their object, each once. The text must be JSON."""
    return tuple(dict.fromkeys(_read(text)[1]))


def _read(text: str) -> tuple[dict[str, TextSpan], list[str]]:
    by_pointer: dict[str, TextSpan] = {}
    repeated: list[str] = []
    stack: list[_Open] = []
    at = _after(text, 0)
    while True:
        # The value at `at` is the whole text, an item of an array, or a member, whose name comes first.
        name, path = at, ""
        if stack:
            top = stack[-1]
            if text[top.start] == "[":
                path = top.pointer + pointer(top.items)
                top.items += 1
            else:
                key, end = scanstring(text, at + 1)
                path = top.pointer + pointer(key)
                if key in top.names:
                    repeated.append(path)
                top.names.add(key)
                at = _after(text, _after(text, end) + 1)
        if text[at] in "{[":
            stack.append(_Open(path, name, at))
            at = _after(text, at + 1)
            if text[at] not in "}]":
                continue
        else:
            end = scanstring(text, at + 1)[1] if text[at] == '"' else _after(text, at, _scalar)
            by_pointer[path] = TextSpan(name, at, end)
            at = _after(text, end)
        while stack and text[at] in "}]":
            done = stack.pop()
            by_pointer[done.pointer] = TextSpan(done.name, done.start, at + 1)
            at = _after(text, at + 1)
        if not stack:
            return by_pointer, repeated
        if text[at] == ",":
            at = _after(text, at + 1)


def line_of(text: str, offset: int) -> TextPosition:
    """The line and column of an offset."""
    return TextPosition(text.count("\n", 0, offset) + 1, offset - (text.rfind("\n", 0, offset) + 1) + 1)


def edited(text: str, operations: Sequence[Operation]) -> str:
    """The text with a patch applied; elements that no operation names keep every character.

    Raises:
        LookupError: an operation names an element that does not exist.
    """
    return reduce(_edited, operations, text)


def _edited(text: str, operation: Operation) -> str:
    locations = spans(text)
    above, _, _ = operation.path.rpartition("/")
    span, holder = locations.get(operation.path), locations[above]
    if operation.op == "remove":
        if span is None:
            raise LookupError(operation.path)
        return _without(text, span, holder)
    if span is not None:
        value = _written(operation.value, text, _margin(text, span.name))
        return text[: span.start] + value + text[span.end :]
    if operation.op == "replace":
        raise LookupError(operation.path)
    # Nested elements end before the member that they are in, so the one that ends last is a member itself.
    inside = [span for path, span in locations.items() if path.startswith(f"{above}/")]
    return _with(text, operation, holder, last=max(inside, key=lambda span: (span.end, -span.name), default=None))


def _with(text: str, operation: Operation, holder: TextSpan, *, last: TextSpan | None) -> str:
    (name,) = names_of(operation.path)[-1:]
    inline = "\n" not in (text if last is None else text[holder.start : holder.end])
    outer = _margin(text, holder.name)
    margin = _margin(text, last.name) if last is not None else outer + _step(text)
    value = _written(operation.value, text, None if inline else margin)
    comma, colon = _separators(text)
    member = f"{_dumped(name)}{colon}{value}"
    line = "" if inline else f"{_break(text)}{margin}"
    if last is None:
        closing = "" if inline else f"{_break(text)}{outer}"
        return f"{text[: holder.start]}{{{line}{member}{closing}}}{text[holder.end :]}"
    return f"{text[: last.end]}{comma if inline else ','}{line}{member}{text[last.end :]}"


def _without(text: str, span: TextSpan, holder: TextSpan) -> str:
    after = _after(text, span.end)
    if text[after] == ",":
        return text[: span.name] + text[_after(text, after + 1) :]
    before = span.name
    while text[before - 1] in " \t\r\n":
        before -= 1
    if text[before - 1] == ",":
        return text[: before - 1] + text[span.end :]
    return text[: holder.start + 1] + text[holder.end - 1 :]


def _written(value: Json, text: str, margin: str | None) -> str:
    if margin is None or not isinstance(value, dict | list):
        return _dumped(value, separators=_separators(text))
    lines = _dumped(value, indent=_step(text)).split("\n")
    return f"{_break(text)}{margin}".join(lines)


def _dumped(value: Json, **how: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, **how)
    # Half a surrogate pair can be written as an escape alone: encoding it as UTF-8 would raise.
    return json.dumps(value, **how) if _surrogate_in(text) else text


def _margin(text: str, offset: int) -> str:
    """The white space at the start of the offset's line."""
    start = text.rfind("\n", 0, offset) + 1
    match = re.compile(r"[ \t]*").match(text, start)
    return match.group() if match else ""


def _step(text: str) -> str:
    """The indentation that the text adds with each level."""
    match = re.search(r"[{\[]\r?\n([ \t]+)", text)
    return match[1] if match else _INDENT


def _separators(text: str) -> tuple[str, str]:
    """The separators between members, and between a name and its value, on one line."""
    return (", ", ": ") if '": ' in text else (",", ":")


def _break(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _after(text: str, offset: int, what: Callable[[str, int], re.Match[str] | None] = _space) -> int:
    """The offset behind white space, or behind what else is there."""
    match = what(text, offset)
    return match.end() if match else offset
