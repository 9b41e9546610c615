"""How a replay shows how far it is, and what came of it."""

import sys
import time
from collections.abc import Callable, Sequence

import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text
from typing_extensions import override

from events.log.keys import FLEET, name
from events.number_text import counted
from events.rich_console import console
from events.terminal import complain
from workers.replay.report import Begun, Came, Compared, Done, Failed, ReplayDifference, StreamProgress

_LINE_SECONDS = 5.0
_TERMS = ("events", "assignment_changes", "projections", "documents", "snapshots")
_MEMBERS = {"assignment_changes": "assignmentChanges"}


class Bar:
    """A progress bar on a terminal; elsewhere a line now and then. Both go to standard error."""

    def __init__(self, events: int) -> None:
        self._came: dict[int, int] = {}
        self._events = events
        self._began = self._said = time.monotonic()
        self._live = sys.stderr.isatty()
        self._progress = Progress(
            TextColumn("[bold]replay"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("events"),
            _Rate(),
            TimeRemainingColumn(),
            console=console(error=True, width=None),
            disable=not self._live,
        )
        self._task = self._progress.add_task("", total=max(1, events))

    def __enter__(self) -> Callable[[StreamProgress], None]:
        self._progress.start()
        return self._hear

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def _hear(self, told: StreamProgress) -> None:
        match told:
            case Begun(stream):
                self._came[stream] = 0
            case Came(stream, position):
                self._came[stream] = position
            case Done(compared):
                self._came[compared.stream] = compared.events + compared.skipped
            case Failed():
                pass
        replayed = sum(self._came.values())
        # A log that is written to meanwhile has more than it had.
        self._events = max(self._events, replayed)
        self._progress.update(self._task, completed=replayed, total=max(1, self._events))
        now = time.monotonic()
        if not self._live and now - self._said >= _LINE_SECONDS:
            self._said = now
            complain(self._line(replayed, now - self._began))

    def _line(self, replayed: int, seconds: float) -> str:
        rate = replayed / seconds
        left = f", {(self._events - replayed) / rate:,.0f} s to go" if rate else ""
        return f"{replayed:,} of {self._events:,} events, {rate:,.0f} events/s{left}"


class _Rate(ProgressColumn):
    @override
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} events/s")


class Summary(msgspec.Struct, frozen=True):
    """All that came of a replay."""

    streams: tuple[Compared, ...]
    failed: tuple[Failed, ...]
    seconds: float
    rebuilt: bool = False

    @property
    def code(self) -> int:
        """What the program exits with: 0 without a difference, 1 with one, 2 where something could not be replayed."""
        if self.failed:
            return 2
        return 1 if any(one.differences for one in self.streams) else 0

    def total(self, what: str) -> int:
        """The sum of a count over the streams."""
        return sum(getattr(one, what) for one in self.streams)

    def as_json(self) -> bytes:
        """The whole, for programs."""
        sums = {_MEMBERS.get(what, what): self.total(what) for what in _TERMS}
        found = {
            **sums,
            "skipped": self.total("skipped"),
            "apart": self.total("apart"),
            "differences": self.total("more") + sum(len(one.differences) for one in self.streams),
            "seconds": round(self.seconds, 3),
            "streams": [{"name": one.name, **msgspec.to_builtins(one)} for one in self.streams],
            "failed": [{"name": name(one.stream), "error": one.error} for one in self.failed],
        }
        return msgspec.json.format(msgspec.json.encode(found), indent=2)

    def as_lines(self) -> list[str]:
        """The same for people."""
        return self._rebuilt_lines() if self.rebuilt else self._compared_lines()

    def _rebuilt_lines(self) -> list[str]:
        lines = [
            f"{one.name} is rebuilt to {_location(one)}: {_many(one.events, 'event')},"
            f" {_many(one.assignment_changes, 'assignment_change')}; {', '.join(one.notes)}"
            for one in self.streams
        ]
        lines += [f"{name(one.stream)} is as it was: {one.error}" for one in self.failed]
        done = counted(len(self.streams), "partition")
        return [*lines, f"{done} rebuilt in {self.seconds:,.1f} s"]

    def _compared_lines(self) -> list[str]:
        lines = [
            *_lines_of(self.streams),
            *(f"{name(one.stream)} cannot be replayed: {one.error}" for one in self.failed),
        ]
        counts = ", ".join(_many(self.total(what), what.removesuffix("s").replace("_", " ")) for what in _TERMS)
        rate = self.total("events") / self.seconds if self.seconds else 0.0
        lines.append(f"{counts} compared in {self.seconds:,.1f} s ({rate:,.0f} events/s)")
        if self.total("skipped"):
            lines.append(
                f"left out by decision: {counted(self.total('skipped'), 'event')};"
                f" not compared: {counted(self.total('apart'), 'subject')} of such events"
            )
        found = self.total("more") + sum(len(one.differences) for one in self.streams)
        lines.append(_many(found, "difference") if found else "no difference")
        return lines


def _many(count: int, what: str) -> str:
    return counted(count, what).replace(str(count), f"{count:,}")


def _lines_of(streams: Sequence[Compared]) -> list[str]:
    lines = []
    for one in streams:
        lines += [f"{one.name}: stopped at {note}" for note in one.notes]
        lines += [_line(difference) for difference in one.differences]
        if one.more:
            lines.append(f"{one.name}: and {one.more:,} more")
    return lines


def _line(one: ReplayDifference) -> str:
    location = f"{one.location} {one.path}".rstrip()
    parts = [f"{one.kind} {location}: stored {one.stored or 'nothing'}, replayed {one.replayed or 'nothing'}"]
    if one.first_event:
        parts.append(f"first event {one.first_event}")
    if one.events:
        parts.append(f"between {one.events}")
    if one.devices:
        parts.append(f"devices {', '.join(one.devices)}")
    return "; ".join(parts)


def _location(one: Compared) -> str:
    return "" if one.vector is None else f"{one.name}:{one.vector.partition}, {name(FLEET)}:{one.vector.fleet}"
