"""What a part of a manifest may look like, as data, and the one walk that holds a value against it."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, assert_never

import msgspec

from events.canonical import Json, JsonObject
from events.manifest import placeholders
from events.manifest.problem import Problem, Severity
from events.properties import is_secret

Check = Callable[[Any, str], Iterator[Problem]]
"""Says what is wrong with a value of the right type at a path."""

_SHOWN_CHARACTERS_MAX = 80
_REFUSAL_CHARACTERS_MAX = 400


class Text(msgspec.Struct, frozen=True):
    """A string.

    `open_names` finds the placeholders a template has left; in a `strict` text they are errors, and nothing else is
    looked at. `secret` allows a reference instead of the text.
    """

    one_of: tuple[str, ...] = ()
    pattern: str = ""
    open_names: Callable[[str], Sequence[str]] = placeholders.inside
    strict: bool = False
    secret: bool = False
    also: Check | None = None


class Integer(msgspec.Struct, frozen=True):
    """A whole number within bounds, both of them allowed."""

    minimum: int | None = None
    maximum: int | None = None


class Scalar(msgspec.Struct, frozen=True):
    """A number, a string, a boolean, or a reference to a secret."""


class Fields(msgspec.Struct, frozen=True):
    """An object with members of known names; only a `closed` one has no others.

    A name that is no member's but matches a pattern of `others` has the shape found there.
    """

    members: Mapping[str, "Shape"]
    required: tuple[str, ...] = ()
    closed: bool = False
    others: tuple[tuple[str, "Shape"], ...] = ()
    also: Check | None = None


class NamedMembers(msgspec.Struct, frozen=True):
    """An object whose members have names of their own, all alike."""

    what: str
    pattern: str
    shape: "Shape"


class ListOf(msgspec.Struct, frozen=True):
    """An array whose items are all alike."""

    shape: "Shape"


class TextOr(msgspec.Struct, frozen=True):
    """Either a string or an object."""

    text: Text
    fields: Fields


class Anything(msgspec.Struct, frozen=True):
    """No rule."""


class ForbiddenMember(msgspec.Struct, frozen=True):
    """What nothing may be set at."""

    rule: str
    message: str


Shape = Text | Integer | Scalar | Fields | NamedMembers | ListOf | TextOr | Anything | ForbiddenMember


def hold(shape: Shape, value: Json, path: str) -> Iterator[Problem]:
    """Everything in which a value departs from a shape. Deep values do no harm: the walk is as deep as the shape."""
    match shape:
        case Anything():
            pass
        case ForbiddenMember(rule, message):
            yield Problem(path, rule, message)
        case Text():
            if not (shape.secret and is_secret(value)):
                yield from _text(shape, value, path)
        case Integer(minimum, maximum):
            if not isinstance(value, int) or isinstance(value, bool):
                yield _mistyped(value, path, "an integer")
            elif (minimum is not None and value < minimum) or (maximum is not None and value > maximum):
                yield Problem(path, "range", f"{shown(value)} is not within {minimum} and {maximum}")
        case Scalar():
            if isinstance(value, str):
                yield from _text(Text(), value, path)
            elif not isinstance(value, bool | int | float) and not is_secret(value):
                yield _mistyped(value, path, "a number, a string or a boolean")
        case Fields():
            yield from _fields(shape, value, path)
        case NamedMembers(what, pattern, item):
            if not isinstance(value, dict):
                yield _mistyped(value, path, "an object")
                return
            for name, member in value.items():
                yield from _name(name, path, what=what, pattern=pattern)
                yield from hold(item, member, join(path, name))
        case ListOf(item):
            if not isinstance(value, list):
                yield _mistyped(value, path, "an array")
                return
            for number, member in enumerate(value):
                yield from hold(item, member, f"{path}[{number}]")
        case TextOr(text, fields):
            if isinstance(value, str):
                yield from _text(text, value, path)
            elif isinstance(value, dict):
                yield from _fields(fields, value, path)
            else:
                yield _mistyped(value, path, "a string or an object")
        case _:
            assert_never(shape)


def hold_at(shape: Shape, segments: Sequence[str], value: Json, path: str) -> Iterator[Problem]:
    """What is wrong with setting a value at a path below `path`, the place that has the shape."""
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
            case Anything():
                return
            case ForbiddenMember():
                break
            case _:
                yield Problem(path_below, "path", f"nothing can be set below {path}, which is no object")
                return
        path = path_below
    yield from hold(shape, value, path)


def refusal(error: Exception) -> str:
    """The text of an error that quotes what was given, cut to a length one can read."""
    return shown(error, _REFUSAL_CHARACTERS_MAX)


def join(path: str, name: object) -> str:
    """A path and a member's name, as one path."""
    return f"{path}.{shown(name)}"


def open_problem(names: Sequence[str], path: str, severity: Severity) -> Problem:
    """Placeholders in a text that should have none."""
    listed = ", ".join(map(shown, names))
    return Problem(path, "template-placeholder", f"{listed} is a placeholder that nobody replaced", severity)


def shown(value: object, characters_max: int = _SHOWN_CHARACTERS_MAX) -> str:
    """A name or value, short enough and clean enough for a message."""
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
        # A password may look like a placeholder, and no message repeats one.
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


def _fields(shape: Fields, value: Json, path: str) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield _mistyped(value, path, "an object")
        return
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
    member_shape = shape.members.get(name)
    if member_shape is None:
        member_shape = next((other for pattern, other in shape.others if re.fullmatch(pattern, name)), None)
    return member_shape


def _name(name: str, path: str, *, what: str, pattern: str) -> Iterator[Problem]:
    if not re.fullmatch(pattern, name):
        yield Problem(join(path, name), "name", f"{shown(name)!r} is no name for {what}: it does not match {pattern}")


def _unknown(name: str, path: str, shape: Fields) -> Problem:
    return Problem(
        join(path, name), "unknown-member", f"{shown(name)!r} is not one of {', '.join(shape.members) or 'no members'}"
    )


def _mistyped(value: Json, path: str, expected: str) -> Problem:
    return Problem(path, "type", f"must be {expected}, not {type_name(value)}")


def type_name(value: object) -> str:
    """What JSON calls the type of a value."""
    names: JsonObject = {"NoneType": "null", "dict": "an object", "list": "an array", "str": "a string"}
    names |= {"bool": "a boolean", "int": "a number", "float": "a number"}
    return str(names.get(type(value).__name__, type(value).__name__))
