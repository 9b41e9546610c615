"""The progress of a long command, on standard error."""

import sys
import time
from types import TracebackType
from typing import Self

from rich import progress as bars

from events.rich_console import console
from events.terminal import complain

_LINE_SECONDS = 5.0


class ProgressBar:
    """A bar with rate and remaining time at a terminal, elsewhere a line every 5 s; with `quiet` nothing."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr.isatty() and not quiet
        self._bar = bars.Progress(
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[rate]}", markup=False),
            bars.TimeRemainingColumn(),
            console=console(error=True, width=None),
            transient=True,
            disable=not self._terminal,
        )
        self._task = self._bar.add_task("", total=None, rate="")
        self._begun = self._printed_at = time.monotonic()
        self._done_before = -1

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` entries or files are done."""
        now = time.monotonic()
        # A count that does not grow is that of the next phase, such as files after entries, which has a rate of its own.
        if done <= self._done_before:
            self._begun = now
        self._done_before = done
        rate = done / max(now - self._begun, 1e-3)
        if self._terminal:
            self._bar.update(self._task, description=what, completed=done, total=total, rate=f"{rate:,.0f}/s")
        elif not self._quiet and now - self._printed_at >= _LINE_SECONDS:
            self._printed_at = now
            complain(f"{what}: {done} of {total}, {rate:,.0f}/s, {(total - done) / max(rate, 1e-3):.0f} s left")
