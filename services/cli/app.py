"""The commands of `twinfold`: a table of contents."""

from importlib.metadata import version as installed_version
from typing import Annotated

import typer

from services.cli import (
    api,
    blocked,
    credentials,
    demo,
    deployment,
    device,
    group,
    init,
    log,
    scheduler,
    up,
    update,
    worker,
)


def _show_version(asked: bool) -> None:  # noqa: FBT001 - typer hands the flag over by position
    if asked:
        typer.echo(f"twinfold {installed_version('twinfold')}")
        raise typer.Exit


app = typer.Typer(
    no_args_is_help=True,
    # Rich tracebacks show local variables, and with them URLs that hold passwords.
    pretty_exceptions_enable=False,
)


@app.callback()
def twinfold(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Automatic deployments for edge fleets, on a log you keep yourself."""
    del version  # The callback has answered it.


app.command()(up.up)
app.command()(api.api)
app.command()(worker.worker)
app.command()(scheduler.scheduler)
app.command()(blocked.blocked)
app.command()(demo.demo)
app.command()(init.init)
app.command("connection-string")(credentials.connection_string)
app.command()(credentials.ca)
app.command()(log.log)
app.add_typer(device.app, name="device")
app.add_typer(deployment.app, name="deployment")
app.add_typer(update.app, name="update")
app.add_typer(group.app, name="group")
app.add_typer(credentials.token, name="token")
app.add_typer(credentials.policy, name="policy")
