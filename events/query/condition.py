"""Target conditions: a WHERE clause that is restricted, with its own messages (contract/hub.md §2.2).

The restrictions are part of the grammar, so that an error points to the first character that cannot stand there. The tree
has a property on the left of each comparison and a text, a number, true or false on the right.
"""

import re

import msgspec

from events.query.errors import ConditionInvalid, check_text
from events.query.grammar import Misplaced, QueryRefused, read_condition
from events.query.tree import MATCH_ALL, MATCH_NONE, Expression
from events.text_cache import by_text

DEPTH_MAX = 100
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
def parse_condition(text: str) -> Expression:
    """Parse a target condition.

    Blank text targets nobody, `*` everybody. Names after the root are case-sensitive; keywords and roots are not.

    Raises:
        ConditionInvalid: it is not a condition over deviceId, tags and properties.reported, or over a limit
            (8,192 characters, nesting of 100).
    """
    if not text.strip():
        return MATCH_NONE
    _check(text)
    if text.strip() == "*":
        return MATCH_ALL
    try:
        return read_condition(text)
    except QueryRefused as error:
        raise ConditionInvalid(text, column=error.position + 1, reason=error.reason) from None
    except Misplaced as error:
        raise _unexpected(text, error.position) from None


def lint(text: str) -> tuple[Note, ...]:
    """What is accepted in a condition although something else may have been meant.

    Raises:
        ConditionInvalid: as `parse_condition`.
    """
    parse_condition(text)
    notes, previous_word = [], ""
    for match in _SCAN.finditer(text):
        word = match["word"] or ""
        if word.lower() == "not" and previous_word and previous_word not in {"and", "or", "not", "("}:
            notes.append(Note(match.start() + 1, "NOT right after a term is read as AND NOT; write the AND"))
        previous_word = word.lower() or match[0]
    return tuple(notes)


def _check(text: str) -> None:
    check_text(text, ConditionInvalid)
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
    remaining = text[position:].strip()
    if not remaining:
        return ConditionInvalid(text, column=position + 1, reason="the condition ends too early")
    word = re.match(r"[\w$.]+|.", remaining)
    shown = word[0][:40] if word else remaining[:1]
    if text[:position].rstrip().endswith(("=", "<", ">")) and re.match(r"[A-Za-z_]", shown):
        return ConditionInvalid(
            text,
            column=position + 1,
            reason=f"a value was expected, not {shown}; text stands in single quotes",
            corrected=f"{text[:position]}'{shown}'{text[position + len(shown) :]}",
        )
    return ConditionInvalid(text, column=position + 1, reason=f"{shown!r} does not belong here")
