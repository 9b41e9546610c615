"""The commands of `twinfold`: a table of contents. A command is imported when it is called."""

from collections import UserDict
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typing_extensions import override

from events.terminal import print_lines
from services.cli.commands import flag

COMMANDS = {
    "up": "services.cli.roles:up",
    "api": "services.cli.roles:api",
    "worker": "services.cli.roles:worker",
    "scheduler": "services.cli.roles:scheduler",
    "blocked": "services.cli.blocked:app",
    "backup": "services.cli.backup:backup",
    "erase": "services.cli.erase:erase",
    "restore": "services.cli.backup:restore",
    "repair-log": "services.cli.repair_log:repair_log",
    "demo": "services.demo.run:demo",
    "init": "services.cli.log:init",
    "connection-string": "services.cli.credentials:connection_string",
    "ca": "services.cli.credentials:ca",
    "log": "services.cli.log:log",
    "document": "services.cli.document:document",
    "size": "services.cli.size:size",
    "archive": "services.cli.archive:app",
    "audit": "services.cli.audit:app",
    "replay": "services.cli.replay:replay",
    "rebuild": "services.cli.replay:rebuild",
    "backtest": "services.backtest.command:command",
    "check": "services.cli.check.command:check",
    "explain": "services.cli.explain:explain",
    "diff": "services.cli.diff:diff",
    "device": "services.cli.device:app",
    "deployment": "services.cli.deployment:app",
    "rollout": "services.cli.rollout:app",
    "webhook": "services.cli.webhook:app",
    "update": "services.cli.update:app",
    "group": "services.cli.update:group_app",
    "readiness": "services.cli.readiness:readiness",
    "waiver": "services.cli.readiness:waiver",
    "login": "services.cli.login:login",
    "logout": "services.cli.login:logout",
    "whoami": "services.cli.login:whoami",
    "token": "services.cli.credentials:token",
    "policy": "services.cli.credentials:policy",
}
"""Name → module and attribute of its function or group."""


class _Commands(UserDict[str, Any]):
    """The table as a mapping of commands. Each is imported when it is looked up."""

    # Importing all commands takes 1.3 s instead of 0.1 s: it imports Redis, pyroaring and cryptography, which most commands
    # do not need.

    @override
    def __getitem__(self, name: str) -> Any:
        command = super().__getitem__(name)
        if isinstance(command, str):
            module, _, attribute = command.partition(":")
            command = self.data[name] = _command(name, getattr(import_module(module), attribute))
        return command


class _LazyGroup(TyperGroup):
    @override
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands(COMMANDS)


def _command(name: str, what: Any) -> Any:
    # typer makes commands only within an app. An app for each one gives it the same name and help as one app for all.
    app = typer.Typer(add_completion=False)
    app.callback()(lambda: None)
    if isinstance(what, typer.Typer):
        app.add_typer(what, name=name)
    else:
        app.command(name)(what)
    group: Any = typer.main.get_command(app)
    return group.commands[name]


def _show_version(show_version: bool) -> None:  # noqa: FBT001 - typer hands the flag over by position
    if show_version:
        from importlib.metadata import version as installed_version  # noqa: PLC0415 - slow, and used here alone

        print_lines(f"twinfold {installed_version('twinfold')}")
        raise typer.Exit


app = typer.Typer(
    cls=_LazyGroup,
    no_args_is_help=True,
    # Rich tracebacks show local variables, and with them URLs that hold passwords.
    pretty_exceptions_enable=False,
)


@app.callback()
def twinfold(
    *,
    version: Annotated[
        bool, flag("Show the version and exit.", "--version", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Automatic deployments for edge fleets, on a log you keep yourself."""
    del version  # The callback has printed it.
