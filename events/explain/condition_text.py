"""The text that says why a condition is not true of a twin."""

from events.explain.judged_condition import Blame, Judged, blame
from events.query.text import printed_literal, printed_path
from events.query.tree import (
    MATCH_ALL,
    MATCH_NONE,
    OPPOSITE,
    Comparison,
    Constant,
    IsDefined,
    Literal,
    Op,
    PathOf,
    equalities,
)

_VALUE_CHARACTERS_MAX = 120

EMPTY_CONDITION = "its condition is empty, so it targets no device"

_WANTED = {Op.EQ: "", Op.NE: "anything but ", Op.LT: "< ", Op.LE: "<= ", Op.GT: "> ", Op.GE: ">= "}
_TYPES = {str: "the text ", bool: "the boolean ", int: "the number ", float: "the number "}


def why_not(judged: Judged, *, own: str = "") -> str:
    """Returns why a condition is not true, as `tags.site is 'south', wanted 'north'`; empty if it is true.

    `own` is a prefix that names the twin, as in `of cam, `, if it is not the device's.
    """
    reason = blame(judged)
    if reason is None:
        return ""
    if judged.term == MATCH_NONE:
        return EMPTY_CONDITION
    return own + _text(reason)


def _text(blame: Blame) -> str:
    if blame.leaf is not None:
        return _leaf(blame.leaf, expected=blame.expected)
    if blame.any_of and (together := _one_of(blame.parts)):
        return together
    if len(blame.parts) == 1:
        return _text(blame.parts[0])
    if blame.any_of:
        return f"one of these would have to change: {'; or '.join(map(_grouped, blame.parts))}"
    return ", and ".join(map(_grouped, blame.parts))


def _grouped(blame: Blame) -> str:
    return f"({_text(blame)})" if len(blame.parts) > 1 else _text(blame)


def _one_of(parts: tuple[Blame, ...]) -> str:
    """`tags.site is 'south', wanted 'north' or 'east'` if the parts are all about one property; empty otherwise."""
    leaves = [part.leaf for part in parts if part.leaf is not None and part.expected]
    pairs = [pair for leaf in leaves for pair in equalities(leaf.term)]
    if len(pairs) != len(parts) or len(parts) < 2 or len({path for path, _ in pairs}) > 1:  # noqa: PLR2004 - a single leaf has its own text
        return ""
    *literals, last = [printed_literal(literal) for _, literal in pairs]
    return f"{printed_path(pairs[0][0])} is {actual(leaves[0])}, wanted {', '.join(literals)} or {last}"


def _leaf(leaf: Judged, *, expected: bool) -> str:
    term = leaf.term
    match term:
        case IsDefined(path):
            return f"{printed_path(path)} is {actual(leaf)}, wanted {'any value' if expected else 'none'}"
        case Comparison(PathOf(path), op, Constant(literal)):
            op = op if expected else OPPOSITE[op]
            return f"{printed_path(path)} is {actual(leaf)}, wanted {_wanted(op, literal, leaf)}{_surprise(leaf, op)}"
        case _ if term == MATCH_ALL:
            return "its condition is true of every device"
        case _:
            return EMPTY_CONDITION


def _wanted(op: Op, literal: Literal, leaf: Judged) -> str:
    kind = "" if leaf.comparable or leaf.actual_type == "missing" else _TYPES[type(literal)]
    return f"{_WANTED[op]}{kind}{printed_literal(literal)}"


def _surprise(leaf: Judged, op: Op) -> str:
    """The explanation of `!=` on a missing property or another type, which is unknown and not true."""
    if op is not Op.NE or leaf.comparable:
        return ""
    kind = "a missing property" if leaf.actual_type == "missing" else "a value of another type"
    return f" (a comparison with {kind} is unknown, also with !=, and a condition targets a device only if it is true)"


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
