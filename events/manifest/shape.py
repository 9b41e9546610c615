"""Shapes: rules for a part of a manifest as data, and the function that checks a value against them."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, assert_never

import msgspec

from events.canonical import Json, JsonObject
from events.manifest import placeholders
from events.manifest.problem import Problem, Severity
from events.properties import is_secret

Check = Callable[[Any, str], Iterator[Problem]]
"""Yields the problems of a value at a path; the value has the right type."""


class Text(msgspec.Struct, frozen=True):
    """A string.

    `open_names` returns the placeholders in the text. In a `strict` text they are errors, and no other check runs.
    `secret` allows a reference to a secret instead of the text.
    """

    one_of: tuple[str, ...] = ()
    pattern: str = ""
    open_names: Callable[[str], Sequence[str]] = placeholders.inside
    strict: bool = False
    secret: bool = False
    also: Check | None = None


class Integer(msgspec.Struct, frozen=True):
    """A whole number; both bounds are included."""

    minimum: int | None = None
    maximum: int | None = None


class Scalar(msgspec.Struct, frozen=True):
    """A number, a string, a boolean, or a reference to a secret."""


class Fields(msgspec.Struct, frozen=True):
    """An object with named members; other members are allowed unless it is `closed`.

    `pattern_members` are (pattern, shape) for members whose name is not in `members`.
    """

    members: Mapping[str, "Shape"]
    required: tuple[str, ...] = ()
    closed: bool = False
    pattern_members: tuple[tuple[str, "Shape"], ...] = ()
    also: Check | None = None


class NamedMembers(msgspec.Struct, frozen=True):
    """An object with members of any name, which all have one shape; `what` is a member in messages."""

    what: str
    pattern: str
    shape: "Shape"


class ListOf(msgspec.Struct, frozen=True):
    """An array of items of one shape."""

    shape: "Shape"


class TextOr(msgspec.Struct, frozen=True):
    """A string or an object."""

    text: Text
    fields: Fields


class Checked(msgspec.Struct, frozen=True):
    """Any value; `check` yields its problems, and those of setting a part of it."""

    check: Check = lambda _value, _path: iter(())


Shape = Text | Integer | Scalar | Fields | NamedMembers | ListOf | TextOr | Checked


def hold(shape: Shape, value: Json, path: str) -> Iterator[Problem]:
    """Yield the problems of a value by its shape. The recursion is only as deep as the shape, whatever the value."""
    match shape:
        case Checked(check):
            yield from check(value, path)
        case Fields() | NamedMembers() if not isinstance(value, dict):
            yield _mistyped(value, path, "an object")
        case ListOf() if not isinstance(value, list):
            yield _mistyped(value, path, "an array")
        case TextOr() if not isinstance(value, str | dict):
            yield _mistyped(value, path, "a string or an object")
        case Text():
            if not (shape.secret and is_secret(value)):
                yield from _text(shape, value, path)
        case Integer(minimum, maximum):
            if not isinstance(value, int) or isinstance(value, bool):
                yield _mistyped(value, path, "an integer")
            elif (minimum is not None and value < minimum) or (maximum is not None and value > maximum):
                yield Problem(path, "range", f"{shown(value)} is not from {minimum} to {maximum}")
        case Scalar():
            if isinstance(value, str):
                yield from hold(Text(), value, path)
            elif not isinstance(value, bool | int | float) and not is_secret(value):
                yield _mistyped(value, path, "a number, a string or a boolean")
        case Fields():
            yield from _fields(shape, value, path)
        case NamedMembers(what, pattern, item):
            for name, member in value.items():
                yield from _name(name, path, what=what, pattern=pattern)
                yield from hold(item, member, join(path, name))
        case ListOf(item):
            for number, member in enumerate(value):
                yield from hold(item, member, f"{path}[{number}]")
        case TextOr(text, fields):
            yield from hold(text if isinstance(value, str) else fields, value, path)
        case _:
            assert_never(shape)


def hold_at(shape: Shape, segments: Sequence[str], value: Json, path: str) -> Iterator[Problem]:
    """Yield the problems of setting a value at `segments` below `path`, the place that has the shape."""
    for segment in segments:
        path_below = join(path, segment)
        match shape:
            case Fields() | TextOr():
                fields = shape if isinstance(shape, Fields) else shape.fields
                member_shape = _member(fields, segment)
                if member_shape is None:
                    if fields.closed:
                        yield _unknown(segment, path, fields)
                    return
                shape = member_shape
            case NamedMembers(what, pattern, item):
                yield from _name(segment, path, what=what, pattern=pattern)
                shape = item
            case Checked():
                break
            case _:
                yield Problem(path_below, "path", f"cannot be set, because {path} is not an object")
                return
        path = path_below
    yield from hold(shape, value, path)


def refusal(error: Exception) -> str:
    """Return the text of an error, shortened because it can quote a value of any length."""
    return shown(error, 400)


def join(path: str, name: object) -> str:
    """Return the path of a member."""
    return f"{path}.{shown(name)}"


def open_problem(names: Sequence[str], path: str, severity: Severity) -> Problem:
    """Return the problem of a text that must not have placeholders."""
    message = f"{', '.join(map(shown, names))} is a placeholder that was not replaced"
    return Problem(path, "template-placeholder", message, severity)


def shown(value: object, characters_max: int = 80) -> str:
    """Return a name or value for a message: shortened, and without lone surrogates."""
    # Python refuses to write integers of thousands of digits in decimal.
    if isinstance(value, int) and value.bit_length() > 2 * 64:
        value = hex(value)
    text = str(value)
    if len(text) > characters_max:
        text = text[:characters_max] + "…"
    return text.encode("utf-8", "backslashreplace").decode()


def _text(shape: Text, value: Json, path: str) -> Iterator[Problem]:
    if not isinstance(value, str):
        yield _mistyped(value, path, "a string")
        return
    if open_names := shape.open_names(value):
        # A password can look like a placeholder, and no message may quote a password.
        names = ("this",) if shape.secret else open_names
        yield open_problem(names, path, Severity.ERROR if shape.strict else Severity.WARNING)
        if shape.strict:
            return
    if shape.one_of and value not in shape.one_of:
        yield Problem(path, "enum", f"{shown(value)!r} is not one of {', '.join(shape.one_of)}")
    if shape.pattern and not re.fullmatch(shape.pattern, value):
        yield Problem(path, "pattern", f"{shown(value)!r} does not match {shape.pattern}")
    if shape.also is not None:
        yield from shape.also(value, path)


def _fields(shape: Fields, value: JsonObject, path: str) -> Iterator[Problem]:
    for name in shape.required:
        if name not in value:
            yield Problem(path, "required", f"{name!r} is required")
    for name, member in value.items():
        member_shape = _member(shape, name)
        if member_shape is not None:
            yield from hold(member_shape, member, join(path, name))
        elif shape.closed:
            yield _unknown(name, path, shape)
    if shape.also is not None:
        yield from shape.also(value, path)


def _member(shape: Fields, name: str) -> Shape | None:
    if name in shape.members:
        return shape.members[name]
    return next((other for pattern, other in shape.pattern_members if re.fullmatch(pattern, name)), None)


def _name(name: str, path: str, *, what: str, pattern: str) -> Iterator[Problem]:
    if not re.fullmatch(pattern, name):
        message = f"{shown(name)!r} is not a valid name for {what}: it does not match {pattern}"
        yield Problem(join(path, name), "name", message)


def _unknown(name: str, path: str, shape: Fields) -> Problem:
    message = f"{shown(name)!r} is not one of {', '.join(shape.members) or 'no members'}"
    return Problem(join(path, name), "unknown-member", message)


def _mistyped(value: Json, path: str, expected: str) -> Problem:
    return Problem(path, "type", f"must be {expected}, not {type_name(value)}")


_TYPE_NAMES = {type(None): "null", dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
_TYPE_NAMES |= {int: "a number", float: "a number"}


def type_name(value: object) -> str:
    """Return the JSON name of a value's type, with its article; Python's for a value from a script that JSON does not have."""
    return _TYPE_NAMES.get(type(value), type(value).__name__)
