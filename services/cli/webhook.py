"""`twinfold webhook`: HTTP receivers of events."""

from operator import itemgetter
from typing import Annotated

import typer
from rich.table import Table

from events.canonical import JsonObject
from events.terminal import complain, print_lines
from services.cli.client import AnswerApi, PastApi, PlainApi, ReadApi, quoted, show_json, table
from services.cli.commands import CommandGroup, argument, flag
from services.cli.flags import Kinds

app = CommandGroup(no_args_is_help=True, help="Webhooks: HTTP receivers of events.")

Name = Annotated[str, argument("The webhook's id.")]


@app.command(example="webhook add siem https://hooks.example/twinfold --kind DeploymentCreated --kind AssignmentChange")
def add(
    name: Name,
    url: Annotated[str, argument("HTTPS URL that events are posted to.")],
    *,
    kind: Kinds = None,
    deployment: Annotated[list[str] | None, flag("Only events of this deployment; can be repeated.")] = None,
    device: Annotated[list[str] | None, flag("Only events of this device; can be repeated.")] = None,
    api: PlainApi,
) -> None:
    """Create or replace a webhook. The secret of a new webhook is printed once."""
    body = {"url": url, "kinds": kind or [], "deployments": deployment or [], "devices": device or []}
    answer = api.call("PUT", _path(name), body=body)
    # The API shows a secret once, when it is new; later it is masked.
    if answer["secret"].startswith("whsec_"):
        print_lines(answer["secret"])
    else:
        print_lines(f"{name} is changed; its secret stays")


@app.command("list", example="webhook list")
def list_(*, api: ReadApi) -> None:
    """List the webhooks, with the number of events that each has still to deliver."""
    api.show("/v1/webhooks", _table)


@app.command(example="webhook show siem")
def show(name: Name, *, api: PastApi) -> None:
    """Show a webhook and its state as JSON."""
    show_json(api.call("GET", _path(name)))


@app.command(example="webhook remove siem")
def remove(name: Name, *, api: PlainApi) -> None:
    """Remove a webhook; no events are sent to it any more."""
    api.call("DELETE", _path(name))
    print_lines(f"{name} is removed")


@app.command(example='webhook pause siem --why "the receiver moves"')
def pause(
    name: Name,
    *,
    why: Annotated[str, flag("Reason, shown to other operators.")] = "paused by an operator",
    api: PlainApi,
) -> None:
    """Pause deliveries. Events that happen meanwhile are delivered after `resume`."""
    api.call("POST", f"{_path(name)}/pause", body={"why": why})
    print_lines(f"{name} is paused")


@app.command(example="webhook resume siem")
def resume(name: Name, *, api: PlainApi) -> None:
    """Resume deliveries where they stopped."""
    api.call("POST", f"{_path(name)}/resume")
    print_lines(f"{name} is resumed")


@app.command("test", example="webhook test siem")
def send_test(name: Name, *, api: PlainApi) -> None:
    """Send a test event and show the answer."""
    attempt = api.call("POST", f"{_path(name)}/test")
    result = f"{attempt['status'] or attempt['result']}, after {attempt['milliseconds']} ms"
    if not attempt["delivered"]:
        complain(f"{name} did not accept the event: {result}")
        raise typer.Exit(1)
    print_lines(f"{name} accepted the event: {result}")


@app.command(example="webhook deliveries siem --limit 50")
def deliveries(
    name: Name, *, limit: Annotated[int, flag("Maximum number of attempts.", min=1, max=1000)] = 20, api: AnswerApi
) -> None:
    """List the latest delivery attempts, newest first."""
    api.show(f"{_path(name)}/deliveries", _attempts, params={"top": limit}, part=itemgetter("deliveries"))


def _attempts(attempts: list[JsonObject]) -> Table:
    rows = (
        (attempt["event"], attempt["status"] or attempt["result"], attempt["attempt"], attempt["milliseconds"])
        for attempt in attempts
    )
    return table(rows, "event", "result", "attempt", "ms")


def _path(name: str) -> str:
    return f"/v1/webhooks/{quoted(name)}"


def _table(webhooks: list[JsonObject]) -> Table:
    rows = []
    for webhook in webhooks:
        about = ", ".join([*webhook["deployments"], *webhook["devices"]]) or "-"
        failing = f"failing: {webhook['error']}" if webhook["failures"] else "ok"
        state = f"paused: {webhook['paused']}" if webhook["paused"] else failing
        rows.append((webhook["id"], webhook["url"], ", ".join(webhook["kinds"]) or "-", about, webhook["lag"], state))
    return table(rows, "webhook", "url", "kinds", "about", "behind", "state")
