"""Why a condition is refused."""

from typing_extensions import override


class ConditionInvalid(Exception):
    """A target condition that cannot be used; shows where, and what it should be where that is plain.

    `column` counts characters from 1. `corrected` is a condition that says what was probably meant, or `None`.
    """

    _CONTEXT = 60

    def __init__(self, text: str, *, column: int, reason: str, corrected: str | None = None) -> None:
        super().__init__(reason)
        self.text, self.column, self.reason, self.corrected = text, column, reason, corrected

    @override
    def __str__(self) -> str:
        shown, caret = excerpt(self.text, self.column, self._CONTEXT)
        lines = [f"target condition, column {self.column}: {self.reason}", f"  {shown}", f"  {' ' * caret}^"]
        if self.corrected is not None:
            lines.append(f"  write: {self.corrected}")
        return "\n".join(lines)


def excerpt(text: str, column: int, context: int) -> tuple[str, int]:
    """One line with up to `context` characters on either side of a column, and the place of the caret in it."""
    start = max(0, column - 1 - context)
    end = column - 1 + context
    shown = "".join(c if c.isprintable() else " " for c in text[start:end])
    prefix = "…" if start else ""
    return f"{prefix}{shown}{'…' if end < len(text) else ''}", column - 1 - start + len(prefix)
