"""Why a condition is not true of a twin, in words."""

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

SHOWN_CHARACTERS_MAX = 120

_WANTED = {Op.EQ: "", Op.NE: "anything but ", Op.LT: "< ", Op.LE: "<= ", Op.GT: "> ", Op.GE: ">= "}
_TYPES = {str: "the text ", bool: "the boolean ", int: "the number ", float: "the number "}


def why_not(judged: Judged, *, own: str = "") -> str:
    """Why a condition is not true, as `tags.site is 'south', wanted 'north'`; empty where it is.

    `own` stands before each property, as in `module cam: `, where the twin is not the device's.
    """
    reason = blame(judged)
    if reason is None:
        return ""
    if judged.term == MATCH_NONE:
        return "its condition is empty, which targets nobody"
    return own + _text(reason)


def _text(blame: Blame) -> str:
    if blame.leaf is not None:
        return _leaf(blame.leaf, wanted=blame.wanted)
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
    """`tags.site is 'south', wanted 'north' or 'east'`, where all that would help is another value of one property."""
    leaves = [part.leaf for part in parts if part.leaf is not None and part.wanted]
    pairs = [pair for leaf in leaves for pair in equalities(leaf.term)]
    if len(pairs) != len(parts) or len(parts) < 2 or len({path for path, _ in pairs}) > 1:  # noqa: PLR2004 - a single leaf has its own text
        return ""
    *literals, last = [printed_literal(literal) for _, literal in pairs]
    return f"{printed_path(pairs[0][0])} is {actual(leaves[0])}, wanted {', '.join(literals)} or {last}"


def _leaf(leaf: Judged, *, wanted: bool) -> str:
    term = leaf.term
    match term:
        case IsDefined(path):
            is_there = "is missing" if leaf.found == "missing" else f"is {actual(leaf)}"
            return f"{printed_path(path)} {is_there}, wanted {'any value' if wanted else 'none'}"
        case Comparison(PathOf(path), op, Constant(literal)):
            op = op if wanted else OPPOSITE[op]
            return f"{printed_path(path)} is {actual(leaf)}, wanted {_wanted(op, literal, leaf)}{_surprise(leaf, op)}"
        case _ if term == MATCH_ALL:
            return "its condition is true of everybody"
        case _:
            return "its condition is empty, which targets nobody"


def _wanted(op: Op, literal: Literal, leaf: Judged) -> str:
    kind = "" if leaf.comparable or leaf.found == "missing" else _TYPES[type(literal)]
    return f"{_WANTED[op]}{kind}{printed_literal(literal)}"


def _surprise(leaf: Judged, op: Op) -> str:
    """What people do not expect: that something is not equal to a value does not hold of what is not there."""
    if op is not Op.NE or leaf.comparable:
        return ""
    kind = "a missing property" if leaf.found == "missing" else "a value of another type"
    return f" (a comparison with {kind} is unknown, != too, and only what is true targets)"


def actual(leaf: Judged) -> str:
    """A leaf's value as conditions write values; of another type than its literal, with the type's name."""
    if leaf.found == "missing":
        return "missing"
    text = shown(leaf.value)
    return text if leaf.comparable else f"{text} ({'an' if leaf.found == 'object' else 'a'} {leaf.found})"


def shown(value: object) -> str:
    """A value, short enough for a sentence."""
    if not isinstance(value, str | bool | int | float):
        return "[…]" if isinstance(value, list) else "{…}"
    text = printed_literal(value)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else f"{text[:SHOWN_CHARACTERS_MAX]}…"
