"""The parser: it turns the text of a query or a condition into a tree, by `grammar.lark`."""

import math
import re
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import cache
from importlib.resources import files
from typing import Any, Generic, NamedTuple, TypeVar, cast
from typing import Literal as OneOf

from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from events.query import tree
from events.query.text import ROOTS
from events.query.tree import Expression, Literal, Op, Path, Primitive, Query

# Conditions have at most 100 levels, so the query that counts the devices of a condition stays within this limit.
DEPTH_MAX = 320
INTEGER_MAX = 2**63 - 1
CONDITION_INTEGER_MAX = 2**52

_ROOTS = {root.lower(): root for root in ROOTS}
_OPS = {"<>": Op.NE, **{op.value: op for op in Op}}
_SOURCES = {source.value: source for source in tree.QuerySource}
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "'": "'", '"': '"', "\\": "\\", "/": "/"}
_ESCAPE = re.compile(r"(?:\\u[dD][89abAB][0-9a-fA-F]{2})(?:\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[0-9a-fA-F]{4}|\\[\s\S]")
_WRONG_ROOT = "It must be a filter condition based on 'deviceId', 'tags', or 'properties.reported'. It contains: {}"


class QueryRefused(Exception):
    """A text that the grammar accepts, but the language does not: the position, from 0, and the reason."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(reason)
        self.position, self.reason = position, reason


class Misplaced(Exception):
    """A text that the grammar does not accept: the position, from 0, and the terminals that are possible there."""

    def __init__(self, position: int, terminals: Collection[str]) -> None:
        super().__init__(position)
        self.position, self.terminals = position, terminals


def read(text: str, start: OneOf["query", "condition"]) -> Any:
    """Return the tree of a `Query`, or of a condition: there each comparison has a property on the left and a literal on the right.

    Raises:
        QueryRefused, Misplaced: the text is neither.
    """
    try:
        return _parser().parse(text, start=start)
    except UnexpectedCharacters as error:
        raise Misplaced(cast("int", error.pos_in_stream), error.allowed or ()) from None
    except UnexpectedToken as error:
        position = len(text.rstrip()) if error.token.type == "$END" else _at(error.token)
        raise Misplaced(position, error.accepts or error.expected) from None


@cache
def _parser() -> Lark:
    grammar = files("events.query").joinpath("grammar.lark").read_text(encoding="utf-8")
    # One parser for both languages, because building it takes 40 ms, mostly for the grammar that is read either way.
    starts = ["query", "condition"]
    return Lark(grammar, start=starts, parser="lalr", transformer=_ToTree(), maybe_placeholders=True)


class _Subtree(NamedTuple):
    """An expression and its depth in operators, which is how deep a function that walks the tree recurses."""

    expression: Expression
    depth: int = 0


Value = TypeVar("Value")


class _Placed(NamedTuple, Generic[Value]):
    """A path or a selected item, and its position in the text."""

    value: Value
    position: int


_Item = _Placed[tree.Projection | tree.Aggregate]


def _at(token: Token) -> int:
    return int(token.start_pos or 0)


def _subtree(token: Token, expression: Expression, *parts: _Subtree) -> _Subtree:
    depth = 1 + max(part.depth for part in parts)
    if depth > DEPTH_MAX:
        raise QueryRefused(_at(token), f"nested deeper than {DEPTH_MAX} operators")
    return _Subtree(expression, depth)


def _joined(kind: type[tree.And | tree.Or], parts: tuple[_Subtree | Token, ...]) -> _Subtree:
    """Return one AND or OR of all terms; a term of the same kind is replaced by its own terms."""
    subtrees = [part for part in parts if isinstance(part, _Subtree)]
    # In a condition, a NOT directly after a term has no word before it.
    token = next((part for part in parts if isinstance(part, Token)), Token("AND", ""))
    terms: list[Expression] = []
    for part in subtrees:
        terms += part.expression.terms if isinstance(part.expression, kind) else (part.expression,)
    return _subtree(token, kind(tuple(terms)), *subtrees)


def _name(token: Token) -> str:
    return token[2:-2] if token.type == "ESCAPED" else str(token)


def _number(token: Token, integer_max: int = INTEGER_MAX, limit: str = "(2^63 - 1)") -> int | float:
    digits = token.lstrip("+-")
    base = 16 if digits[:2] in {"0x", "0X"} else 10
    if base == 16 or digits.isdigit():  # noqa: PLR2004 - a base
        # Python refuses to read integers of thousands of digits. Twenty digits are always above the limit.
        value = int(digits.lstrip("0xX")[:20] or "0", base)
        if value > integer_max:
            raise QueryRefused(_at(token), f"an integer must be within ±{limit}")
        return -value if token.startswith("-") else value
    number = float(token)
    if not math.isfinite(number):
        raise QueryRefused(_at(token), "the number is too large")
    return number


def _string(token: Token) -> str:
    def unescaped(match: re.Match[str]) -> str:
        escape = match[0]
        if escape[1] == "u" and len(escape) > len(r"\u"):
            units = b"".join(bytes.fromhex(code) for code in escape.split("\\u")[1:])
            with suppress(UnicodeDecodeError):  # half of a pair is no character
                return units.decode("utf-16-be")
        elif escape[1] in _ESCAPES:
            return _ESCAPES[escape[1]]
        position = _at(token) + 1 + match.start()
        raise QueryRefused(
            position, "unknown escape; a string can have \\' \\\" \\\\ \\/ \\b \\f \\n \\r \\t and \\uXXXX"
        )

    return _ESCAPE.sub(unescaped, token[1:-1])


def _restricted_op(token: Token, literal: Primitive) -> Op:
    op = _OPS[token]
    if isinstance(literal, bool) and op not in {Op.EQ, Op.NE}:
        raise QueryRefused(_at(token), "booleans have no order; use = or !=")
    return op


def _always(literal: Literal) -> Callable[[Any, Token], Literal]:
    return lambda _self, _token: literal


@v_args(inline=True)
class _ToTree(Transformer[Token, Any]):
    def query(
        self,
        top: int | None,
        items: tuple[_Item, ...],
        source: tree.QuerySource | None,
        where: _Subtree | None,
        group_by: tuple[_Placed[Path], ...] | None,
    ) -> Query:
        query = Query(
            select=tuple(item for item, _ in items),
            top=top,
            source=source or tree.QuerySource.DEVICES,
            where=None if where is None else where.expression,
            group_by=tuple(path for path, _ in group_by or ()),
        )
        if group_by and not items:
            reason = "SELECT * cannot be grouped; select the grouped properties and aggregates"
            raise QueryRefused(group_by[0].position, reason)
        aliases: set[str] = set()
        for item, position in items:
            if item.alias is not None and item.alias in aliases:
                raise QueryRefused(position, "another result has the same alias")
            if item.alias is not None:
                aliases.add(item.alias)
            if tree.is_aggregate(query) and isinstance(item, tree.Projection) and item.path not in query.group_by:
                raise QueryRefused(position, "a query with aggregates can select only properties of its GROUP BY")
        return query

    def top(self, number: Token) -> int:
        count = _number(number)
        if not isinstance(count, int) or count < 1:
            raise QueryRefused(_at(number), "TOP needs a whole number of at least 1")
        return count

    def everything(self, _star: Token) -> tuple[_Item, ...]:
        return ()

    def items(self, *children: Any) -> tuple[Any, ...]:
        return children

    group_by = list = items

    def projection(self, named: _Placed[Path], alias: str | None) -> _Item:
        return _Item(tree.Projection(named.value, alias), named.position)

    def count(self, name: Token, _star: Token | None, alias: str | None) -> _Item:
        function = tree.Function[name.upper()]
        if function is not tree.Function.COUNT:
            raise QueryRefused(_at(name), f"{function.value} needs a property, such as in {function.value}(tags.x)")
        return _Item(tree.Aggregate(function, None, alias), _at(name))

    def aggregate(self, name: Token, named: _Placed[Path], alias: str | None) -> _Item:
        function = tree.Function[name.upper()]
        if function is tree.Function.COUNT:
            raise QueryRefused(
                named.position, "COUNT has no argument; select the counted rows with WHERE is_defined(…)"
            )
        return _Item(tree.Aggregate(function, named.value, alias), _at(name))

    def source(self, *names: Token) -> tree.QuerySource:
        source = _SOURCES.get(".".join(names).lower())
        if source is None:
            raise QueryRefused(_at(names[0]), "FROM must be followed by devices, devices.modules or devices.jobs")
        return source

    def path(self, *tokens: Token) -> _Placed[Path]:
        names = [_name(token) for token in tokens]
        # The path is from the root of a twin, without the collection before it and with the root in the case of twins.
        while len(names) > 1 and names[0].lower() == "devices":
            names = names[1:]
            if len(names) > 1 and names[0].lower() in {"modules", "jobs"}:
                names = names[1:]
        root, *below = names
        root = _ROOTS.get(root.lower(), root)
        # Below `properties` the names are of the twin's form too, and conditions can write them in any case.
        if root == "properties" and below and below[0].lower() in {"desired", "reported"}:
            below[0] = below[0].lower()
        return _Placed((root, *below), _at(tokens[0]))

    def any_of(self, *parts: _Subtree | Token) -> _Subtree:
        return _joined(tree.Or, parts)

    def all_of(self, *parts: _Subtree | Token) -> _Subtree:
        return _joined(tree.And, parts)

    def negated(self, token: Token, term: _Subtree) -> _Subtree:
        return _subtree(token, tree.Not(term.expression), term)

    def compared(self, left: _Subtree, op: Token, right: _Subtree) -> _Subtree:
        return _subtree(op, tree.Comparison(left.expression, _OPS[op], right.expression), left, right)

    def within(self, value: _Subtree, token: Token, literals: tuple[Literal, ...]) -> _Subtree:
        return _subtree(token, tree.In(value.expression, literals), value)

    def outside(self, value: _Subtree, token: Token, literals: tuple[Literal, ...]) -> _Subtree:
        return _subtree(token, tree.Not(tree.In(value.expression, literals)), value)

    def arithmetic(self, left: _Subtree, op: Token, right: _Subtree) -> _Subtree:
        return _subtree(op, tree.Arithmetic(left.expression, tree.ArithmeticOp(op), right.expression), left, right)

    def negative(self, token: Token, term: _Subtree) -> _Subtree:
        match term.expression:
            case tree.Constant(int() | float() as value) if not isinstance(value, bool):
                return _Subtree(tree.Constant(-value))
            case _:
                return _subtree(
                    token, tree.Arithmetic(tree.Constant(0), tree.ArithmeticOp.SUBTRACT, term.expression), term
                )

    def positive(self, _plus: Token, number: Token) -> _Subtree:
        return _Subtree(tree.Constant(_number(number)))

    def path_of(self, named: _Placed[Path]) -> _Subtree:
        return _Subtree(tree.PathOf(named.value))

    def constant_of(self, literal: Literal) -> _Subtree:
        return _Subtree(tree.Constant(literal))

    def is_defined(self, _word: Token, named: _Placed[Path]) -> _Subtree:
        return _Subtree(tree.IsDefined(named.value))

    def contains(self, _word: Token, named: _Placed[Path], literal: Literal) -> _Subtree:
        return _Subtree(tree.Contains(named.value, literal))

    def negative_number(self, _minus: Token, number: Token) -> float:
        return -_number(number)

    def positive_number(self, _plus: Token, number: Token) -> float:
        return _number(number)

    alias, string, number = staticmethod(_name), staticmethod(_string), staticmethod(_number)
    true, false, null, undefined = map(_always, (True, False, None, tree.UNDEFINED))

    # -- in conditions

    def condition(self, inner: _Subtree) -> Expression:
        return inner.expression

    def restricted(self, named: _Placed[Path], op: Token, literal: Primitive) -> _Subtree:
        return _Subtree(tree.compare_property(named.value, _restricted_op(op, literal), literal), 1)

    def restricted_turned(self, literal: Primitive, op: Token, named: _Placed[Path]) -> _Subtree:
        return _Subtree(tree.compare_property(named.value, tree.MIRRORED[_restricted_op(op, literal)], literal), 1)

    def path_in_condition(self, root: Token, *names: Token) -> _Placed[Path]:
        below = tuple(name[2:-2] if name.type == "C_ESCAPED" else str(name) for name in names)
        name, is_reported = root.lower(), bool(below) and below[0].lower() == "reported"
        if name == "deviceid":
            if below:
                raise QueryRefused(_at(names[0]), "deviceId has no properties")
            return _Placed(("deviceId",), _at(root))
        if name == "tags":
            if not below:
                raise QueryRefused(_at(root), "tags needs the name of a tag, such as in tags.environment")
            return _Placed(("tags", *below), _at(root))
        if name != "properties" or not is_reported:
            raise QueryRefused(_at(root), _WRONG_ROOT.format(".".join((root, *below))[:200]))
        if len(below) == 1:
            raise QueryRefused(_at(root), "properties.reported needs the name of a property")
        return _Placed(("properties", "reported", *below[1:]), _at(root))

    def string_in_condition(self, token: Token) -> str:
        return token[1:-1].replace("''", "'")

    def number_in_condition(self, token: Token) -> float:
        return _number(token, CONDITION_INTEGER_MAX, "2^52")
