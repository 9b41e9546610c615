"""The progress and the result of a replay, as text and as JSON."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text
from typing_extensions import override

from events.envelope import Vector
from events.log.keys import FLEET, name
from events.number_text import counted
from events.rich_console import console
from events.terminal import complain
from workers.replay.report import Advanced, Compared, Done, Failed, ReplayDifference, StreamProgress

_LINE_SECONDS = 5.0
_TERMS = ("events", "assignment_changes", "projections", "documents", "snapshots")
_MEMBERS = {"assignment_changes": "assignmentChanges"}


@contextlib.contextmanager
def progress_bar(events: int) -> Iterator[Callable[[StreamProgress], None]]:
    """A progress bar on a terminal, and a line every 5 s elsewhere, of the messages. Both go to standard error."""
    position_by_stream: dict[int, int] = {}
    is_live, total = sys.stderr.isatty(), events
    began = printed_at = time.monotonic()
    progress = Progress(
        TextColumn("[bold]replay"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("events"),
        _Rate(),
        TimeRemainingColumn(),
        console=console(error=True, width=None),
        disable=not is_live,
    )
    task = progress.add_task("", total=max(1, events))

    def hear(message: StreamProgress) -> None:
        nonlocal total, printed_at
        match message:
            case Advanced(stream, position):
                position_by_stream[stream] = position
            case Done(compared):
                position_by_stream[compared.stream] = compared.events + compared.skipped
            case Failed():
                pass
        replayed = sum(position_by_stream.values())
        # The log can grow while it is replayed; without this, the bar would pass 100 %.
        total = max(total, replayed)
        progress.update(task, completed=replayed, total=max(1, total))
        now = time.monotonic()
        if not is_live and now - printed_at >= _LINE_SECONDS:
            printed_at, rate = now, replayed / (now - began)
            left = f", {(total - replayed) / rate:,.0f} s to go" if rate else ""
            complain(f"{replayed:,} of {total:,} events, {rate:,.0f} events/s{left}")

    with progress:
        yield hear


class _Rate(ProgressColumn):
    @override
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:,.0f} events/s")


class Summary(msgspec.Struct, frozen=True):
    """The results of all streams of a replay."""

    streams: list[Compared]
    failed: list[Failed]
    seconds: float
    rebuilt: bool = False

    @property
    def code(self) -> int:
        """The exit code: 0 without differences, 1 with differences, 2 if a stream could not be replayed."""
        return 2 if self.failed else int(self.differences > 0)

    @property
    def differences(self) -> int:
        """How many differences there are, named or not."""
        return sum(len(stream.differences) + stream.more for stream in self.streams)

    def total(self, what: str) -> int:
        """The sum of a field of `Compared` over all streams."""
        return sum(getattr(stream, what) for stream in self.streams)

    def as_json(self) -> bytes:
        """The summary and all streams as a JSON document."""
        document = {
            **{_MEMBERS.get(what, what): self.total(what) for what in _TERMS},
            "skipped": self.total("skipped"),
            "apart": self.total("apart"),
            "differences": self.differences,
            "seconds": round(self.seconds, 3),
            "streams": [{"name": stream.name, **msgspec.to_builtins(stream)} for stream in self.streams],
            "failed": [{"name": name(failed.stream), "error": failed.error} for failed in self.failed],
        }
        return msgspec.json.format(msgspec.json.encode(document), indent=2)

    def as_lines(self) -> list[str]:
        """The summary and all differences as lines for a terminal."""
        if not self.rebuilt:
            return self._compared_lines()
        lines = []
        for stream in self.streams:
            vector = stream.vector or Vector()
            lines.append(
                f"{stream.name} is rebuilt to {stream.name}:{vector.partition}, {name(FLEET)}:{vector.fleet}:"
                f" {_many(stream.events, 'event')}, {_many(stream.assignment_changes, 'assignment change')};"
                f" {', '.join(stream.notes)}"
            )
        lines += [f"{name(failed.stream)} is unchanged: {failed.error}" for failed in self.failed]
        return [*lines, f"{counted(len(self.streams), 'partition')} rebuilt in {self.seconds:,.1f} s"]

    def _compared_lines(self) -> list[str]:
        lines = []
        for stream in self.streams:
            lines += [f"{stream.name}: stopped at {note}" for note in stream.notes]
            lines += [_line(difference) for difference in stream.differences]
            if stream.more:
                lines.append(f"{stream.name}: and {stream.more:,} more")
        lines += [f"{name(failed.stream)} cannot be replayed: {failed.error}" for failed in self.failed]
        counts = ", ".join(_many(self.total(what), what.removesuffix("s").replace("_", " ")) for what in _TERMS)
        rate = self.total("events") / self.seconds if self.seconds else 0.0
        lines.append(f"{counts} compared in {self.seconds:,.1f} s ({rate:,.0f} events/s)")
        if self.total("skipped"):
            lines.append(
                f"skipped by decision: {counted(self.total('skipped'), 'event')};"
                f" not compared: {counted(self.total('apart'), 'subject')} of such events"
            )
        lines.append(_many(self.differences, "difference") if self.differences else "no difference")
        return lines


def _many(count: int, what: str) -> str:
    return counted(count, what).replace(str(count), f"{count:,}")


def _line(difference: ReplayDifference) -> str:
    location = f"{difference.location} {difference.path}".rstrip()
    stored, replayed = difference.stored or "nothing", difference.replayed or "nothing"
    text = f"{difference.kind} {location}: stored {stored}, replayed {replayed}"
    if difference.first_event:
        text += f"; first event {difference.first_event}"
    if difference.events:
        text += f"; between {difference.events}"
    return text + f"; devices {', '.join(difference.devices)}" if difference.devices else text
