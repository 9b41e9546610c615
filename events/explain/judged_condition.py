"""A condition evaluated on one twin, term by term, and the text that says why it is not true."""

from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Literal

import msgspec

from events.query import tree
from events.query.evaluate import QueryRow, holds, value_at
from events.query.text import printed_literal, printed_path
from events.query.tree import UNDEFINED, And, Comparison, Constant, IsDefined, Not, Op, Or, PathOf

PropertyType = Literal["missing", "text", "number", "boolean", "object", "list"]

_TYPES: Mapping[type, PropertyType] = {
    NoneType: "missing",
    tree.Undefined: "missing",
    bool: "boolean",
    int: "number",
    float: "number",
    str: "text",
    list: "list",
}
_WANTED = {Op.EQ: "", Op.NE: "anything but ", Op.LT: "< ", Op.LE: "<= ", Op.GT: "> ", Op.GE: ">= "}
_VALUE_CHARACTERS_MAX = 120

EMPTY_CONDITION = "its condition is empty, so it targets no device"


class Judged(msgspec.Struct, frozen=True):
    """A term with its truth (`None`: unknown), and the terms that it joins.

    A comparison and `is_defined` have the property's `value` and its type, `actual_type`. `comparable` is whether that type is
    the literal's.
    """

    term: tree.Expression
    truth: bool | None
    terms: tuple["Judged", ...] = ()
    actual_type: PropertyType | None = None
    value: object = None
    comparable: bool = True


def judge(condition: tree.Expression, row: QueryRow) -> Judged:
    """Returns each term of a target condition with its truth on a twin; `holds` decides every truth."""
    truth = holds(condition, row)
    match condition:
        case And(terms) | Or(terms):
            return Judged(condition, truth, tuple(judge(term, row) for term in terms))
        case Not(term):
            return Judged(condition, truth, (judge(term, row),))
        case Comparison(PathOf(path), _, Constant(literal)):
            actual_type, value = _typed_value(path, row)
            return Judged(condition, truth, (), actual_type, value, actual_type == _type_of(literal))
        case IsDefined(path):
            return Judged(condition, truth, (), *_typed_value(path, row))
        case _:
            return Judged(condition, truth)


def _typed_value(path: tree.Path, row: QueryRow) -> tuple[PropertyType, object]:
    value = value_at(path, row)
    return _type_of(value), None if value is UNDEFINED else value


def _type_of(value: object) -> PropertyType:
    return _TYPES.get(type(value), "object")


def leaves(judged: Judged) -> Iterator[Judged]:
    """Yields every comparison and every `is_defined`, from left to right."""
    if isinstance(judged.term, Comparison | IsDefined):
        yield judged
    for term in judged.terms:
        yield from leaves(term)


# -- why a condition is not true


class Blame(msgspec.Struct, frozen=True):
    """The leaves that would have to change for a term to be as expected: all of them, or any of them with `any_of`.

    `expected` is the truth that the leaf should have.
    """

    leaf: Judged | None = None
    expected: bool = True
    parts: tuple["Blame", ...] = ()
    any_of: bool = False


def why_not(judged: Judged, *, own: str = "") -> str:
    """Returns why a condition is not true, as `tags.site is 'south', wanted 'north'`; empty if it is true.

    `own` is a prefix that names the twin, as in `of cam, `, if it is not the device's.
    """
    reason = _blame(judged, expected=True)
    if reason is None:
        return ""
    return EMPTY_CONDITION if judged.term == tree.MATCH_NONE else own + _text(reason)


def _blame(judged: Judged, *, expected: bool) -> Blame | None:
    """The leaves that keep a term from being as expected; `None` if it is."""
    if judged.truth is expected:
        return None
    match judged.term:
        case Not():
            return _blame(judged.terms[0], expected=not expected)
        case And() | Or():
            parts = tuple(part for term in judged.terms if (part := _blame(term, expected=expected)) is not None)
            return Blame(parts=parts, any_of=isinstance(judged.term, Or) is expected)
        case _:
            return Blame(judged, expected)


def _text(blame: Blame) -> str:
    if blame.leaf is not None:
        return _leaf(blame.leaf, expected=blame.expected)
    if blame.any_of and (together := _one_of(blame.parts)):
        return together
    if len(blame.parts) == 1:
        return _text(blame.parts[0])
    texts = [f"({_text(part)})" if len(part.parts) > 1 else _text(part) for part in blame.parts]
    return f"one of these would have to change: {'; or '.join(texts)}" if blame.any_of else ", and ".join(texts)


def _one_of(parts: tuple[Blame, ...]) -> str:
    """`tags.site is 'south', wanted 'north' or 'east'` if the parts are all about one property; empty otherwise."""
    leaves = [part.leaf for part in parts if part.leaf is not None and part.expected]
    pairs = [pair for leaf in leaves for pair in tree.equalities(leaf.term)]
    if len(pairs) != len(parts) or len(parts) < 2 or len({path for path, _ in pairs}) > 1:  # noqa: PLR2004 - a single leaf has its own text
        return ""
    *literals, last = [printed_literal(literal) for _, literal in pairs]
    return f"{printed_path(pairs[0][0])} is {actual(leaves[0])}, wanted {', '.join(literals)} or {last}"


def _leaf(leaf: Judged, *, expected: bool) -> str:
    match leaf.term:
        case IsDefined(path):
            return f"{printed_path(path)} is {actual(leaf)}, wanted {'any value' if expected else 'none'}"
        case Comparison(PathOf(path), op, Constant(literal)):
            op, is_missing = op if expected else tree.OPPOSITE[op], leaf.actual_type == "missing"
            kind = "" if leaf.comparable or is_missing else f"the {_type_of(literal)} "
            text = f"{printed_path(path)} is {actual(leaf)}, wanted {_WANTED[op]}{kind}{printed_literal(literal)}"
            if op is not Op.NE or leaf.comparable:
                return text
            other = "a missing property" if is_missing else "a value of another type"
            return f"{text} (a comparison with {other} is unknown, also with !=, and a condition targets a device only if it is true)"
        case term:
            return "its condition is true of every device" if term == tree.MATCH_ALL else EMPTY_CONDITION


def actual(leaf: Judged) -> str:
    """Returns a leaf's value as conditions write it, cut to a sentence's length; with its type if that is not the literal's."""
    if leaf.actual_type == "missing":
        return "missing"
    if isinstance(leaf.value, str | bool | int | float):
        text = printed_literal(leaf.value)
        # A tag's text can have 4,096 characters.
        text = text if len(text) <= _VALUE_CHARACTERS_MAX else f"{text[:_VALUE_CHARACTERS_MAX]}…"
    else:
        text = "[…]" if isinstance(leaf.value, list) else "{…}"
    return text if leaf.comparable else f"{text} ({'an' if leaf.actual_type == 'object' else 'a'} {leaf.actual_type})"
