"""The syntax tree of a target condition."""

import enum
from collections.abc import Callable
from functools import lru_cache

import msgspec

Path = tuple[str, ...]
Literal = str | int | float | bool


class Op(enum.Enum):
    """A comparison; `<>` is written `!=` here."""

    EQ = "="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="


class Everyone(msgspec.Struct, frozen=True, tag=True):
    """`*`: all devices."""


class Nobody(msgspec.Struct, frozen=True, tag=True):
    """The empty condition: no device."""


class Comparison(msgspec.Struct, frozen=True, tag=True):
    """A property against a literal, the property on the left."""

    path: Path
    op: Op
    literal: Literal


class IsDefined(msgspec.Struct, frozen=True, tag=True):
    """The property is there, whatever its value."""

    path: Path


class And(msgspec.Struct, frozen=True, tag=True):
    """All of two or more terms."""

    terms: tuple["Condition", ...]


class Or(msgspec.Struct, frozen=True, tag=True):
    """Any of two or more terms."""

    terms: tuple["Condition", ...]


class Not(msgspec.Struct, frozen=True, tag=True):
    """The opposite of a term; unknown stays unknown."""

    term: "Condition"


Condition = Everyone | Nobody | Comparison | IsDefined | And | Or | Not


def both(one: Condition, other: Condition) -> Condition:
    """The condition that is true where two are; `*` and the empty condition stand alone, never inside another."""
    if isinstance(one, Everyone) or isinstance(other, Nobody):
        return other
    if isinstance(other, Everyone) or isinstance(one, Nobody):
        return one
    return And(tuple(term for part in (one, other) for term in (part.terms if isinstance(part, And) else (part,))))


def renamed(condition: Condition, name: Callable[[Path], Path]) -> Condition:
    """The same condition over properties of other names."""
    match condition:
        case Comparison(path) | IsDefined(path):
            return msgspec.structs.replace(condition, path=name(path))
        case And(terms):
            return And(tuple(renamed(term, name) for term in terms))
        case Or(terms):
            return Or(tuple(renamed(term, name) for term in terms))
        case Not(term):
            return Not(renamed(term, name))
        case Everyone() | Nobody():
            return condition


def leaves(condition: Condition) -> tuple[Comparison | IsDefined, ...]:
    """Every comparison and every `is_defined`, from left to right."""
    match condition:
        case Comparison() | IsDefined():
            return (condition,)
        case And(terms) | Or(terms):
            return tuple(leaf for term in terms for leaf in leaves(term))
        case Not(term):
            return leaves(term)
        case _:
            return ()


def paths(condition: Condition) -> frozenset[Path]:
    """Every property that a condition names."""
    return frozenset(leaf.path for leaf in leaves(condition))


def is_monotone(condition: Condition) -> bool:
    """Whether a condition is made of equalities, AND and OR alone.

    Then a device can enter or leave only when one of the named (property, value) pairs gains or loses it.
    """
    match condition:
        case Comparison(op=op):
            return op is Op.EQ
        case And(terms) | Or(terms):
            return all(is_monotone(term) for term in terms)
        case Everyone() | Nobody():
            return True
        case _:
            return False


def equalities(condition: Condition) -> tuple[tuple[Path, Literal], ...]:
    """The (property, value) pairs that a condition compares for equality."""
    return tuple(
        (leaf.path, leaf.literal) for leaf in leaves(condition) if isinstance(leaf, Comparison) and leaf.op is Op.EQ
    )


def printed(condition: Condition) -> str:
    """The condition as text that parses to the same tree."""
    match condition:
        case Everyone():
            return "*"
        case Nobody():
            return ""
        case Comparison(path, op, literal):
            return f"{printed_path(path)} {op.value} {printed_literal(literal)}"
        case IsDefined(path):
            return f"is_defined({printed_path(path)})"
        case And(terms):
            return " AND ".join(map(_grouped, terms))
        case Or(terms):
            return " OR ".join(map(_grouped, terms))
        case Not(term):
            return f"NOT {_grouped(term)}"


def _grouped(condition: Condition) -> str:
    return f"({printed(condition)})" if isinstance(condition, And | Or) else printed(condition)


_KEYWORDS = frozenset({"and", "or", "not", "in", "nin", "true", "false", "null", "undefined", "is_defined"})


@lru_cache(10_000)
def printed_path(path: Path) -> str:
    """`tags.site`, with `[[…]]` around names that are not plain."""
    return ".".join(_printed_name(name) for name in path)


def _printed_name(name: str) -> str:
    plain = name.replace("_", "a").isalnum() and name.isascii() and not name[0].isdigit()
    return name if plain and name.lower() not in _KEYWORDS else f"[[{name}]]"


def printed_literal(literal: Literal) -> str:
    """A literal as conditions write it; a quote inside a string is doubled."""
    if isinstance(literal, bool):
        return "true" if literal else "false"
    if isinstance(literal, str):
        return "'" + literal.replace("'", "''") + "'"
    return repr(literal)
