"""How commands are declared."""

from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from services.cli.commands import CommandGroup, From, argument, flag

Place = Annotated[
    dict[str, Any],
    From(dict, site=Annotated[str | None, flag("Its site.")], far=Annotated[bool, flag("Whether it is far.", "--far")]),
]


@pytest.fixture
def called() -> dict[str, Any]:
    return {}


@pytest.fixture
def group(called: dict[str, Any]) -> typer.Typer:
    group = CommandGroup(help="Places.")

    @group.command(example="places find camera")
    def find(name: Annotated[str, argument("Its name.")], *, place: Place, limit: int = 3) -> None:
        """Find a place.

        It may be far away.
        """
        called.update(name=name, place=place, limit=limit)

    @group.command("list", example="places list")
    def list_() -> None:
        """List the places."""

    return group


def test_a_parameter_that_flags_make_gets_what_they_make(group: typer.Typer, called: dict[str, Any]) -> None:
    assert CliRunner().invoke(group, ["find", "camera", "--site", "north", "--far", "--limit", "5"]).exit_code == 0
    assert called == {"name": "camera", "place": {"site": "north", "far": True}, "limit": 5}


def test_flags_that_are_not_given_are_none_or_false(group: typer.Typer, called: dict[str, Any]) -> None:
    assert CliRunner().invoke(group, ["find", "camera"]).exit_code == 0
    assert called == {"name": "camera", "place": {"site": None, "far": False}, "limit": 3}


def test_the_help_has_the_text_the_flags_in_their_order_and_the_example(group: typer.Typer) -> None:
    command: Any = typer.main.get_command(group)
    find = command.commands["find"]
    assert find.help == "Find a place.\n\nIt may be far away.\n\nExample: twinfold places find camera"
    assert [parameter.name for parameter in find.params] == ["name", "site", "far", "limit"]
    assert [parameter.help for parameter in find.params[:3]] == ["Its name.", "Its site.", "Whether it is far."]
    assert list(command.commands) == ["find", "list"]
