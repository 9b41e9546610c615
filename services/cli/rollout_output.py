"""What `twinfold rollout` prints: a rollout with its phases, all rollouts, the devices of one."""

import sys
from collections.abc import Callable
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from events.device.times import time_text
from events.rollout.times import duration
from events.terminal import print_lines
from services.cli.client import ApiUnavailable, poll, show_live

ACTS_SHOWN_MAX = 5
_BAR_CHARACTERS = 20
_ENDS = {"completed", "aborted", "rolled back", "halted"}
_COUNTS = ("admitted", "healthy", "already", "failed", "timedOut", "silent", "pending", "outranked", "notApplied")
_NAMES = {"already": "already there", "timedOut": "of them timed out", "notApplied": "not applied"}


def print_plan(answer: dict[str, Any]) -> None:
    """Print the plan of a new rollout as sentences: when it proceeds, when it stops, and what happens then."""
    for sentence in (answer["planText"] or {}).values():
        print_lines(sentence)


def state_line(rollout: dict[str, Any]) -> str:
    """The state of a rollout as a line of text."""
    state, says = rollout["state"], rollout["says"]
    return f"{rollout['id']}: {says}" if says.startswith(state) else f"{rollout['id']}: {state}; {says}"


def followed(read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Show a rollout until it is over, and return it as it is then; without a terminal as a line for each change."""
    if sys.stdout.isatty():
        return show_live(read, rendered, until=_is_over)
    first, show = read(), _ChangePrinter()
    show(first)
    return poll(first, read, show, until=_is_over)


def _is_over(rollout: dict[str, Any]) -> bool:
    return rollout["state"] in _ENDS


class _ChangePrinter:
    """Prints a line whenever the state of a device, a phase or the rollout changed."""

    def __init__(self) -> None:
        self._printed: Any = None

    def __call__(self, rollout: dict[str, Any] | ApiUnavailable) -> None:
        if not isinstance(rollout, ApiUnavailable) and (states := _states(rollout)) != self._printed:
            self._printed = states
            print_lines(state_line(rollout))


def _states(rollout: dict[str, Any]) -> Any:
    # Without the text, which can change with the clock alone: a pipeline's log would get two lines a second.
    return rollout["state"], rollout["counts"], [phase["state"] for phase in rollout["phases"]], rollout["reason"]


def rendered(rollout: dict[str, Any]) -> RenderableType:
    """A rollout with its phases, counts and latest decisions."""
    table = Table("phase", "admits", "state", "progress", "gate")
    for phase in rollout["phases"]:
        approval = "" if not phase["approval"] else ", approved" if phase["approved"] else ", waits for approval"
        number = f"{phase['number']} {phase['name']}".strip()
        table.add_row(
            number, phase["admits"], phase["state"] + approval, _progress(phase["counts"]), _gate(phase["gate"])
        )
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
    return Group(Text(state_line(rollout)), table, Text(summary), *map(Text, whys), *map(Text, acts))


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


def rollouts_table(rollouts: list[dict[str, Any]]) -> Table:
    """A row for each rollout."""
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


def devices_table(devices: list[dict[str, Any]]) -> Table:
    """A row for each device of a rollout."""
    table = Table("device", "state", "reason", "runs")
    for device in devices:
        back = f"; not back: {device['notBack']}" if device["notBack"] else ""
        runs = ", ".join(device["runs"]["deployments"]) or device["runs"]["status"]
        table.add_row(device["deviceId"], device["state"], device["reason"] + back, runs)
    return table
