"""Routes of the edge hub: `FROM source WHERE condition INTO sink`."""

import re
from functools import lru_cache
from typing import Any

import msgspec
from lark import Lark, Token, Transformer, UnexpectedCharacters, UnexpectedInput, v_args

from events.manifest.errors import RouteInvalid

CHARACTERS_MAX = 4096
NESTING_MAX = 64
ALWAYS = "true"

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
    """The parts of a route.

    `source` is the prefix that a message's source must have, in any case; a `*` at its end is removed. `condition` is the
    text between WHERE and INTO, or `true`. `endpoint` is the argument of BrokeredEndpoint, or `None` for `$upstream`.
    """

    source: str
    condition: str
    sink: str
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
        # The transformer that is embedded in the parser returns these parts instead of a tree.
        parts: Any = _parser().parse(text)
    except UnexpectedInput as error:
        raise _unexpected(error, text) from error
    source, (sink, endpoint), condition = parts
    return Route(source, text[condition].strip() if condition else ALWAYS, sink, endpoint)


class _Reader(Transformer[Token, Any]):
    """Extracts from a parse what a Route needs: source, sink and the position of the condition."""

    def start(self, children: list[Any]) -> tuple[str, tuple[str, str | None], slice | None]:
        _select, _star, _from, source, where, _condition, into, sink = children
        return source, sink, slice(where.end_pos, into.start_pos) if where else None

    def source(self, segments: list[Token]) -> str:
        return "".join(f"/{segment}" for segment in segments).removesuffix("*")

    @v_args(inline=True)
    def upstream(self, sink: Token) -> tuple[str, None]:
        if sink.lower() != "$upstream":
            raise RouteInvalid(f"the sink must be $upstream or BrokeredEndpoint(…), not {sink}", column=_column(sink))
        return str(sink), None

    @v_args(inline=True)
    def endpoint(self, sink: Token, target: Token) -> tuple[str, str]:
        if sink.lower() != "brokeredendpoint":
            raise RouteInvalid(
                f"the sink must be $upstream or BrokeredEndpoint(…), not {sink}(…)", column=_column(sink)
            )
        endpoint = _escape.sub(_unescaped, target[1:-1])
        if len(endpoint.removeprefix("/").removesuffix("/").split("/")) != _ENDPOINT_PARTS:
            why = f"an endpoint must be /modules/{{module}}/inputs/{{input}}, not {endpoint}"
            raise RouteInvalid(why, column=_column(target))
        return str(sink), endpoint

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
        return RouteInvalid(f"unexpected {str(token)!r}", column=(token.start_pos or 0) + 1)
    return RouteInvalid("the route ends too early", column=len(text) + 1)
