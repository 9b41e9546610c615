"""`twinfold rollout`: deployments that reach their devices in phases."""

from typing import Annotated, Any, Literal

import typer
from msgspec import structs

from events.member_names import camel_json
from events.rollout.plan import Failure, Gate, Offline, OnFailure, Phase, Rate, RolloutPlan, Spread, Window, read_phase
from events.rollout.times import DurationUnreadable, read_duration
from events.terminal import print_lines
from services.cli.client import Api, ApiUrl, AsJson, At, Limit, Watch, quoted, show_answer
from services.cli.exits import REFUSED
from services.cli.flags import Reason
from services.cli.inputs import read_json
from services.cli.preview_option import Preview, PreviewChoice, Token, write
from services.cli.rollout_output import (
    ACTS_SHOWN_MAX,
    devices_table,
    followed,
    print_plan,
    rendered,
    rollouts_table,
    state_line,
)

app = typer.Typer(no_args_is_help=True, help="Deployments that reach their devices in phases.")

Name = Annotated[str, typer.Argument(help="The deployment's id.")]
PhaseNumber = Annotated[
    int | None, typer.Option(min=1, help="Number of the phase, from 1. The default is the next one that waits.")
]


@app.command()
def create(
    name: Name,
    *,
    phase: Annotated[
        list[str] | None,
        typer.Option(help="Devices admitted by the end of the phase: 5% or a number; can be repeated."),
    ] = None,
    success: Annotated[
        float | None,
        typer.Option(
            help="Minimum percentage of healthy devices before the next phase starts; "
            "if not given, 100 minus --fail-percent."
        ),
    ] = None,
    answered: Annotated[
        int, typer.Option(min=0, help="Minimum number of devices that have answered before the next phase starts.")
    ] = 0,
    soak: Annotated[
        str, typer.Option(help="How long the gate must hold without a break before the next phase starts, as in 30m.")
    ] = "0",
    timeout: Annotated[str, typer.Option(help="A phase that takes longer has failed, as in 2h; 0 is no limit.")] = "0",
    device_timeout: Annotated[str, typer.Option(help="A device that takes longer has failed; 0 is no limit.")] = "0",
    fail_percent: Annotated[
        float | None, typer.Option(help="The rollout has failed when this percentage of its devices failed …")
    ] = None,
    fail_count: Annotated[
        int | None, typer.Option(min=1, help="… and this number of devices. With both flags, both must be reached.")
    ] = None,
    on_failure: Annotated[
        Literal["pause", "rollback"],
        typer.Option(help="What to do when it has failed, or a phase did not pass within --timeout."),
    ] = "pause",
    rollback_to: Annotated[str, typer.Option(help="The deployment whose content devices get in a rollback.")] = "",
    restore: Annotated[
        bool, typer.Option("--restore", help="In a rollback, each device gets back what it had and was healthy with.")
    ] = False,
    window: Annotated[
        list[str] | None, typer.Option(help="Cron expression of when a window for admissions opens; can be repeated.")
    ] = None,
    zone: Annotated[str, typer.Option(help="Time zone of the windows.")] = "UTC",
    window_minutes: Annotated[int, typer.Option(min=1, help="How long a window is open.")] = 60,
    rate: Annotated[float | None, typer.Option(help="Maximum number of devices admitted per minute.")] = None,
    per_tag: Annotated[
        str | None, typer.Option(help="Maximum number of devices in progress per value of a tag, as tags.site=2.")
    ] = None,
    offline: Annotated[Offline, typer.Option(help="How silent devices are counted.")] = Offline.WAIT,
    offline_after: Annotated[str, typer.Option(help="A device is silent after this time without a report.")] = "1h",
    approve_each: Annotated[bool, typer.Option("--approve-each", help="Every phase waits for an approval.")] = False,
    approve_by_another: Annotated[
        bool, typer.Option("--approve-by-another", help="The author of the plan cannot approve its phases.")
    ] = False,
    file: Annotated[
        str | None, typer.Option(help="A JSON file with the plan instead of flags, or - for standard input.")
    ] = None,
    preview: Preview = False,
    preview_token: Token = None,
    api_url: ApiUrl = None,
) -> None:
    """Roll out a deployment in phases. It must have been created with --hold or --start.

    Example: twinfold rollout create camera-2 --phase 5% --phase 100% --fail-percent 5 --fail-count 2 --on-failure rollback
    """
    # Exactly one of the two: a plan in a file has its own phases.
    if (file is None) == (not phase):
        raise typer.BadParameter("give either --phase or --file")
    gate = Gate(
        success_percent=success,
        answered_min=answered,
        soak_seconds=_seconds(soak, "--soak"),
        phase_timeout_seconds=_seconds(timeout, "--timeout"),
        device_timeout_seconds=_seconds(device_timeout, "--device-timeout"),
    )
    then = OnFailure.PAUSE if on_failure == "pause" else OnFailure.ROLL_BACK
    plan = RolloutPlan(
        tuple(structs.replace(_phase(text), gate=gate, approval=approve_each) for text in phase or ()),
        Failure(fail_percent, fail_count, then=then),
        rollback_to=rollback_to,
        restore=restore,
        windows=tuple(Window(cron, zone, window_minutes) for cron in window or ()),
        rate=None if rate is None else Rate(rate),
        spread=None if per_tag is None else _spread(per_tag),
        offline=offline,
        offline_seconds=_seconds(offline_after, "--offline-after"),
        approval_by_another=approve_by_another,
    )
    body = camel_json(plan) if file is None else read_json(file)
    # Errors about members of a file name them as the file does; errors about flags name the flag.
    api = Api(api_url) if file is None else Api(api_url, named=str)
    answer = write(api, "PUT", _path(name), PreviewChoice(preview, preview_token), body=body)
    print_lines(state_line(answer))
    print_plan(answer)


@app.command("list")
def list_(*, watch: Watch = False, at: At = None, api_url: ApiUrl = None, json: AsJson = False) -> None:
    """List the rollouts, their progress and what they wait for.

    Example: twinfold rollout list --watch
    """
    api = Api(api_url, at=at)
    show_answer(lambda: api.call("GET", "/v1/rollouts"), rollouts_table, json=json, watch=watch)


@app.command()
def show(
    name: Name,
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh until the rollout is over.")] = False,
    at: At = None,
    api_url: ApiUrl = None,
    json: AsJson = False,
) -> None:
    """Show a rollout's phases, counts and latest decisions, and what it waits for.

    With --watch it exits with 1 unless the rollout is completed.

    Example: twinfold rollout show camera-2 --watch
    """
    api = Api(api_url, at=at)

    def read() -> Any:
        return api.call("GET", _path(name), params={"history": 1000 if json else ACTS_SHOWN_MAX})

    if json or not watch:
        show_answer(read, rendered, json=json)
    elif followed(read)["state"] != "completed":
        raise typer.Exit(REFUSED)


@app.command()
def devices(
    name: Name,
    *,
    state: Annotated[
        str | None,
        typer.Option(
            help="Only devices that are healthy, already, failed, silent, pending, outranked, notApplied, "
            "notAdmitted or notBack."
        ),
    ] = None,
    limit: Limit = 1000,
    at: At = None,
    api_url: ApiUrl = None,
    json: AsJson = False,
) -> None:
    """List the devices of a rollout: the state of each, the reason, and what it runs now.

    Example: twinfold rollout devices camera-2 --state failed
    """
    params = {} if state is None else {"state": state}
    pages = Api(api_url, at=at).pages(f"{_path(name)}/devices", limit=limit, params=params)
    show_answer(lambda: list(pages), devices_table, json=json)


@app.command()
def start(name: Name, *, preview: Preview = False, preview_token: Token = None, api_url: ApiUrl = None) -> None:
    """Start the first phase now.

    Example: twinfold rollout start camera-2
    """
    _act(name, "start", PreviewChoice(preview, preview_token), api_url)


@app.command()
def pause(
    name: Name, *, reason: Reason = "", preview: Preview = False, preview_token: Token = None, api_url: ApiUrl = None
) -> None:
    """Pause the rollout: no more devices are admitted until it is resumed.

    Example: twinfold rollout pause camera-2 --reason "the line is being changed"
    """
    _act(name, "pause", PreviewChoice(preview, preview_token), api_url, reason=reason)


@app.command()
def resume(name: Name, *, preview: Preview = False, preview_token: Token = None, api_url: ApiUrl = None) -> None:
    """Resume a paused rollout. Devices that are late get the full time again.

    Example: twinfold rollout resume camera-2
    """
    _act(name, "resume", PreviewChoice(preview, preview_token), api_url)


@app.command()
def approve(
    name: Name,
    *,
    phase: PhaseNumber = None,
    preview: Preview = False,
    preview_token: Token = None,
    api_url: ApiUrl = None,
) -> None:
    """Approve a phase that waits for it.

    Example: twinfold rollout approve camera-2 --phase 2
    """
    _act(name, "approve", PreviewChoice(preview, preview_token), api_url, phase=phase)


@app.command()
def skip(
    name: Name,
    *,
    phase: PhaseNumber = None,
    preview: Preview = False,
    preview_token: Token = None,
    api_url: ApiUrl = None,
) -> None:
    """Pass the open phase without waiting for its gate.

    Example: twinfold rollout skip camera-2
    """
    _act(name, "skip", PreviewChoice(preview, preview_token), api_url, phase=phase)


@app.command()
def retry(name: Name, *, preview: Preview = False, preview_token: Token = None, api_url: ApiUrl = None) -> None:
    """Retry the devices that failed.

    Example: twinfold rollout retry camera-2
    """
    _act(name, "retry", PreviewChoice(preview, preview_token), api_url)


@app.command()
def abort(
    name: Name, *, reason: Reason = "", preview: Preview = False, preview_token: Token = None, api_url: ApiUrl = None
) -> None:
    """Abort the rollout: admitted devices keep the deployment, no other device gets it.

    Example: twinfold rollout abort camera-2 --reason "the next release comes sooner"
    """
    _act(name, "abort", PreviewChoice(preview, preview_token), api_url, reason=reason)


@app.command()
def rollback(
    name: Name, *, reason: Reason = "", preview: Preview = False, preview_token: Token = None, api_url: ApiUrl = None
) -> None:
    """End the deployment and roll its devices back, as the plan of the rollout says.

    Example: twinfold rollout rollback camera-2 --reason "pictures are dark"
    """
    _act(name, "rollback", PreviewChoice(preview, preview_token), api_url, reason=reason)


def _path(name: str) -> str:
    return f"/v1/deployments/{quoted(name)}/rollout"


def _act(name: str, act: str, choice: PreviewChoice, api_url: str | None, **body: Any) -> None:
    print_lines(state_line(write(Api(api_url), "POST", f"{_path(name)}/{act}", choice, body=body)))


def _seconds(text: str, flag: str) -> int:
    try:
        return read_duration(text)
    except DurationUnreadable as error:
        raise typer.BadParameter(str(error), param_hint=flag) from error


def _phase(text: str) -> Phase:
    phase = read_phase(text)
    if phase is None:
        raise typer.BadParameter(
            f"{text!r} is not a phase; give a percentage, as in 5%, or a number of devices", param_hint="--phase"
        )
    return phase


def _spread(text: str) -> Spread:
    tag, equals, at_most = text.rpartition("=")
    if not equals or not (at_most.isascii() and at_most.isdecimal()):
        raise typer.BadParameter(f"{text!r} is not a tag and a number, as in tags.site=2", param_hint="--per-tag")
    return Spread(tag, int(at_most))
