"""What `dir(events)` and `help(events)` show to the author of a producer script."""

import ast
import pydoc
from pathlib import Path
from typing import get_args

import pytest

import events
from events.deployment.commands import DeploymentCommand
from events.device.commands import DeviceCommand
from events.readiness.commands import WaiverCommand
from events.rollout.commands import RolloutCommand
from events.update.commands import UpdateCommand

COMMANDS = [
    command
    for family in (DeviceCommand, DeploymentCommand, RolloutCommand, UpdateCommand, WaiverCommand)
    for command in get_args(family)
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_every_command_of_a_producer_is_shown(command: type) -> None:
    assert getattr(events, command.__name__) is command
    assert command.__name__ in dir(events)
    assert command.__name__ in events.__all__


@pytest.mark.parametrize("name", ["DeviceError", "DeviceExists", "DeploymentError", "LogUnavailable", "ProducerError"])
def test_the_errors_that_a_script_catches_are_shown(name: str) -> None:
    assert name in dir(events)
    assert issubclass(getattr(events, name), Exception)


def test_help_lists_all_names_before_it_describes_them() -> None:
    overview = pydoc.plain(pydoc.render_doc(events)).partition("PACKAGE CONTENTS")[0]
    assert [name for name in events.__all__ if name not in overview] == []


def test_type_checkers_and_programs_find_the_same_names() -> None:
    tree = ast.parse(Path(events.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {
        name.asname: node.module for node in ast.walk(block) if isinstance(node, ast.ImportFrom) for name in node.names
    }
    assert imported == {name: getattr(getattr(events, name), "__module__", imported[name]) for name in events.__all__}
