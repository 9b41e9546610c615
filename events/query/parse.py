"""From the text of a query to its tree, or to an error that shows where and what was expected."""

import math
import re
from collections.abc import Collection
from contextlib import suppress
from functools import cache, lru_cache
from importlib.resources import files
from typing import NamedTuple, cast

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from events.query.errors import QueryInvalid
from events.query.tree import (
    ROOTS,
    UNDEFINED,
    Aggregate,
    And,
    Arithmetic,
    ArithmeticOp,
    Comparison,
    Constant,
    Contains,
    Expression,
    Function,
    In,
    IsDefined,
    Literal,
    Not,
    Or,
    PathOf,
    Projection,
    Query,
    Source,
    is_aggregate,
)
from events.targeting.tree import Op, Path

LENGTH_MAX = 8192
# A condition nested as deep as conditions may be, in the query that counts its devices, stays below.
DEPTH_MAX = 320
INTEGER_MAX = 2**63 - 1
_DIGITS_MAX = 19

_ROOTS = {root.lower(): root for root in ROOTS}
_OPS = {"<>": Op.NE, **{op.value: op for op in Op}}
_SOURCES = {source.value: source for source in Source}
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "'": "'", '"': '"', "\\": "\\", "/": "/"}
_ESCAPE = re.compile(r"(?:\\u[dD][89abAB][0-9a-fA-F]{2})(?:\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[0-9a-fA-F]{4}|\\[\s\S]")


@lru_cache(maxsize=4096)
def parse(text: str) -> Query:
    """Parse a query.

    Keywords, collections, functions and root properties are written in any case; other names are case-sensitive.

    Raises:
        QueryInvalid: it is not a query, or over a limit (8,192 characters, 320 operators within each other).
    """
    _check(text)
    try:
        return cast("Query", _parser().parse(text))
    except _Refused as error:
        raise QueryInvalid(text, column=error.position + 1, reason=error.reason) from None
    except UnexpectedCharacters as error:
        raise _unexpected(text, cast("int", error.pos_in_stream), error.allowed or ()) from None
    except UnexpectedToken as error:
        at_end = error.token.type == "$END"
        position = len(text.rstrip()) if at_end else _at(error.token)
        raise _unexpected(text, position, error.accepts or error.expected) from None


@cache
def _parser() -> Lark:
    grammar = files("events.query").joinpath("grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, start="query", parser="lalr", transformer=_ToTree(), maybe_placeholders=True)


class _Refused(Exception):
    def __init__(self, position: int, reason: str) -> None:
        super().__init__(reason)
        self.position, self.reason = position, reason


class _Made(NamedTuple):
    """An expression, and how many operators stand within each other in it: whoever walks it recurses that deep."""

    expression: Expression
    depth: int = 0


class _Named(NamedTuple):
    """A path, and where it stands."""

    path: Path
    position: int


class _Item(NamedTuple):
    """What is selected, and where it stands."""

    item: Projection | Aggregate
    position: int


@v_args(inline=True)
class _ToTree(Transformer[Token, Query]):
    def query(
        self,
        top: int | None,
        items: tuple[_Item, ...],
        source: Source | None,
        where: _Made | None,
        group_by: tuple[_Named, ...] | None,
    ) -> Query:
        query = Query(
            select=tuple(item for item, _ in items),
            top=top,
            source=source or Source.DEVICES,
            where=None if where is None else where.expression,
            group_by=tuple(path for path, _ in group_by or ()),
        )
        if group_by and not items:
            raise _Refused(
                group_by[0].position, "SELECT * cannot be grouped; select the grouped properties and aggregates"
            )
        _check_items(query, items)
        return query

    def top(self, number: Token) -> int:
        count = _number(number)
        if not isinstance(count, int) or count < 1:
            raise _Refused(_at(number), "TOP needs a whole number from 1")
        return count

    def everything(self, _star: Token) -> tuple[_Item, ...]:
        return ()

    def items(self, *items: _Item) -> tuple[_Item, ...]:
        return items

    def projection(self, named: _Named, alias: str | None) -> _Item:
        return _Item(Projection(named.path, alias), named.position)

    def count(self, name: Token, _star: Token | None, alias: str | None) -> _Item:
        function = Function[name.upper()]
        if function is not Function.COUNT:
            raise _Refused(_at(name), f"{function.value} needs a property, as in {function.value}(tags.x)")
        return _Item(Aggregate(function, None, alias), _at(name))

    def aggregate(self, name: Token, named: _Named, alias: str | None) -> _Item:
        function = Function[name.upper()]
        if function is Function.COUNT:
            raise _Refused(named.position, "COUNT takes no property; restrict what it counts with WHERE is_defined(…)")
        return _Item(Aggregate(function, named.path, alias), _at(name))

    def source(self, *names: Token) -> Source:
        source = _SOURCES.get(".".join(names).lower())
        if source is None:
            raise _Refused(_at(names[0]), "FROM is followed by devices, devices.modules or devices.jobs")
        return source

    def group_by(self, *named: _Named) -> tuple[_Named, ...]:
        return named

    def alias(self, token: Token) -> str:
        return _name(token)

    def path(self, *tokens: Token) -> _Named:
        return _Named(_rooted([_name(token) for token in tokens]), _at(tokens[0]))

    def any_of(self, *parts: _Made | Token) -> _Made:
        return _joined(Or, parts)

    def all_of(self, *parts: _Made | Token) -> _Made:
        return _joined(And, parts)

    def negated(self, token: Token, term: _Made) -> _Made:
        return _made(token, Not(term.expression), term)

    def compared(self, left: _Made, op: Token, right: _Made) -> _Made:
        return _made(op, Comparison(left.expression, _OPS[op], right.expression), left, right)

    def within(self, value: _Made, token: Token, literals: tuple[Literal, ...]) -> _Made:
        return _made(token, In(value.expression, literals), value)

    def outside(self, value: _Made, token: Token, literals: tuple[Literal, ...]) -> _Made:
        return _made(token, Not(In(value.expression, literals)), value)

    def arithmetic(self, left: _Made, op: Token, right: _Made) -> _Made:
        return _made(op, Arithmetic(left.expression, ArithmeticOp(op), right.expression), left, right)

    def negative(self, token: Token, term: _Made) -> _Made:
        match term.expression:
            case Constant(int() | float() as value) if not isinstance(value, bool):
                return _Made(Constant(-value))
            case _:
                return _made(token, Arithmetic(Constant(0), ArithmeticOp.SUBTRACT, term.expression), term)

    def positive(self, _plus: Token, number: Token) -> _Made:
        return _Made(Constant(_number(number)))

    def path_of(self, named: _Named) -> _Made:
        return _Made(PathOf(named.path))

    def constant_of(self, literal: Literal) -> _Made:
        return _Made(Constant(literal))

    def is_defined(self, _word: Token, named: _Named) -> _Made:
        return _Made(IsDefined(named.path))

    def contains(self, _word: Token, named: _Named, literal: Literal) -> _Made:
        return _Made(Contains(named.path, literal))

    def grouped(self, inner: _Made) -> _Made:
        return inner

    def list(self, *literals: Literal) -> tuple[Literal, ...]:
        return literals

    def negative_number(self, _minus: Token, number: Token) -> float:
        return -_number(number)

    def positive_number(self, _plus: Token, number: Token) -> float:
        return _number(number)

    def string(self, token: Token) -> str:
        return _string(token)

    def number(self, token: Token) -> float:
        return _number(token)

    def true(self, _token: Token) -> bool:
        return True

    def false(self, _token: Token) -> bool:
        return False

    def null(self, _token: Token) -> None:
        return None

    def undefined(self, _token: Token) -> Literal:
        return UNDEFINED


def _at(token: Token) -> int:
    return int(token.start_pos or 0)


def _made(token: Token, expression: Expression, *parts: _Made) -> _Made:
    depth = 1 + max(part.depth for part in parts)
    if depth > DEPTH_MAX:
        raise _Refused(_at(token), f"nested deeper than {DEPTH_MAX} operators")
    return _Made(expression, depth)


def _joined(kind: type[And | Or], parts: tuple[_Made | Token, ...]) -> _Made:
    """Terms with the same word between them, as one; terms that are of the kind themselves are dissolved in it."""
    made = [part for part in parts if isinstance(part, _Made)]
    (token, *_) = (part for part in parts if isinstance(part, Token))
    terms: list[Expression] = []
    for part in made:
        terms += part.expression.terms if isinstance(part.expression, kind) else (part.expression,)
    return _made(token, kind(tuple(terms)), *made)


def _check_items(query: Query, items: tuple[_Item, ...]) -> None:
    aliases: set[str] = set()
    for item, position in items:
        if item.alias is not None and item.alias in aliases:
            raise _Refused(position, "two results cannot have the same alias")
        if item.alias is not None:
            aliases.add(item.alias)
        if is_aggregate(query) and isinstance(item, Projection) and item.path not in query.group_by:
            raise _Refused(position, "beside an aggregate, a property must stand in GROUP BY")


def _name(token: Token) -> str:
    return token[2:-2] if token.type == "ESCAPED" else str(token)


def _rooted(names: list[str]) -> Path:
    """The path from the root of a twin: without the collection before it, and with the root as twins spell it."""
    while len(names) > 1 and names[0].lower() == "devices":
        names = names[1:]
        if len(names) > 1 and names[0].lower() in {"modules", "jobs"}:
            names = names[1:]
    root = _ROOTS.get(names[0].lower(), names[0])
    # What stands below `properties` is of the twin's form too, and conditions write it in any case.
    if root == "properties" and len(names) > 1 and names[1].lower() in {"desired", "reported"}:
        return (root, names[1].lower(), *names[2:])
    return (root, *names[1:])


def _number(token: Token) -> int | float:
    if token[:2] in {"0x", "0X"}:
        # Sixteen digits are the most that may fit, and reading them costs nothing.
        value = int(token.lstrip("0xX")[: _DIGITS_MAX + 1] or "0", 16)
        return _bounded(token, value)
    if token.isdigit():
        digits = token.lstrip("0") or "0"
        # Python itself refuses to read thousands of digits.
        return _bounded(token, int(digits[: _DIGITS_MAX + 1]))
    number = float(token)
    if not math.isfinite(number):
        raise _Refused(_at(token), "the number is too large")
    return number


def _bounded(token: Token, value: int) -> int:
    if value > INTEGER_MAX:
        raise _Refused(_at(token), "an integer must lie within ±(2^63 - 1)")
    return value


def _string(token: Token) -> str:
    def turn(match: re.Match[str]) -> str:
        found = match[0]
        if found[1] == "u" and len(found) > len(r"\u"):
            units = b"".join(bytes.fromhex(code) for code in found.split("\\u")[1:])
            with suppress(UnicodeDecodeError):  # half of a pair is no character
                return units.decode("utf-16-be")
        elif found[1] in _ESCAPES:
            return _ESCAPES[found[1]]
        position = _at(token) + 1 + match.start()
        raise _Refused(position, "no such escape; a string has \\' \\\" \\\\ \\/ \\b \\f \\n \\r \\t and \\uXXXX")

    return _ESCAPE.sub(turn, token[1:-1])


def _check(text: str) -> None:
    if len(text) > LENGTH_MAX:
        reason = f"a query has at most {LENGTH_MAX} characters, this one has {len(text)}"
        raise QueryInvalid(text, column=LENGTH_MAX + 1, reason=reason)
    for position, character in enumerate(text):
        if (ord(character) < 32 and character not in "\t\n\r") or 0xD800 <= ord(character) < 0xE000:  # noqa: PLR2004
            raise QueryInvalid(text, column=position + 1, reason="control characters and lone surrogates are not text")


# What terminals are called in a message, in the order they are listed; PLUS and MINUS are told as operator or not at all.
_WORDS = {
    **dict.fromkeys(("NAME", "ESCAPED"), "a property"),
    **dict.fromkeys(("NUMBER", "STRING", "TRUE", "FALSE", "NULL", "UNDEFINED"), "a value"),
    **dict.fromkeys(("OP", "SLASH", "PERCENT"), "an operator"),
    **dict.fromkeys(("AND", "OR"), "AND or OR"),
    "STAR": "*",
    "COMMA": "a comma",
    "LSQB": "a list in [ ]",
    "RSQB": "]",
    "LPAR": "(",
    "RPAR": ")",
    "_SELECT": "SELECT",
    "_BY": "BY",
    "_FROM": "FROM",
    "_WHERE": "WHERE",
    "_GROUP": "GROUP BY",
    "$END": "the end of the query",
}


_CONDITIONS = {"IS_DEFINED", "ARRAY_CONTAINS"}


def _unexpected(text: str, position: int, terminals: Collection[str]) -> QueryInvalid:
    return QueryInvalid(text, column=position + 1, reason=_reason(text, position, terminals))


def _reason(text: str, position: int, terminals: Collection[str]) -> str:
    rest = text[position:]
    before = re.search(r"[\w$]*\s*\Z", text[:position])
    word = before[0].strip() if before else ""
    if rest[:1] in {"'", '"'} and text[:position].rstrip().endswith(("'", '"')):
        return "a quote inside a string is written with a backslash before it"
    if rest[:1] in {"'", '"'} and not re.match(r"""'(?:[^'\\]|\\[\s\S])*'|"(?:[^"\\]|\\[\s\S])*\"""", rest):
        return "this quote is not closed"
    if rest.startswith("=") and text[:position].endswith("="):
        return "equality is written ="
    if rest.startswith("(") and word.upper() in Function.__members__:
        return f"{word.upper()} stands in SELECT only, and not within another aggregate"
    if rest.startswith("(") and word.upper() in _CONDITIONS:
        return f"{word.upper()} stands in WHERE only"
    if rest.startswith("(") and word and "LPAR" not in terminals:
        return (
            f"there is no function {word[:40]}; queries have IS_DEFINED, ARRAY_CONTAINS, COUNT, AVG, SUM, MIN and MAX"
        )
    found = re.match(r"[\w$.]+|\S", rest)
    said = f"{found[0][:40]!r} does not belong here" if found else "the query ends too early"
    named = dict.fromkeys(words for terminal, words in _WORDS.items() if terminal in terminals)
    if "a value" in named:
        # Among operands a star or a bracket would only be noise.
        named = {words: None for words in named if words in {"a property", "a value"}}
    return f"{said}; expected {_either(list(named))}" if named else said


def _either(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
