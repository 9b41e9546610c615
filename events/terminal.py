"""Writes lines to standard output and standard error, with escapes for characters that act on a terminal.

Ids, tags, reasons and messages come from devices and callers, and can contain control characters and bidirectional overrides
(docs/decisions/0043-terminal-output.md). All output of commands goes through here; tables through `rich_console`.
"""

import re
import sys
from collections.abc import Callable
from typing import TextIO

_ACTING = re.compile(
    "["
    "\x00-\x1f\x7f-\x9f"  # C0, DEL and C1: terminals take them for commands
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional controls: they reverse the text around them
    "\u2028\u2029"  # line and paragraph separators: they end a line
    "\u200b\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # invisible: two different ids look the same
    "\ud800-\udfff"  # halves of surrogate pairs, which no stream can write
    "]"
)
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def visible(text: str) -> str:
    r"""The text in one line, with an escape (`\x1b`, `\n`, `\u202e`) for each character that would act on a terminal.

    Letters, signs and joiners of every script stay. A backslash stays too, so the result cannot be decoded again.
    """
    return _ACTING.sub(lambda match: _escape(match[0]), text)


def visible_json(text: str) -> str:
    """The same JSON, with JSON's escapes for the characters that `visible` escapes; white space between elements stays."""
    return _ACTING.sub(lambda match: match[0] if match[0] in _SHORT else _json_escape(match[0]), text)


def acting_characters(text: str) -> list[tuple[int, str]]:
    """The index and the escape of each character that `visible` replaces."""
    return [(match.start(), _escape(match[0])) for match in _ACTING.finditer(text)]


def _escape(character: str) -> str:
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


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
