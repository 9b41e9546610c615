"""`twinfold rollout`: deployments that reach their devices in phases."""

import enum
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from msgspec import structs
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from events.camel_case import camel_json
from events.device.times import time_text
from events.rich_console import console
from events.rollout.plan import Failure, Gate, Offline, OnFailure, Phase, Rate, RolloutPlan, Spread, Window, read_phase
from events.rollout.times import DurationUnreadable, duration, read_duration
from events.terminal import print_lines
from services.cli.client import (
    Api,
    ApiUnavailable,
    ApiUrl,
    AsJson,
    At,
    Watch,
    poll,
    quoted,
    show_json,
    show_live,
    show_table,
)
from services.cli.exits import REFUSED
from services.cli.inputs import read_json
from services.cli.preview_option import Preview, PreviewChoice, Token, write

app = typer.Typer(no_args_is_help=True, help="Deployments that reach their devices in phases.")

BAR_CHARACTERS = 20
ACTS_SHOWN = 5
_ENDS = {"completed", "aborted", "rolled back", "halted"}
_SAID = ("admitted", "healthy", "already", "failed", "timedOut", "silent", "pending", "outranked", "notApplied")

Name = Annotated[str, typer.Argument(help="The deployment's id.")]
Reason = Annotated[str, typer.Option(help="Why; it stands in the log.")]
PhaseNumber = Annotated[
    int | None, typer.Option(min=1, help="Which one, from 1; the next one to decide on if not given.")
]


class ActOnFailure(enum.Enum):
    """What happens by itself."""

    PAUSE = "pause"
    ROLLBACK = "rollback"


@app.command()
def create(
    name: Name,
    *,
    phase: Annotated[
        list[str] | None, typer.Option(help="Who is admitted up to here: 5% or a number of devices; again for more.")
    ] = None,
    success: Annotated[
        float | None,
        typer.Option(
            help="Minimum percentage of healthy devices before the next phase starts; "
            "if not given, 100 minus --fail-percent."
        ),
    ] = None,
    answered: Annotated[int, typer.Option(min=0, help="Gate: and at least so many have answered.")] = 0,
    soak: Annotated[str, typer.Option(help="Gate: without a break for so long, as 30m.")] = "0",
    timeout: Annotated[str, typer.Option(help="A phase that takes longer has failed, as 2h; 0 is no limit.")] = "0",
    device_timeout: Annotated[str, typer.Option(help="A device that takes longer has failed; 0 is no limit.")] = "0",
    fail_percent: Annotated[
        float | None, typer.Option(help="The rollout has failed when so many percent of its devices failed …")
    ] = None,
    fail_count: Annotated[
        int | None, typer.Option(min=1, help="… and so many devices. With both flags, both must be reached.")
    ] = None,
    on_failure: Annotated[
        ActOnFailure, typer.Option(help="What happens when it has failed, or a phase did not pass within --timeout.")
    ] = ActOnFailure.PAUSE,
    rollback_to: Annotated[str, typer.Option(help="The deployment whose content a rollback brings.")] = "",
    restore: Annotated[
        bool, typer.Option("--restore", help="A rollback brings each device what it had and was well with.")
    ] = False,
    window: Annotated[list[str] | None, typer.Option(help="Admit from these times on, as a cron expression.")] = None,
    zone: Annotated[str, typer.Option(help="The time zone of the windows.")] = "UTC",
    window_minutes: Annotated[int, typer.Option(min=1, help="How long a window is open.")] = 60,
    rate: Annotated[float | None, typer.Option(help="Admit so many devices a minute.")] = None,
    per_tag: Annotated[str | None, typer.Option(help="At once so many of one value, as tags.site=2.")] = None,
    offline: Annotated[Offline, typer.Option(help="What silent devices count as.")] = Offline.WAIT,
    offline_after: Annotated[str, typer.Option(help="A device is silent after so long.")] = "1h",
    approve_each: Annotated[bool, typer.Option("--approve-each", help="Each phase waits for an approval.")] = False,
    approve_by_another: Annotated[
        bool, typer.Option("--approve-by-another", help="Who approves is not who made the plan.")
    ] = False,
    file: Annotated[str | None, typer.Option(help="A plan as JSON instead, or - for standard input.")] = None,
    preview: Preview = False,
    preview_token: Token = None,
    api_url: ApiUrl = None,
) -> None:
    """Roll a deployment out in phases that was created with --hold or --start.

    Example: twinfold rollout create camera-2 --phase 5% --phase 100% --fail-percent 5 --fail-count 2 --on-failure rollback
    """
    if (file is None) == (not phase):
        raise typer.BadParameter("either --phase or --file says how")
    gate = Gate(
        success_percent=success,
        answered_min=answered,
        soak_seconds=_seconds(soak, "--soak"),
        phase_timeout_seconds=_seconds(timeout, "--timeout"),
        device_timeout_seconds=_seconds(device_timeout, "--device-timeout"),
    )
    then = OnFailure.PAUSE if on_failure is ActOnFailure.PAUSE else OnFailure.ROLL_BACK
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
    # What a file says is named as it is there.
    api = Api(api_url) if file is None else Api(api_url, named=str)
    answer = write(api, "PUT", _path(name), PreviewChoice(preview, preview_token), body=body)
    _tell(answer)
    print_plan(answer)


@app.command("list")
def list_(*, watch: Watch = False, at: At = None, api_url: ApiUrl = None, json: AsJson = False) -> None:
    """Rollouts, how far they are and what they wait for.

    Example: twinfold rollout list --watch
    """
    api = Api(api_url, at=at)
    if json:
        show_json(api.call("GET", "/v1/rollouts"))
        return
    show_table(lambda: _table(api.call("GET", "/v1/rollouts")), watch=watch)


@app.command()
def show(
    name: Name,
    *,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow it until it is over.")] = False,
    at: At = None,
    api_url: ApiUrl = None,
    json: AsJson = False,
) -> None:
    """A rollout's phases, counts and last acts, and what it waits for. --watch exits with 1 unless it is completed.

    Example: twinfold rollout show camera-2 --watch
    """
    api = Api(api_url, at=at)

    def look() -> Any:
        return api.call("GET", _path(name), params={"history": 1000 if json else ACTS_SHOWN})

    if json:
        show_json(look())
        return
    if not watch:
        console().print(_shown(look()))
        return
    if _followed(look)["state"] != "completed":
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
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 1000,
    at: At = None,
    api_url: ApiUrl = None,
    json: AsJson = False,
) -> None:
    """The devices of a rollout: how each stands with it, why, and what it runs now.

    Example: twinfold rollout devices camera-2 --state failed
    """
    params = {} if state is None else {"state": state}
    devices = list(Api(api_url, at=at).pages(f"{_path(name)}/devices", limit=limit, params=params))
    if json:
        show_json(devices)
        return
    table = Table("device", "state", "reason", "runs")
    for device in devices:
        back = f"; not back: {device['notBack']}" if device["notBack"] else ""
        runs = ", ".join(device["runs"]["deployments"]) or device["runs"]["status"]
        table.add_row(device["deviceId"], device["state"], device["reason"] + back, runs)
    show_table(lambda: table, watch=False)


@app.command()
def start(name: Name, *, preview: Preview = False, preview_token: Token = None, api_url: ApiUrl = None) -> None:
    """Open the first phase now.

    Example: twinfold rollout start camera-2
    """
    _act(name, "start", PreviewChoice(preview, preview_token), api_url)


@app.command()
def pause(
    name: Name, *, reason: Reason = "", preview: Preview = False, preview_token: Token = None, api_url: ApiUrl = None
) -> None:
    """Admit nobody more for now.

    Example: twinfold rollout pause camera-2 --reason "the line is being changed"
    """
    _act(name, "pause", PreviewChoice(preview, preview_token), api_url, reason=reason)


@app.command()
def resume(name: Name, *, preview: Preview = False, preview_token: Token = None, api_url: ApiUrl = None) -> None:
    """Go on where it was paused; who is late gets the whole time again.

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
    """Let a phase open that waits for an approval.

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
    """Pass the open phase without its gate.

    Example: twinfold rollout skip camera-2
    """
    _act(name, "skip", PreviewChoice(preview, preview_token), api_url, phase=phase)


@app.command()
def retry(name: Name, *, preview: Preview = False, preview_token: Token = None, api_url: ApiUrl = None) -> None:
    """Let the devices that failed try again.

    Example: twinfold rollout retry camera-2
    """
    _act(name, "retry", PreviewChoice(preview, preview_token), api_url)


@app.command()
def abort(
    name: Name, *, reason: Reason = "", preview: Preview = False, preview_token: Token = None, api_url: ApiUrl = None
) -> None:
    """End it here: who was admitted keeps the deployment, and nobody else gets it.

    Example: twinfold rollout abort camera-2 --reason "the next release comes sooner"
    """
    _act(name, "abort", PreviewChoice(preview, preview_token), api_url, reason=reason)


@app.command()
def rollback(
    name: Name, *, reason: Reason = "", preview: Preview = False, preview_token: Token = None, api_url: ApiUrl = None
) -> None:
    """End the deployment, and bring its devices back.

    Example: twinfold rollout rollback camera-2 --reason "pictures are dark"
    """
    _act(name, "rollback", PreviewChoice(preview, preview_token), api_url, reason=reason)


def _path(name: str) -> str:
    return f"/v1/deployments/{quoted(name)}/rollout"


def _act(name: str, act: str, look: PreviewChoice, api_url: str | None, **body: Any) -> None:
    _tell(write(Api(api_url), "POST", f"{_path(name)}/{act}", look, body=body))


def _tell(answer: dict[str, Any]) -> None:
    print_lines(_line(answer))


def print_plan(answer: dict[str, Any]) -> None:
    """Print what a rollout that was created does by itself: when it proceeds, when it stops, and what happens then."""
    for sentence in (answer["planText"] or {}).values():
        print_lines(sentence)


def _line(rollout: dict[str, Any]) -> str:
    state, says = rollout["state"], rollout["says"]
    return f"{rollout['id']}: {says}" if says.startswith(state) else f"{rollout['id']}: {state}; {says}"


# -- what flags say


def _seconds(text: str, flag: str) -> int:
    try:
        return read_duration(text)
    except DurationUnreadable as error:
        raise typer.BadParameter(str(error), param_hint=flag) from error


def _phase(text: str) -> Phase:
    phase = read_phase(text)
    if phase is None:
        raise typer.BadParameter(f"{text!r} is no phase; write 5% or a number of devices", param_hint="--phase")
    return phase


def _spread(text: str) -> Spread:
    tag, equals, at_most = text.rpartition("=")
    if not equals or not (at_most.isascii() and at_most.isdecimal()):
        raise typer.BadParameter(f"{text!r} is not a tag and a number, as tags.site=2", param_hint="--per-tag")
    return Spread(tag, int(at_most))


# -- what is shown


def _followed(look: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    if sys.stdout.isatty():
        return show_live(look, _shown, until=_is_over)
    first, tell = look(), _Teller()
    tell(first)
    return poll(first, look, tell, until=_is_over)


def _is_over(rollout: dict[str, Any]) -> bool:
    return rollout["state"] in _ENDS


class _Teller:
    """One line whenever a device, a phase or the rollout moved; what only the clock changes is no news."""

    def __init__(self) -> None:
        self._told: Any = None

    def __call__(self, rollout: dict[str, Any] | ApiUnavailable) -> None:
        if not isinstance(rollout, ApiUnavailable) and (moved := _moved(rollout)) != self._told:
            self._told = moved
            print_lines(_line(rollout))


def _moved(rollout: dict[str, Any]) -> Any:
    return rollout["state"], rollout["counts"], [phase["state"] for phase in rollout["phases"]], rollout["reason"]


def _shown(rollout: dict[str, Any]) -> RenderableType:
    table = Table("phase", "admits", "state", "progress", "gate")
    for phase in rollout["phases"]:
        approval = "" if not phase["approval"] else ", approved" if phase["approved"] else ", wants approval"
        number = f"{phase['number']} {phase['name']}".strip()
        table.add_row(
            number, phase["admits"], phase["state"] + approval, _progress(phase["counts"]), _gate(phase["gate"])
        )
    counts = rollout["counts"]
    counted = ", ".join(f"{counts[name]} {_NAMES.get(name, name)}" for name in _SAID if counts[name])
    acts = [
        f"{time_text(act['at'])} {act['act']} by {act['by']}" + (f": {act['reason']}" if act["reason"] else "")
        for act in rollout["history"][-ACTS_SHOWN:]
    ]
    summary = (
        f"of {counts['target']} targeted: {counted}" if counted else f"{counts['target']} targeted, nobody admitted"
    )
    whys = [
        f"{count} {what}: {why}"
        for what, member in (("failed", "failedBy"), ("not applied", "notAppliedBy"), ("not back", "notBack"))
        for why, count in rollout[member].items()
    ]
    return Group(Text(_line(rollout)), table, Text(summary), *map(Text, whys), *map(Text, acts))


_NAMES = {"already": "already there", "timedOut": "of them late", "notApplied": "not applied"}


def _progress(counts: dict[str, int] | None) -> str:
    if counts is None:
        return ""
    well, counted = counts["healthy"] + counts["already"], counts["counted"]
    full = BAR_CHARACTERS * well // counted if counted else 0
    return f"{'█' * full}{'░' * (BAR_CHARACTERS - full)} {well} of {counted}"


def _gate(gate: dict[str, float]) -> str:
    parts = [f"{gate['successPercent']:g}%"]
    if gate["answeredMin"]:
        parts.append(f"{gate['answeredMin']} answered")
    if gate["soakSeconds"]:
        parts.append(f"for {duration(int(gate['soakSeconds']) * 1000)}")
    return ", ".join(parts)


def _table(rollouts: list[dict[str, Any]]) -> Table:
    table = Table("deployment", "state", "phase")
    for column in ("healthy", "failed", "pending"):
        table.add_column(column, justify="right")
    table.add_column("")
    for rollout in rollouts:
        counts = rollout["counts"] or {}
        numbers = (str(counts.get(column, "")) for column in ("healthy", "failed", "pending"))
        table.add_row(
            rollout["id"], rollout["state"], f"{rollout['phase']} of {rollout['phases']}", *numbers, rollout["says"]
        )
    return table
