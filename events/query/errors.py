"""Why a query is refused."""

from typing_extensions import override

from events.targeting.errors import excerpt


class QueryInvalid(Exception):
    """A query that cannot be read; shows where, and what was expected there.

    `column` counts characters from 1. At most 40 characters of the query are shown.
    """

    _CONTEXT = 20

    def __init__(self, text: str, *, column: int, reason: str) -> None:
        super().__init__(reason)
        self.text, self.column, self.reason = text, column, reason

    @override
    def __str__(self) -> str:
        shown, caret = excerpt(self.text, self.column, self._CONTEXT)
        return f"query, column {self.column}: {self.reason}\n  {shown}\n  {' ' * caret}^"
