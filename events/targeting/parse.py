"""From the text of a target condition to its tree, or to an error that shows where and why not."""

import math
import re
from functools import cache
from importlib.resources import files
from typing import cast

import msgspec
from lark import Lark, Token, Transformer, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedToken, VisitError

from events.targeting.errors import ConditionInvalid
from events.targeting.tree import (
    And,
    Comparison,
    Condition,
    Everyone,
    IsDefined,
    Literal,
    Nobody,
    Not,
    Op,
    Or,
    Path,
)
from events.text_cache import by_text

LENGTH_MAX = 8192
DEPTH_MAX = 100
INTEGER_MAX = 2**52
_DIGITS_MAX = 16

_WRONG_ROOT = "It must be a filter condition based on 'deviceId', 'tags', or 'properties.reported'. It contains: {}"
_TURNED = {Op.LT: Op.GT, Op.LE: Op.GE, Op.GT: Op.LT, Op.GE: Op.LE}
_OPS = {"<>": Op.NE, **{op.value: op for op in Op}}

# What a scan over the text must tell apart; a string hides what is in it.
_SCAN = re.compile(
    r"(?P<string>'(?:[^']|'')*')|(?P<double>\"(?:[^\"\\]|\\.)*\"?)|(?P<equals>==)|(?P<paren>[()])"
    r"|(?P<escaped>\[\[[^\[\]]*\]\])|(?P<word>[A-Za-z_$][\w$.-]*)|(?P<open>')"
)


class Note(msgspec.Struct, frozen=True):
    """Something in a condition that is accepted and probably not meant."""

    column: int
    message: str


@by_text
def parse(text: str) -> Condition:
    """Parse a target condition.

    Blank text targets nobody, `*` everybody. Names after the root are case-sensitive; keywords and roots are not.

    Raises:
        ConditionInvalid: it is not a condition over deviceId, tags and properties.reported, or over a limit
            (8,192 characters, nesting of 100).
    """
    if not text.strip():
        return Nobody()
    _check(text)
    if text.strip() == "*":
        return Everyone()
    try:
        return _flat(cast("Condition", _parser().parse(text)))
    except VisitError as error:
        if isinstance(error.orig_exc, _Refused):
            raise error.orig_exc.of(text) from None
        raise
    except _Refused as error:
        raise error.of(text) from None
    except UnexpectedCharacters as error:
        raise _unexpected(text, cast("int", error.pos_in_stream)) from None
    except UnexpectedToken as error:
        at_end = error.token.type == "$END"
        raise _unexpected(text, len(text.rstrip()) if at_end else int(error.token.start_pos or 0)) from None
    except UnexpectedEOF:
        raise _unexpected(text, len(text.rstrip())) from None


def lint(text: str) -> tuple[Note, ...]:
    """What is accepted in a condition although something else may have been meant.

    Raises:
        ConditionInvalid: as `parse`.
    """
    parse(text)
    notes, former = [], ""
    for match in _SCAN.finditer(text):
        word = match["word"] or ""
        if word.lower() == "not" and former and former not in {"and", "or", "not", "("}:
            notes.append(Note(match.start() + 1, "NOT right after a term is read as AND NOT; write the AND"))
        former = word.lower() or match[0]
    return tuple(notes)


@cache
def _parser() -> Lark:
    grammar = files("events.targeting").joinpath("grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", lexer="basic", transformer=_ToTree(), maybe_placeholders=False)


class _Refused(Exception):
    def __init__(self, position: int, reason: str) -> None:
        super().__init__(reason)
        self.position, self.reason = position, reason

    def of(self, text: str) -> ConditionInvalid:
        return ConditionInvalid(text, column=self.position + 1, reason=self.reason)


@v_args(inline=True)
class _ToTree(Transformer[Token, Condition]):
    def or_(self, *terms: Condition) -> Condition:
        return terms[0] if len(terms) == 1 else Or(terms)

    def and_(self, *terms: Condition) -> Condition:
        return terms[0] if len(terms) == 1 else And(terms)

    def not_(self, term: Condition) -> Condition:
        return Not(term)

    def juxtaposed(self, term: Condition) -> Condition:
        return Not(term)

    def grouped(self, term: Condition) -> Condition:
        return term

    def is_defined(self, _word: Token, path: Path) -> Condition:
        return IsDefined(path)

    def comparison(self, path: Path, op: Token, literal: Literal) -> Condition:
        return _comparison(path, _OPS[op], literal, op)

    def turned(self, literal: Literal, op: Token, path: Path) -> Condition:
        plain = _OPS[op]
        return _comparison(path, _TURNED.get(plain, plain), literal, op)

    def path(self, root: Token, *names: Token) -> Path:
        rest = tuple(name[2:-2] if name.type == "ESCAPED" else str(name) for name in names)
        return _rooted(root, rest, names)

    def string(self, token: Token) -> str:
        return token[1:-1].replace("''", "'")

    def number(self, token: Token) -> float:
        if token.lstrip("+-").isdigit():
            digits = token.lstrip("+-0") or "0"
            # Python itself refuses to read thousands of digits.
            if len(digits) > _DIGITS_MAX or int(digits) > INTEGER_MAX:
                raise _Refused(_at(token), "an integer must lie within ±2^52")
            return -int(digits) if token.startswith("-") else int(digits)
        value = float(token)
        if not math.isfinite(value):
            raise _Refused(_at(token), "the number is too large")
        return value

    def true(self, _token: Token) -> bool:
        return True

    def false(self, _token: Token) -> bool:
        return False


def _at(token: Token) -> int:
    return int(token.start_pos or 0)


def _comparison(path: Path, op: Op, literal: Literal, token: Token) -> Comparison:
    if isinstance(literal, bool) and op not in {Op.EQ, Op.NE}:
        raise _Refused(_at(token), "booleans have no order; they compare with = and != only")
    return Comparison(path, op, literal)


def _rooted(root: Token, rest: Path, names: tuple[Token, ...]) -> Path:
    name = root.lower()
    if name == "deviceid":
        if rest:
            raise _Refused(_at(names[0]), "deviceId has no properties")
        return ("deviceId",)
    if name == "tags":
        if not rest:
            raise _Refused(_at(root), "tags needs the name of a tag, as in tags.environment")
        return ("tags", *rest)
    if name == "properties" and rest and rest[0].lower() == "reported":
        if len(rest) == 1:
            raise _Refused(_at(root), "properties.reported needs the name of a property")
        return ("properties", "reported", *rest[1:])
    raise _Refused(_at(root), _WRONG_ROOT.format(".".join((root, *rest))[:200]))


def _flat(condition: Condition) -> Condition:
    """The same with AND in AND and OR in OR dissolved, so that a tree has one printed form."""
    match condition:
        case And(terms):
            parts = tuple(_flat(term) for term in terms)
            return And(tuple(one for part in parts for one in (part.terms if isinstance(part, And) else (part,))))
        case Or(terms):
            parts = tuple(_flat(term) for term in terms)
            return Or(tuple(one for part in parts for one in (part.terms if isinstance(part, Or) else (part,))))
        case Not(term):
            return Not(_flat(term))
        case _:
            return condition


def _check(text: str) -> None:
    if len(text) > LENGTH_MAX:
        reason = f"a condition has at most {LENGTH_MAX} characters, this one has {len(text)}"
        raise ConditionInvalid(text, column=LENGTH_MAX + 1, reason=reason)
    for position, character in enumerate(text):
        if (ord(character) < 32 and character not in "\t\n\r") or 0xD800 <= ord(character) < 0xE000:  # noqa: PLR2004
            raise ConditionInvalid(
                text, column=position + 1, reason="control characters and lone surrogates are not text"
            )
    depth = nots = 0
    for match in _SCAN.finditer(text):
        _check_piece(text, match)
        word = (match["word"] or "").lower()
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        nots = nots + 1 if word == "not" else nots if match[0] == "(" else 0
        if depth + nots > DEPTH_MAX:
            raise ConditionInvalid(text, column=match.start() + 1, reason=f"nested deeper than {DEPTH_MAX}")


def _check_piece(text: str, match: re.Match[str]) -> None:
    column = match.start() + 1
    word = (match["word"] or "").lower()
    if match["double"]:
        reason = "double quotes are not allowed; values stand in single quotes"
        raise ConditionInvalid(text, column=column, reason=reason, corrected=_single_quoted(text))
    if match["open"]:
        raise ConditionInvalid(text, column=column, reason="this quote is not closed")
    if match["equals"]:
        corrected = text[: match.start()] + "=" + text[match.end() :]
        raise ConditionInvalid(text, column=column, reason="equality is written =", corrected=corrected)
    if word in {"in", "nin"}:
        reason = f"{word.upper()} is for queries only; write comparisons joined with {'OR' if word == 'in' else 'AND'}"
        raise ConditionInvalid(text, column=column, reason=reason, corrected=_spelled_out(text))
    if word in {"null", "undefined"}:
        raise ConditionInvalid(text, column=column, reason=f"{word} cannot be compared with; use is_defined(…)")


def _single_quoted(text: str) -> str:
    def turn(match: re.Match[str]) -> str:
        if not match["double"]:
            return match[0]
        inner = match[0][1:-1] if match[0].endswith('"') else match[0][1:]
        return "'" + re.sub(r"\\(.)", r"\1", inner).replace("'", "''") + "'"

    return _SCAN.sub(turn, text)


_IN = re.compile(r"([\w$.\[\]-]+)\s+(in|nin)\s*\[([^\[\]]*)\]", re.IGNORECASE)


def _spelled_out(text: str) -> str | None:
    def turn(match: re.Match[str]) -> str:
        op, joint = ("=", " OR ") if match[2].lower() == "in" else ("!=", " AND ")
        return "(" + joint.join(f"{match[1]} {op} {value.strip()}" for value in match[3].split(",")) + ")"

    corrected, count = _IN.subn(turn, text)
    return corrected if count else None


def _unexpected(text: str, position: int) -> ConditionInvalid:
    rest = text[position:].strip()
    if not rest:
        return ConditionInvalid(text, column=position + 1, reason="the condition ends too early")
    found = re.match(r"[\w$.]+|.", rest)
    shown = found[0][:40] if found else rest[:1]
    if text[:position].rstrip().endswith(("=", "<", ">")) and re.match(r"[A-Za-z_]", shown):
        return ConditionInvalid(
            text,
            column=position + 1,
            reason=f"a value was expected, not {shown}; text stands in single quotes",
            corrected=f"{text[:position]}'{shown}'{text[position + len(shown) :]}",
        )
    return ConditionInvalid(text, column=position + 1, reason=f"{shown!r} does not belong here")
