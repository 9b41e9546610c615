"""The progress of a long command, on standard error."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from rich import progress as bars

from events.rich_console import console
from events.terminal import complain

ShowProgress = Callable[[str, int, int], None]
"""Is called with what is done, and how many of how many entries or files of it."""

_LINE_SECONDS = 5.0


@contextlib.contextmanager
def progress_bar(*, quiet: bool) -> Iterator[ShowProgress]:
    """Yield what shows progress: at a terminal as a bar with rate and remaining time, elsewhere a line every 5 s; never if `quiet`."""
    has_bar = sys.stderr.isatty() and not quiet
    bar = bars.Progress(
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[rate]}", markup=False),
        bars.TimeRemainingColumn(),
        console=console(error=True, width=None),
        transient=True,
        disable=not has_bar,
    )
    task = bar.add_task("", total=None, rate="")
    begun = printed_at = time.monotonic()
    done_before = -1

    def show(what: str, done: int, total: int) -> None:
        nonlocal begun, printed_at, done_before
        now = time.monotonic()
        # A count that does not grow is that of the next phase, such as files after entries, which has a rate of its own.
        if done <= done_before:
            begun = now
        done_before = done
        rate = done / max(now - begun, 1e-3)
        if has_bar:
            bar.update(task, description=what, completed=done, total=total, rate=f"{rate:,.0f}/s")
        elif not quiet and now - printed_at >= _LINE_SECONDS:
            printed_at = now
            complain(f"{what}: {done} of {total}, {rate:,.0f}/s, {(total - done) / max(rate, 1e-3):.0f} s left")

    with bar:
        yield show
