"""Why a query or a condition is refused."""

from typing import ClassVar

from typing_extensions import override

LENGTH_MAX = 8192


class TextInvalid(Exception):
    """A text that cannot be parsed; the message shows where and why.

    `column` counts characters from 1. `noun` and `title` name the kind of text, and `context` is the number of characters
    that the message shows on each side of the column.
    """

    noun: ClassVar[str]
    title: ClassVar[str]
    context: ClassVar[int]

    def __init__(self, text: str, *, column: int, reason: str) -> None:
        super().__init__(reason)
        self.text, self.column, self.reason = text, column, reason

    @override
    def __str__(self) -> str:
        line, caret = excerpt(self.text, self.column, self.context)
        return f"{self.title}, column {self.column}: {self.reason}\n  {line}\n  {' ' * caret}^"


class QueryInvalid(TextInvalid):
    """A query that cannot be parsed; the reason says what was expected. The message shows at most 40 characters of the query."""

    noun = title = "query"
    context = 20


class ConditionInvalid(TextInvalid):
    """A target condition that is invalid; `corrected` is a proposal if the intention is clear, else `None`."""

    noun, title = "condition", "target condition"
    context = 60

    def __init__(self, text: str, *, column: int, reason: str, corrected: str | None = None) -> None:
        super().__init__(text, column=column, reason=reason)
        self.corrected = corrected

    @override
    def __str__(self) -> str:
        return super().__str__() + ("" if self.corrected is None else f"\n  write: {self.corrected}")


def excerpt(text: str, column: int, context: int) -> tuple[str, int]:
    """Return one line with up to `context` characters on each side of a column, and the position of the caret in it."""
    start = max(0, column - 1 - context)
    end = column - 1 + context
    line = "".join(c if c.isprintable() else " " for c in text[start:end])
    prefix = "…" if start else ""
    return f"{prefix}{line}{'…' if end < len(text) else ''}", column - 1 - start + len(prefix)


def check_text(text: str, invalid: type[TextInvalid]) -> None:
    """Refuse a text that is too long, or has control characters or lone surrogates.

    Raises:
        TextInvalid: of the type `invalid`.
    """
    if len(text) > LENGTH_MAX:
        reason = f"a {invalid.noun} has at most {LENGTH_MAX} characters, not {len(text)}"
        raise invalid(text, column=LENGTH_MAX + 1, reason=reason)
    for position, character in enumerate(text):
        if (ord(character) < 32 and character not in "\t\n\r") or 0xD800 <= ord(character) < 0xE000:  # noqa: PLR2004
            raise invalid(text, column=position + 1, reason="control characters and lone surrogates are not allowed")
