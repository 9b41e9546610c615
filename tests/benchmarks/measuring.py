"""What a benchmark answers, and how it is shown."""

import time
from collections.abc import Callable, Iterable, Sequence

import msgspec
from rich.console import Console
from rich.table import Table


class Figure(msgspec.Struct, frozen=True):
    """One measured number beside its aim; `beside` are the raw figures of the same run that it is judged by."""

    what: str
    setting: str
    value: float
    unit: str
    aim: str
    holds: bool | None
    beside: str = ""


def at_least(what: str, setting: str, value: float, unit: str, *, aim: float, beside: str = "") -> Figure:
    """A figure that should not be smaller than its aim."""
    return Figure(what, setting, value, unit, f"≥ {aim:,g}", value >= aim, beside)


def at_most(what: str, setting: str, value: float, unit: str, *, aim: float, beside: str = "") -> Figure:
    """A figure that should not be larger than its aim."""
    return Figure(what, setting, value, unit, f"≤ {aim:,g}", value <= aim, beside)


def seconds_of(work: Callable[[], object]) -> float:
    """How long something takes, by the wall clock."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def show(figures: Iterable[Figure]) -> None:
    """Print a table for people."""
    table = Table(show_lines=False)
    for column in ("what", "setting", "measured", "aim", "", "beside it"):
        table.add_column(column, justify="right" if column in {"measured", "aim"} else "left")
    for figure in figures:
        verdict = {None: "", True: "holds", False: "MISSED"}[figure.holds]
        digits = 0 if figure.value >= 1000 else 2
        value = f"{figure.value:,.{digits}f} {figure.unit}".strip()
        table.add_row(figure.what, figure.setting, value, figure.aim, verdict, figure.beside)
    Console(width=170).print(table)
