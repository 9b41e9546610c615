"""Writes lines to standard output and standard error, with escapes for characters that act on a terminal.

Ids, tags, reasons and messages come from devices and callers, and can contain control characters and bidirectional overrides
(docs/decisions/0043-terminal-output.md). All output of commands goes through here; tables through `rich_console`.
"""

import sys
from collections.abc import Callable
from typing import TextIO

from events.visible import visible, visible_json


def print_lines(*lines: str) -> None:
    """Write lines to standard output; each argument is one line, as line ends in it are escaped."""
    _write(sys.stdout, lines)


def complain(*lines: str) -> None:
    """Write lines to standard error, as `print_lines` does."""
    _write(sys.stderr, lines)


def complain_of(error: Exception, *, program: str = "twinfold", named: Callable[[str], str] = str) -> None:
    """Write an error to standard error, all lines after the first indented; `named` replaces the names in its text."""
    first, *more = named(str(error)).split("\n")
    complain(f"{program}: {first}", *(f"  {line}" for line in more))


def print_json(text: str) -> None:
    """Write JSON to standard output, with the escapes of JSON."""
    sys.stdout.write(f"{visible_json(text)}\n")
    sys.stdout.flush()


def _write(stream: TextIO, lines: tuple[str, ...]) -> None:
    stream.writelines(f"{visible(line)}\n" for line in lines)
    stream.flush()
