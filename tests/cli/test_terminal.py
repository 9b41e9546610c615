"""What goes to a terminal: lines, tables and log lines, with values that would act on it."""

import contextlib
import io
import json
import re
from collections.abc import Callable

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.tree import Tree
from typing_extensions import override

from events import logs, terminal
from events.rich_console import console
from events.terminal import visible, visible_json
from tests.repo.tree import files, text

WRITERS = {
    "events/terminal.py",
    "events/rich_console.py",
    "services/cli/audit.py",  # an export's bytes, escaped where they are made
    "services/cli/check/command.py",  # a mended manifest goes on as it is
    "workers/replay/child.py",  # to its parent
    "workers/restored.py",  # to its parent
}
STRAIGHT = re.compile(r"typer\.echo\(|sys\.std(out|err)\.(write|buffer)|\bConsole\(")


class Screen(io.StringIO):
    @override
    def isatty(self) -> bool:
        return True


def shown(show: Callable[[], object], *, on: io.StringIO | None = None) -> str:
    stream = on or io.StringIO()
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        show()
    return stream.getvalue()


@pytest.mark.parametrize(
    ("raw", "escaped"),
    [
        ("\x1b[31m", r"\x1b[31m"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("a\u202eb\u2066c\u200f", r"a\u202eb\u2066c\u200f"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\U000e0041\ud800\ufeff\u2028", r"\U000e0041\ud800\ufeff\u2028"),
        (
            "nördlich 北 \U0001f469\u200d\U0001f52c [/x] :bomb: \\",
            "nördlich 北 \U0001f469\u200d\U0001f52c [/x] :bomb: \\",
        ),
    ],
)
def test_characters_that_act_are_escaped_and_all_others_stay(raw: str, escaped: str) -> None:
    assert visible(raw) == escaped
    assert visible(escaped) == escaped


@given(st.text())
def test_json_with_escapes_says_the_same(value: str) -> None:
    assert json.loads(visible_json(json.dumps([value], ensure_ascii=False, indent=1))) == [value]


def test_a_line_stays_one_line() -> None:
    assert shown(lambda: terminal.print_lines("a\nforged", "b")) == "a\\nforged\nb\n"


def test_an_error_of_several_lines_indents_all_but_the_first() -> None:
    assert shown(lambda: terminal.complain_of(ValueError("one\ntwo\x1b"))) == "twinfold: one\n  two\\x1b\n"


@pytest.mark.parametrize("screen", [io.StringIO, Screen])
def test_no_renderable_takes_markup_or_control_characters_from_a_value(screen: type[io.StringIO]) -> None:
    value = "\x1b]0;x\x9b\u202e[/x][red]:bomb:"
    table = Table(value, title=value)
    table.add_row(value)
    table.add_row(Text(value, "bold"))
    tree = Tree(value)
    tree.add(Text(value))
    everything = Group(table, tree, Padding(Text(value), 1), Text(f"\n{value}", "red"))
    written = shown(lambda: console().print(everything, value), on=screen())
    # With the sequences that style it on a terminal taken away.
    plain = Text.from_ansi(written).plain if screen is Screen else written
    assert plain.count(r"\x1b]0;x\x9b\u202e[/x][red]:bomb:") == 9
    assert "\x1b]0;" not in written
    assert not set("\x9b\u202e") & set(written)


def test_a_line_end_in_a_value_forges_no_line_on_a_table_or_beside_it() -> None:
    table = Table("column")
    table.add_row("value\nforged")
    written = shown(lambda: console().print(Group(table, Text("\nhead\nforged"))))
    assert not [line for line in written.splitlines() if line.strip().startswith("forged")]


def test_log_lines_for_people_let_no_value_act(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Screen()
    monkeypatch.setattr("sys.stderr", stream)
    logs.configure("info")
    error = ValueError("\x1b]0;failed\nforged")
    structlog.get_logger().error("event\x9b", device="d\x1b]0;x", many=["\u202e"], number=3, exc_info=error)
    written = stream.getvalue()
    plain = Text.from_ansi(written).plain
    assert r"event\x9b" in plain
    assert r"device=d\x1b]0;x" in plain
    assert r"ValueError: \x1b]0;failed" in plain
    assert "\x1b]0;" not in written
    assert not set("\x9b\u202e") & set(written)


def test_nothing_else_writes_to_a_terminal() -> None:
    straight = {
        str(path)
        for path in files()
        if path.suffix == ".py" and path.parts[0] in {"events", "services", "workers"}
        if STRAIGHT.search(text(path))
    }
    assert straight <= WRITERS
