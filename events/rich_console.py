"""Tables, trees and progress bars on a terminal, with escapes in values as in `terminal` (docs/decisions/0043-terminal-output.md)."""

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Span, Text
from typing_extensions import override

from events.terminal import acting_characters, visible

COLUMNS = 160
"""The width of tables without a terminal."""


def console(*, error: bool = False, width: int | None = COLUMNS) -> Console:
    """A console as wide as the terminal, or `width` columns wide without a terminal."""
    stream = sys.stderr if error else sys.stdout
    return _VisibleConsole(
        file=stream, width=None if stream.isatty() else width, highlight=False, markup=False, emoji=False
    )


class _VisibleConsole(Console):
    """A console that escapes texts as `visible` does; line ends stay at the start and the end of a text."""

    @override
    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(_edged(text), **how)

    @override
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        visible_renderable = _visible_text(renderable) if isinstance(renderable, Text) else renderable
        return super().render(visible_renderable, options)


def _edged(text: str) -> str:
    inner = text.strip("\n")
    start = len(text) - len(text.lstrip("\n"))
    return "\n" * len(text) if not inner else text[:start] + visible(inner) + text[start + len(inner) :]


def _visible_text(text: Text) -> Text:
    """The text with its styles, and escapes in place of characters that act on a terminal."""
    plain = text.plain
    inner = range(len(plain) - len(plain.lstrip("\n")), len(plain.rstrip("\n")))
    escapes = [(index, escape) for index, escape in acting_characters(plain) if index in inner]
    if not escapes:
        return text
    whole = text.blank_copy()
    at = 0
    for index, escape in escapes:
        _, before, character, *_ = text.divide([at, index, index + 1])
        whole.append_text(before)
        whole.append_text(Text(escape, spans=[Span(0, len(escape), span.style) for span in character.spans]))
        at = index + 1
    return whole.append_text(text.divide([at])[1])
