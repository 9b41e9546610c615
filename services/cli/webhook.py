"""`twinfold webhook`: HTTP receivers of events."""

from typing import Annotated, Any

import typer
from rich.table import Table

from events.terminal import complain, print_lines
from services.cli.client import Api, ApiUrl, AsJson, At, quoted, show_answer, show_json
from services.cli.flags import Kinds

app = typer.Typer(no_args_is_help=True, help="Webhooks: HTTP receivers of events.")

Name = Annotated[str, typer.Argument(help="The webhook's id.")]
Deployments = Annotated[
    list[str] | None, typer.Option("--deployment", help="Only events of this deployment; can be repeated.")
]
Devices = Annotated[list[str] | None, typer.Option("--device", help="Only events of this device; can be repeated.")]


@app.command()
def add(
    name: Name,
    url: Annotated[str, typer.Argument(help="HTTPS URL that events are posted to.")],
    *,
    kind: Kinds = None,
    deployment: Deployments = None,
    device: Devices = None,
    api_url: ApiUrl = None,
) -> None:
    """Create or replace a webhook. The secret of a new webhook is printed once.

    Example: twinfold webhook add siem https://hooks.example/twinfold --kind DeploymentCreated --kind AssignmentChange
    """
    body = {"url": url, "kinds": kind or [], "deployments": deployment or [], "devices": device or []}
    answer = Api(api_url).call("PUT", _path(name), body=body)
    # The API shows a secret once, when it is new; later it is masked.
    if answer["secret"].startswith("whsec_"):
        print_lines(answer["secret"])
    else:
        print_lines(f"{name} is changed; its secret stays")


@app.command("list")
def list_(*, at: At = None, api_url: ApiUrl = None, json: AsJson = False) -> None:
    """List the webhooks, with the number of events that each has still to deliver.

    Example: twinfold webhook list
    """
    show_answer(lambda: Api(api_url, at=at).call("GET", "/v1/webhooks"), _table, json=json)


@app.command()
def show(name: Name, *, at: At = None, api_url: ApiUrl = None) -> None:
    """Show a webhook and its state as JSON.

    Example: twinfold webhook show siem
    """
    show_json(Api(api_url, at=at).call("GET", _path(name)))


@app.command()
def remove(name: Name, *, api_url: ApiUrl = None) -> None:
    """Remove a webhook; no events are sent to it any more.

    Example: twinfold webhook remove siem
    """
    Api(api_url).call("DELETE", _path(name))
    print_lines(f"{name} is removed")


@app.command()
def pause(
    name: Name,
    *,
    why: Annotated[str, typer.Option(help="Reason, shown to other operators.")] = "paused by an operator",
    api_url: ApiUrl = None,
) -> None:
    """Pause deliveries. Events that happen meanwhile are delivered after `resume`.

    Example: twinfold webhook pause siem --why "the receiver moves"
    """
    Api(api_url).call("POST", f"{_path(name)}/pause", body={"why": why})
    print_lines(f"{name} is paused")


@app.command()
def resume(name: Name, *, api_url: ApiUrl = None) -> None:
    """Resume deliveries where they stopped.

    Example: twinfold webhook resume siem
    """
    Api(api_url).call("POST", f"{_path(name)}/resume")
    print_lines(f"{name} is resumed")


@app.command("test")
def send_test(name: Name, *, api_url: ApiUrl = None) -> None:
    """Send a test event and show the answer.

    Example: twinfold webhook test siem
    """
    attempt = Api(api_url).call("POST", f"{_path(name)}/test")
    result = f"{attempt['status'] or attempt['result']}, after {attempt['milliseconds']} ms"
    if not attempt["delivered"]:
        complain(f"{name} did not accept the event: {result}")
        raise typer.Exit(1)
    print_lines(f"{name} accepted the event: {result}")


@app.command()
def deliveries(
    name: Name,
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of attempts.")] = 20,
    api_url: ApiUrl = None,
    json: AsJson = False,
) -> None:
    """List the latest delivery attempts, newest first.

    Example: twinfold webhook deliveries siem --limit 50
    """
    api = Api(api_url)
    show_answer(
        lambda: api.call("GET", f"{_path(name)}/deliveries", params={"top": limit})["deliveries"], _attempts, json=json
    )


def _attempts(attempts: list[dict[str, Any]]) -> Table:
    table = Table("event", "result", "attempt", "ms")
    for attempt in attempts:
        table.add_row(
            attempt["event"],
            str(attempt["status"] or attempt["result"]),
            str(attempt["attempt"]),
            str(attempt["milliseconds"]),
        )
    return table


def _path(name: str) -> str:
    return f"/v1/webhooks/{quoted(name)}"


def _table(webhooks: list[dict[str, Any]]) -> Table:
    table = Table("webhook", "url", "kinds", "about", "behind", "state")
    for webhook in webhooks:
        about = ", ".join([*webhook["deployments"], *webhook["devices"]]) or "-"
        failing = f"failing: {webhook['error']}" if webhook["failures"] else "ok"
        state = f"paused: {webhook['paused']}" if webhook["paused"] else failing
        table.add_row(
            webhook["id"], webhook["url"], ", ".join(webhook["kinds"]) or "-", about, str(webhook["lag"]), state
        )
    return table
