"""Parsing of queries, with errors that show the position and what was expected there."""

import re
from collections.abc import Collection

from events.query.errors import QueryInvalid, check_text
from events.query.grammar import Misplaced, QueryRefused, read
from events.query.tree import Function, Query
from events.text_cache import by_text


@by_text
def parse(text: str) -> Query:
    """Parse a query.

    Keywords, collections, functions and root properties can be in any case; other names are case-sensitive.

    Raises:
        QueryInvalid: it is not a query, or exceeds a limit (8,192 characters, 320 nested operators).
    """
    check_text(text, QueryInvalid)
    try:
        query: Query = read(text, "query")
    except QueryRefused as error:
        raise QueryInvalid(text, column=error.position + 1, reason=error.reason) from None
    except Misplaced as error:
        reason = _reason(text, error.position, error.terminals)
        raise QueryInvalid(text, column=error.position + 1, reason=reason) from None
    return query


# Terminal → its name in messages, in the order of the list. PLUS and MINUS are not here: they are signs as well as
# operators, and wherever they are operators, so is SLASH.
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


def _reason(text: str, position: int, terminals: Collection[str]) -> str:
    remaining = text[position:]
    before = re.search(r"[\w$]*\s*\Z", text[:position])
    word = before[0].strip() if before else ""
    if remaining[:1] in {"'", '"'} and text[:position].rstrip().endswith(("'", '"')):
        return "a quote inside a string needs a backslash before it"
    if remaining[:1] in {"'", '"'} and not re.match(r"""'(?:[^'\\]|\\[\s\S])*'|"(?:[^"\\]|\\[\s\S])*\"""", remaining):
        return "this quote is not closed"
    if remaining.startswith("=") and text[:position].endswith("="):
        return "== is not an operator; use ="
    if remaining.startswith("(") and word.upper() in Function.__members__:
        return f"{word.upper()} is allowed only in SELECT, and not in another aggregate"
    if remaining.startswith("(") and word.upper() in _CONDITIONS:
        return f"{word.upper()} is allowed only in WHERE"
    if remaining.startswith("(") and word and "LPAR" not in terminals:
        return f"unknown function {word[:40]}; known are IS_DEFINED, ARRAY_CONTAINS, COUNT, AVG, SUM, MIN and MAX"
    token = re.match(r"[\w$.]+|\S", remaining)
    fault = f"unexpected {token[0][:40]!r}" if token else "the query ends too early"
    named = dict.fromkeys(words for terminal, words in _WORDS.items() if terminal in terminals)
    if "a value" in named:
        # Where an operand is expected, other terminals such as * or ( would only make the list longer.
        named = {words: None for words in named if words in {"a property", "a value"}}
    if not named:
        return fault
    *most, last = named
    return f"{fault}; expected {', '.join(most)} or {last}" if most else f"{fault}; expected {last}"
