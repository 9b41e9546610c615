"""Every command explains itself, with an example that is one."""

import re
import shlex
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from services.cli.app import COMMANDS, app

PROGRAM = typer.main.get_command(app)


def commands(command: Any, *path: str) -> list[tuple[str, Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        return [(" ".join(path), command)]
    return [found for name, one in below.items() for found in commands(one, *path, name)]


@pytest.mark.parametrize(("path", "command"), commands(PROGRAM))
def test_a_command_has_an_example_that_it_would_take(path: str, command: Any) -> None:
    found = re.search(r"Example: (.+)", command.help or "")
    assert found, f"{path} has no example"
    program, *words = shlex.split(found[1])
    assert [program, *words[: len(path.split())]] == ["twinfold", *path.split()]
    command.make_context(path, words[len(path.split()) :])


@pytest.mark.parametrize(("path", "command"), commands(PROGRAM))
def test_every_flag_and_argument_of_a_command_is_explained(path: str, command: Any) -> None:
    for parameter in command.params:
        assert getattr(parameter, "help", None), (path, parameter.name)


def test_the_commands_are_those_of_the_table_in_its_order() -> None:
    shown = CliRunner().invoke(app, ["--help"]).stdout
    listed = re.findall(r"^│ ([a-z-]+) ", shown.partition("Commands")[2], re.MULTILINE)
    assert listed == list(PROGRAM.commands) == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_of_a_command_what_its_help_begins_with(name: str) -> None:
    first_paragraph = (PROGRAM.commands[name].help or "").partition("\n\n")[0]
    assert COMMANDS[name][1] == first_paragraph.replace("\n", " ")


def test_a_command_that_does_not_exist_is_usage() -> None:
    assert CliRunner().invoke(app, ["chekc"]).exit_code == 2
