"""Routes of the edge hub: `FROM source WHERE condition INTO sink`."""

import re
from functools import lru_cache
from typing import Any

import msgspec
from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedInput, v_args

from events.manifest.errors import RouteInvalid

CHARACTERS_MAX = 4096
NESTING_MAX = 64

_ENDPOINT_PARTS = 4
_FUNCTIONS = frozenset(
    {
        *("abs", "as_number", "ceiling", "concat", "contains", "ends_with", "exp", "floor", "index_of", "is_bool"),
        *("is_defined", "is_null", "is_number", "is_string", "length", "lower", "power", "sign", "sqrt", "square"),
        *("starts_with", "substring", "twin_change_includes", "upper"),
    }
)
_string_or_parenthesis = re.compile(r"""[()]|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""", re.DOTALL)
_escape = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)


class Route(msgspec.Struct, frozen=True):
    """Where a route's messages come from and go to.

    `source` is the prefix that a message's source must have, in any case; a `*` at its end is removed. `endpoint` is the
    argument of BrokeredEndpoint, or `None` for `$upstream`.
    """

    source: str
    endpoint: str | None


# Validation and several readiness rules parse the routes of one manifest again, and parsing is most of their work.
@lru_cache(maxsize=256)
def parse_route(text: str) -> Route:
    """Parse a route by the grammar of contract/edge.md §2.

    Raises:
        RouteInvalid: it does not follow the grammar, calls an unknown function, or has an unknown sink.
    """
    if len(text) > CHARACTERS_MAX:
        raise RouteInvalid(f"a route has at most {CHARACTERS_MAX} characters", column=CHARACTERS_MAX + 1)
    _check_nesting(text)
    try:
        # The transformer that is embedded in the parser returns this instead of a tree.
        route: Any = _parser().parse(text)
    except UnexpectedInput as error:
        raise _unexpected(error, text) from error
    assert isinstance(route, Route)
    return route


class _Reader(Transformer[Token, Any]):
    """Makes a Route of a parse."""

    def start(self, children: list[Any]) -> Route:
        _select, _star, _from, source, _where, _condition, _into, endpoint = children
        return Route(source, endpoint)

    def source(self, segments: list[Token]) -> str:
        return "".join(f"/{segment}" for segment in segments).removesuffix("*")

    @v_args(inline=True)
    def upstream(self, sink: Token) -> None:
        if sink.lower() != "$upstream":
            raise RouteInvalid(f"the sink must be $upstream or BrokeredEndpoint(…), not {sink}", column=_column(sink))

    @v_args(inline=True)
    def endpoint(self, sink: Token, target: Token) -> str:
        if sink.lower() != "brokeredendpoint":
            why = f"the sink must be $upstream or BrokeredEndpoint(…), not {sink}(…)"
            raise RouteInvalid(why, column=_column(sink))
        endpoint = _escape.sub(_unescaped, target[1:-1])
        if len(endpoint.removeprefix("/").removesuffix("/").split("/")) != _ENDPOINT_PARTS:
            why = f"an endpoint must be /modules/{{module}}/inputs/{{input}}, not {endpoint}"
            raise RouteInvalid(why, column=_column(target))
        return endpoint

    def call(self, children: list[Any]) -> None:
        name = children[0]
        if name.lower() not in _FUNCTIONS:
            raise RouteInvalid(f"there is no function {name}", column=_column(name))


@lru_cache(maxsize=1)
def _parser() -> Lark:
    return Lark.open("routes.lark", rel_to=__file__, parser="lalr", transformer=_Reader())


def _check_nesting(text: str) -> None:
    depth = 0
    for match in _string_or_parenthesis.finditer(text):
        depth += {"(": 1, ")": -1}.get(match.group(), 0)
        if depth > NESTING_MAX:
            raise RouteInvalid(f"parentheses are nested deeper than {NESTING_MAX}", column=match.start() + 1)


def _column(token: Token) -> int:
    # Lark's columns restart on each line, and a route in a manifest is one string.
    return (token.start_pos or 0) + 1


def _unescaped(escape: re.Match[str]) -> str:
    code, character = escape.groups()
    return chr(int(code, 16)) if code else str(character)


def _unexpected(error: UnexpectedInput, text: str) -> RouteInvalid:
    token = getattr(error, "token", None)
    if isinstance(error, UnexpectedCharacters):
        position: Any = error.pos_in_stream  # lark declares it as never set
        return RouteInvalid(f"unexpected {error.char!r}", column=position + 1)
    if isinstance(token, Token) and token.type != "$END":
        return RouteInvalid(f"unexpected {str(token)!r}", column=_column(token))
    return RouteInvalid("the route ends too early", column=len(text) + 1)
