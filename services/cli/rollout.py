"""`twinfold rollout`: deployments that reach their devices in phases."""

import sys
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal

import typer
from msgspec import structs
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from events.canonical import JsonObject
from events.device.times import time_text
from events.member_names import camel_json
from events.rich_console import console
from events.rollout.plan import Failure, Gate, Offline, OnFailure, Phase, Rate, RolloutPlan, Spread, Window, read_phase
from events.rollout.times import DurationUnreadable, duration, read_duration
from events.terminal import print_lines
from services.cli.client import (
    ApiUnavailable,
    Limit,
    ReadApi,
    Watch,
    given,
    quoted,
    show_json,
    show_live,
    table,
    watched,
)
from services.cli.commands import CommandGroup, argument, flag
from services.cli.exits import REFUSED
from services.cli.flags import Reason
from services.cli.inputs import read_json
from services.cli.preview_option import WriteApi, write

ACTS_SHOWN_MAX = 5
_BAR_CHARACTERS = 20
_ENDS = {"completed", "aborted", "rolled back", "halted"}
_COUNTS = ("admitted", "healthy", "already", "failed", "timedOut", "silent", "pending", "outranked", "notApplied")
_NUMBERS = ("healthy", "failed", "pending")
_NAMES = {"already": "already there", "timedOut": "of them timed out", "notApplied": "not applied"}

app = CommandGroup(no_args_is_help=True, help="Deployments that reach their devices in phases.")

Name = Annotated[str, argument("The deployment's id.")]
PhaseNumber = Annotated[int | None, flag("Number of the phase, from 1. The default is the next one that waits.", min=1)]


@app.command(
    example="rollout create camera-2 --phase 5% --phase 100% --fail-percent 5 --fail-count 2 --on-failure rollback"
)
def create(
    name: Name,
    *,
    phase: Annotated[
        list[str] | None, flag("Devices admitted by the end of the phase: 5% or a number; can be repeated.")
    ] = None,
    success: Annotated[
        float | None,
        flag(
            "Minimum percentage of healthy devices before the next phase starts; "
            "if not given, 100 minus --fail-percent."
        ),
    ] = None,
    answered: Annotated[
        int, flag("Minimum number of devices that have answered before the next phase starts.", min=0)
    ] = 0,
    soak: Annotated[
        str, flag("How long the gate must hold without a break before the next phase starts, as in 30m.")
    ] = "0",
    timeout: Annotated[str, flag("A phase that takes longer has failed, as in 2h; 0 is no limit.")] = "0",
    device_timeout: Annotated[str, flag("A device that takes longer has failed; 0 is no limit.")] = "0",
    fail_percent: Annotated[
        float | None, flag("The rollout has failed when this percentage of its devices failed …")
    ] = None,
    fail_count: Annotated[
        int | None, flag("… and this number of devices. With both flags, both must be reached.", min=1)
    ] = None,
    on_failure: Annotated[
        Literal["pause", "rollback"], flag("What to do when it has failed, or a phase did not pass within --timeout.")
    ] = "pause",
    rollback_to: Annotated[str, flag("The deployment whose content devices get in a rollback.")] = "",
    restore: Annotated[
        bool, flag("In a rollback, each device gets back what it had and was healthy with.", "--restore")
    ] = False,
    window: Annotated[
        list[str] | None, flag("Cron expression of when a window for admissions opens; can be repeated.")
    ] = None,
    zone: Annotated[str, flag("Time zone of the windows.")] = "UTC",
    window_minutes: Annotated[int, flag("How long a window is open.", min=1)] = 60,
    rate: Annotated[float | None, flag("Maximum number of devices admitted per minute.")] = None,
    per_tag: Annotated[
        str | None, flag("Maximum number of devices in progress per value of a tag, as tags.site=2.")
    ] = None,
    offline: Annotated[Offline, flag("How silent devices are counted.")] = Offline.WAIT,
    offline_after: Annotated[str, flag("A device is silent after this time without a report.")] = "1h",
    approve_each: Annotated[bool, flag("Every phase waits for an approval.", "--approve-each")] = False,
    approve_by_another: Annotated[
        bool, flag("The author of the plan cannot approve its phases.", "--approve-by-another")
    ] = False,
    file: Annotated[str | None, flag("A JSON file with the plan instead of flags, or - for standard input.")] = None,
    api: WriteApi,
) -> None:
    """Roll out a deployment in phases. It must have been created with --hold or --start."""
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
    if file is not None:
        # Errors about members of a file name them as the file does; errors about flags name the flag.
        api.named = str
    answer = write(api, "PUT", _path(name), body=body)
    print_lines(_state_line(answer), *plan_lines(answer))


@app.command("list", example="rollout list --watch")
def list_(*, watch: Watch = False, api: ReadApi) -> None:
    """List the rollouts, their progress and what they wait for."""
    api.show("/v1/rollouts", _rollouts, watch=watch)


@app.command(example="rollout show camera-2 --watch")
def show(
    name: Name,
    *,
    watch: Annotated[bool, flag("Refresh until the rollout is over.", "--watch", "-w")] = False,
    api: ReadApi,
) -> None:
    """Show a rollout's phases, counts and latest decisions, and what it waits for.

    With --watch it exits with 1 unless the rollout is completed.
    """
    params = {"history": 1000 if api.json else ACTS_SHOWN_MAX}
    if api.json or not watch:
        api.show(_path(name), _rendered, params=params)
    elif _followed(lambda: api.call("GET", _path(name), params=params)) != "completed":
        raise typer.Exit(REFUSED)


def _followed(read: Callable[[], JsonObject]) -> str:
    """Show a rollout until it is over, and return its last state; without a terminal as a line for each change."""
    state = ""
    printed: Any = None

    def is_over(rollout: JsonObject) -> bool:
        nonlocal state
        state = rollout["state"]
        return state in _ENDS

    answers = watched(read, until=is_over)
    if sys.stdout.isatty():
        show_live(answers, _rendered)
        return state
    for rollout in answers:
        if isinstance(rollout, ApiUnavailable):
            continue
        # Without the text, which can change with the clock alone: a pipeline's log would get two lines a second.
        changing = (
            rollout["state"],
            rollout["counts"],
            [phase["state"] for phase in rollout["phases"]],
            rollout["reason"],
        )
        if changing != printed:
            printed = changing
            print_lines(_state_line(rollout))
    return state


@app.command(example="rollout devices camera-2 --state failed")
def devices(
    name: Name,
    *,
    state: Annotated[
        str | None,
        flag(
            "Only devices that are healthy, already, failed, silent, pending, outranked, notApplied, "
            "notAdmitted or notBack."
        ),
    ] = None,
    limit: Limit = 1000,
    api: ReadApi,
) -> None:
    """List the devices of a rollout: the state of each, the reason, and what it runs now."""
    devices = list(api.pages(f"{_path(name)}/devices", limit=limit, params=given(state=state)))
    if api.json:
        show_json(devices)
    else:
        console().print(_devices(devices))


@app.command(example="rollout start camera-2")
def start(name: Name, *, api: WriteApi) -> None:
    """Start the first phase now."""
    _act(api, name, "start")


@app.command(example='rollout pause camera-2 --reason "the line is being changed"')
def pause(name: Name, *, reason: Reason = "", api: WriteApi) -> None:
    """Pause the rollout: no more devices are admitted until it is resumed."""
    _act(api, name, "pause", reason=reason)


@app.command(example="rollout resume camera-2")
def resume(name: Name, *, api: WriteApi) -> None:
    """Resume a paused rollout. Devices that are late get the full time again."""
    _act(api, name, "resume")


@app.command(example="rollout approve camera-2 --phase 2")
def approve(name: Name, *, phase: PhaseNumber = None, api: WriteApi) -> None:
    """Approve a phase that waits for it."""
    _act(api, name, "approve", phase=phase)


@app.command(example="rollout skip camera-2")
def skip(name: Name, *, phase: PhaseNumber = None, api: WriteApi) -> None:
    """Pass the open phase without waiting for its gate."""
    _act(api, name, "skip", phase=phase)


@app.command(example="rollout retry camera-2")
def retry(name: Name, *, api: WriteApi) -> None:
    """Retry the devices that failed."""
    _act(api, name, "retry")


@app.command(example='rollout abort camera-2 --reason "the next release comes sooner"')
def abort(name: Name, *, reason: Reason = "", api: WriteApi) -> None:
    """Abort the rollout: admitted devices keep the deployment, no other device gets it."""
    _act(api, name, "abort", reason=reason)


@app.command(example='rollout rollback camera-2 --reason "pictures are dark"')
def rollback(name: Name, *, reason: Reason = "", api: WriteApi) -> None:
    """End the deployment and roll its devices back, as the plan of the rollout says."""
    _act(api, name, "rollback", reason=reason)


def _path(name: str) -> str:
    return f"/v1/deployments/{quoted(name)}/rollout"


def _act(api: WriteApi, name: str, act: str, **body: Any) -> None:
    print_lines(_state_line(write(api, "POST", f"{_path(name)}/{act}", body=body)))


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


def plan_lines(answer: JsonObject) -> Iterable[str]:
    """The plan of a new rollout as sentences: when it proceeds, when it stops, and what happens then."""
    return (answer["planText"] or {}).values()


def _state_line(rollout: JsonObject) -> str:
    state, says = rollout["state"], rollout["says"]
    return f"{rollout['id']}: {says}" if says.startswith(state) else f"{rollout['id']}: {state}; {says}"


def _rendered(rollout: JsonObject) -> RenderableType:
    """A rollout with its phases, counts and latest decisions."""
    rows = []
    for phase in rollout["phases"]:
        approval = "" if not phase["approval"] else ", approved" if phase["approved"] else ", waits for approval"
        number = f"{phase['number']} {phase['name']}".strip()
        state = phase["state"] + approval
        rows.append((number, phase["admits"], state, _progress(phase["counts"]), _gate(phase["gate"])))
    counts = rollout["counts"]
    counted = ", ".join(f"{counts[name]} {_NAMES.get(name, name)}" for name in _COUNTS if counts[name])
    acts = [
        f"{time_text(act['at'])} {act['act']} by {act['by']}" + (f": {act['reason']}" if act["reason"] else "")
        for act in rollout["history"][-ACTS_SHOWN_MAX:]
    ]
    summary = f"of {counts['target']} targeted: {counted}" if counted else f"{counts['target']} targeted, none admitted"
    whys = [
        f"{count} {what}: {why}"
        for what, member in (("failed", "failedBy"), ("not applied", "notAppliedBy"), ("not back", "notBack"))
        for why, count in rollout[member].items()
    ]
    phases = table(rows, "phase", "admits", "state", "progress", "gate")
    return Group(Text(_state_line(rollout)), phases, Text(summary), *map(Text, whys), *map(Text, acts))


def _progress(counts: dict[str, int] | None) -> str:
    if counts is None:
        return ""
    healthy, counted = counts["healthy"] + counts["already"], counts["counted"]
    full = _BAR_CHARACTERS * healthy // counted if counted else 0
    return f"{'█' * full}{'░' * (_BAR_CHARACTERS - full)} {healthy} of {counted}"


def _gate(gate: dict[str, float]) -> str:
    parts = [f"{gate['successPercent']:g}%"]
    if gate["answeredMin"]:
        parts.append(f"{gate['answeredMin']} answered")
    if gate["soakSeconds"]:
        parts.append(f"for {duration(int(gate['soakSeconds']) * 1000)}")
    return ", ".join(parts)


def _rollouts(rollouts: list[JsonObject]) -> Table:
    rows = []
    for rollout in rollouts:
        counts = rollout["counts"] or {}
        phase = f"{rollout['phase']} of {rollout['phases']}"
        numbers = (counts.get(column, "") for column in _NUMBERS)
        rows.append((rollout["id"], rollout["state"], phase, *numbers, rollout["says"]))
    return table(rows, "deployment", "state", "phase", *_NUMBERS, "", right=_NUMBERS)


def _devices(devices: list[JsonObject]) -> Table:
    rows = []
    for device in devices:
        back = f"; not back: {device['notBack']}" if device["notBack"] else ""
        runs = ", ".join(device["runs"]["deployments"]) or device["runs"]["status"]
        rows.append((device["deviceId"], device["state"], device["reason"] + back, runs))
    return table(rows, "device", "state", "reason", "runs")
