"""Target conditions: a restricted WHERE clause with its own error messages (contract/hub.md §2.2).

The grammar contains the restrictions, so that an error points to the first character that is not allowed. In the tree, the
left side of each comparison is a property, and the right side a string, a number, true or false.
"""

import re

import msgspec

from events.query.errors import ConditionInvalid, check_text
from events.query.grammar import Misplaced, QueryRefused, read
from events.query.tree import MATCH_ALL, MATCH_NONE, Expression
from events.text_cache import by_text

DEPTH_MAX = 100
# The tokens of the checks before parsing. Strings are tokens, so that keywords in them are not found.
_SCAN = re.compile(
    r"(?P<string>'(?:[^']|'')*')|(?P<double>\"(?:[^\"\\]|\\.)*\"?)|(?P<equals>==)|(?P<paren>[()])"
    r"|(?P<escaped>\[\[[^\[\]]*\]\])|(?P<word>[A-Za-z_$][\w$.-]*)|(?P<open>')"
)


class Note(msgspec.Struct, frozen=True):
    """A part of a condition that is accepted, but is probably a mistake."""

    column: int
    message: str


@by_text
def parse_condition(text: str) -> Expression:
    """Parse a target condition.

    Blank text targets no device, `*` all devices. Names after the root are case-sensitive; keywords and roots are not.

    Raises:
        ConditionInvalid: it is not a condition on deviceId, tags and properties.reported, or exceeds a limit
            (8,192 characters, nesting of 100).
    """
    if not text.strip():
        return MATCH_NONE
    _check(text)
    if text.strip() == "*":
        return MATCH_ALL
    try:
        condition: Expression = read(text, "condition")
    except QueryRefused as error:
        raise ConditionInvalid(text, column=error.position + 1, reason=error.reason) from None
    except Misplaced as error:
        raise _unexpected(text, error.position) from None
    return condition


def lint(text: str) -> tuple[Note, ...]:
    """Return the parts of a condition that are accepted, but are probably mistakes.

    Raises:
        ConditionInvalid: as `parse_condition`.
    """
    parse_condition(text)
    notes, previous_word = [], ""
    for match in _SCAN.finditer(text):
        word = match["word"] or ""
        if word.lower() == "not" and previous_word and previous_word not in {"and", "or", "not", "("}:
            notes.append(Note(match.start() + 1, "NOT directly after a term means AND NOT; write AND NOT"))
        previous_word = word.lower() or match[0]
    return tuple(notes)


def _check(text: str) -> None:
    check_text(text, ConditionInvalid)
    depth = nots = 0
    for match in _SCAN.finditer(text):
        column, word = match.start() + 1, (match["word"] or "").lower()
        if match["double"]:
            reason = "double quotes are not allowed; use single quotes"
            raise ConditionInvalid(text, column=column, reason=reason, corrected=_single_quoted(text))
        if match["open"]:
            raise ConditionInvalid(text, column=column, reason="this quote is not closed")
        if match["equals"]:
            corrected = text[: match.start()] + "=" + text[match.end() :]
            raise ConditionInvalid(text, column=column, reason="== is not an operator; use =", corrected=corrected)
        if word in {"in", "nin"}:
            reason = (
                f"{word.upper()} is only for queries; use comparisons joined with {'OR' if word == 'in' else 'AND'}"
            )
            raise ConditionInvalid(text, column=column, reason=reason, corrected=_spelled_out(text))
        if word in {"null", "undefined"}:
            reason = f"comparisons with {word} are not allowed; use is_defined(…)"
            raise ConditionInvalid(text, column=column, reason=reason)
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        nots = nots + 1 if word == "not" else nots if match[0] == "(" else 0
        if depth + nots > DEPTH_MAX:
            raise ConditionInvalid(text, column=column, reason=f"nested deeper than {DEPTH_MAX}")


def _single_quoted(text: str) -> str:
    def corrected(match: re.Match[str]) -> str:
        if not match["double"]:
            return match[0]
        inner = match[0][1:-1] if match[0].endswith('"') else match[0][1:]
        return "'" + re.sub(r"\\(.)", r"\1", inner).replace("'", "''") + "'"

    return _SCAN.sub(corrected, text)


_IN = re.compile(r"([\w$.\[\]-]+)\s+(in|nin)\s*\[([^\[\]]*)\]", re.IGNORECASE)


def _spelled_out(text: str) -> str | None:
    def comparisons(match: re.Match[str]) -> str:
        op, joint = ("=", " OR ") if match[2].lower() == "in" else ("!=", " AND ")
        return "(" + joint.join(f"{match[1]} {op} {value.strip()}" for value in match[3].split(",")) + ")"

    corrected, count = _IN.subn(comparisons, text)
    return corrected if count else None


def _unexpected(text: str, position: int) -> ConditionInvalid:
    remaining = text[position:].strip()
    if not remaining:
        return ConditionInvalid(text, column=position + 1, reason="the condition ends too early")
    match = re.match(r"[\w$.]+|.", remaining)
    word = match[0][:40] if match else remaining[:1]
    if text[:position].rstrip().endswith(("=", "<", ">")) and re.match(r"[A-Za-z_]", word):
        return ConditionInvalid(
            text,
            column=position + 1,
            reason=f"expected a value, not {word}; text needs single quotes",
            corrected=f"{text[:position]}'{word}'{text[position + len(word) :]}",
        )
    return ConditionInvalid(text, column=position + 1, reason=f"unexpected {word!r}")
