"""The one way to standard output and standard error for lines that people read: no value can act on their terminal.

Ids, tags, reasons and messages come from devices and callers. Control characters and bidirectional overrides in them are
shown and not obeyed (docs/decisions/0043-terminal-output.md). Tables go through `rich_console`.
"""

import sys
from collections.abc import Callable
from typing import TextIO

from events.visible import visible, visible_json


def print_lines(*lines: str) -> None:
    """Write lines to standard output; whatever a value holds, each stays one line."""
    _write(sys.stdout, lines)


def complain(*lines: str) -> None:
    """Write lines to standard error, as `print_lines` does."""
    _write(sys.stderr, lines)


def complain_of(error: Exception, *, program: str = "twinfold", named: Callable[[str], str] = str) -> None:
    """Write an error to standard error; the lines after its first one are indented. `named` puts other names into its text."""
    first, *more = named(str(error)).split("\n")
    complain(f"{program}: {first}", *(f"  {line}" for line in more))


def print_json(text: str) -> None:
    """Write JSON to standard output, whose reader decodes the escapes."""
    sys.stdout.write(f"{visible_json(text)}\n")
    sys.stdout.flush()


def _write(stream: TextIO, lines: tuple[str, ...]) -> None:
    stream.writelines(f"{visible(line)}\n" for line in lines)
    stream.flush()
