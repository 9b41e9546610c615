"""The commands of `twinfold`: a table of contents. A command is imported when it is called."""

from collections import UserDict
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typing_extensions import override

from events.terminal import print_lines
from services.cli.commands import flag

COMMANDS = {
    "up": (
        "services.cli.roles:up",
        "Start Redis, the API, the workers and the scheduler, and keep them running until Ctrl-C.",
    ),
    "api": (
        "services.cli.roles:api",
        "Serve the HTTP API on this machine until Ctrl-C. `twinfold worker` starts the workers.",
    ),
    "worker": (
        "services.cli.roles:worker",
        "Apply the log to the projections until Ctrl-C, with a pool of worker processes and the reconciler.",
    ),
    "scheduler": (
        "services.cli.roles:scheduler",
        "Start and end deployments at their times, and advance rollouts, until Ctrl-C.",
    ),
    "blocked": (
        "services.cli.blocked:app",
        "Partitions that are stopped at an event they cannot apply: show them and decide.",
    ),
    "backup": (
        "services.cli.backup:backup",
        "Copy the log, its documents, the archive and the files of the data directory, while the system runs.",
    ),
    "erase": (
        "services.cli.erase:erase",
        "Destroy the keys of secrets, so that they can never be read again. The events that refer to them stay unchanged.",
    ),
    "restore": (
        "services.cli.backup:restore",
        "Restore a backup into an empty Redis and data directory. Every file is checked before anything is written.",
    ),
    "repair-log": (
        "services.cli.repair_log:repair_log",
        "Show where the file of the embedded Redis is damaged and what follows the damage, and cut it there after you confirm.",
    ),
    "demo": (
        "services.demo.run:demo",
        "Show manifests reaching 1,000 simulated devices through a real Redis and real workers. All data is removed afterwards.",
    ),
    "init": ("services.cli.log:init", "Create a log in an empty Redis database. An existing log is not changed."),
    "connection-string": (
        "services.cli.credentials:connection_string",
        "Print a connection string for clients. It contains a key.",
    ),
    "ca": ("services.cli.credentials:ca", "Print the path of the certificate that clients must trust."),
    "log": (
        "services.cli.log:log",
        "Show events: time, stream:position, subject, type, data, author, cause; oldest first.",
    ),
    "document": (
        "services.cli.document:document",
        "Show stored documents, which are compressed in Redis, with their versions: JSON, by subject.",
    ),
    "size": ("services.cli.size:size", "Show the bytes that the fleet takes, per device and by what they are for."),
    "archive": ("services.cli.archive:app", "Older events in Parquet files outside Redis: move, list and verify them."),
    "audit": ("services.cli.audit:app", "Verify that the history is as it was sealed, and search it."),
    "replay": (
        "services.cli.replay:replay",
        "Replay the log and compare every assignment change, projection, twin and document with what is stored, bit for bit.",
    ),
    "rebuild": (
        "services.cli.replay:rebuild",
        "Compute the projections anew from the log and replace the stored ones, while the system runs.",
    ),
    "backtest": (
        "services.backtest.command:command",
        "Run the recorded devices again in virtual time under changes, and show what would have been different.",
    ),
    "check": (
        "services.cli.check.command:check",
        "Check manifests against the production checklist. Exits with 1 if there are findings that count.",
    ),
    "explain": (
        "services.cli.explain:explain",
        "Explain why a device has its configuration, and why other deployments do not apply: the result first, then the reasons.",
    ),
    "diff": (
        "services.cli.diff:diff",
        "Show what changed between two points in time, removals first, and the events that caused it with their authors.",
    ),
    "device": ("services.cli.device:app", "Devices, their tags, and what they run."),
    "deployment": ("services.cli.deployment:app", "Deployments and their status."),
    "rollout": ("services.cli.rollout:app", "Deployments that reach their devices in phases."),
    "webhook": ("services.cli.webhook:app", "Webhooks: HTTP receivers of events."),
    "update": ("services.cli.update:app", "Updates, and their deployments to groups."),
    "group": ("services.cli.update:group_app", "Groups of devices that updates are deployed to."),
    "readiness": (
        "services.cli.readiness:readiness",
        "Show the number of devices with findings of each rule; with a device its findings, with --rule the devices.",
    ),
    "waiver": ("services.cli.readiness:waiver", "Waivers: findings that are accepted for a time."),
    "login": (
        "services.cli.login:login",
        "Store a token for a server. Later commands use it, and their changes are recorded under its name.",
    ),
    "logout": (
        "services.cli.login:logout",
        "Remove the stored token of a server. The token itself stays valid; `twinfold token revoke` ends it.",
    ),
    "whoami": (
        "services.cli.login:whoami",
        "Show the name under which changes are recorded, the permissions, and where the token comes from.",
    ),
    "token": ("services.cli.credentials:token", "Bearer tokens: permissions of people and programs."),
    "policy": ("services.cli.credentials:policy", "Shared access policies and their keys."),
}
"""Name → module and attribute of its function or group, and the first paragraph of its help."""


class _Commands(UserDict[str, Any]):
    """The table as a mapping of commands. Each is imported when it is looked up."""

    # Importing all commands takes 1.3 s instead of 0.1 s: it imports Redis, pyroaring and cryptography, which most commands
    # do not need.

    @override
    def __getitem__(self, name: str) -> Any:
        command = super().__getitem__(name)
        if isinstance(command, tuple):
            module, _, attribute = command[0].partition(":")
            command = self.data[name] = _command(name, getattr(import_module(module), attribute))
        return command


class _LazyGroup(TyperGroup):
    @override
    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Commands(COMMANDS)

    @override
    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    @override
    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command as lists show it, in the help and in completions, without an import."""
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name][1]) if cmd_name in COMMANDS else None

    @override
    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command to run, imported."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, None if name is None or command is None else self.commands[name], rest


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
        from importlib.metadata import version as installed_version

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
