"""How far something long has come: a bar with rate and remaining time on a terminal, now and then a line elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

from rich import progress as bars

from events.backup.backup import BackupProgress
from events.rich_console import console
from events.terminal import complain

_LINE_SECONDS = 5.0


class ProgressBar:
    """Shows, on standard error, what it is told; nothing at all where it is to be `quiet`."""

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
            disable=not self._terminal,
        )
        self._task = self._bar.add_task("", total=None, rate="")
        self._begun = self._said = time.monotonic()
        self._before = (-1, "")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def tell(self, progress: BackupProgress) -> None:
        """Show it."""
        now = time.monotonic()
        if progress.done <= self._before[0]:
            self._begun = now
        self._before = (progress.done, progress.what)
        rate = progress.done / max(now - self._begun, 1e-3)
        if self._terminal:
            self._bar.update(
                self._task,
                description=progress.what,
                completed=progress.done,
                total=progress.total,
                rate=f"{rate:,.0f}/s",
            )
        elif not self._quiet and now - self._said >= _LINE_SECONDS:
            self._said = now
            left = (progress.total - progress.done) / max(rate, 1e-3)
            complain(f"{progress.what}: {progress.done} of {progress.total}, {rate:,.0f}/s, {left:.0f} s left")
