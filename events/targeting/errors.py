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
        shown, caret = self._excerpt()
        lines = [f"target condition, column {self.column}: {self.reason}", f"  {shown}", f"  {' ' * caret}^"]
        if self.corrected is not None:
            lines.append(f"  write: {self.corrected}")
        return "\n".join(lines)

    def _excerpt(self) -> tuple[str, int]:
        """One line around the column, and the place of the caret in it."""
        start = max(0, self.column - 1 - self._CONTEXT)
        end = self.column - 1 + self._CONTEXT
        shown = "".join(c if c.isprintable() else " " for c in self.text[start:end])
        prefix = "…" if start else ""
        return f"{prefix}{shown}{'…' if end < len(self.text) else ''}", self.column - 1 - start + len(prefix)
