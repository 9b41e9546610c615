"""A backtest: read what really happened, run the same devices under the changes, compare."""

from collections.abc import Iterable, Mapping

import msgspec
from pyroaring import BitMap

from events.log.port import Log
from events.number_text import iso_text
from events.projection_store.port import ProjectionStore
from services.backtest import STEP_SECONDS
from services.backtest.changes import Changes, check_names
from services.backtest.history import History, read_history
from services.backtest.timeline import RolloutDecision, Timeline, size_of, without
from services.backtest.virtual_fleet import ReportProgress, VirtualFleet

_REFUSED_SHOWN = 20
_ACTS_SHOWN = (
    "PhaseOpened",
    "PhasePassed",
    "RolloutPaused",
    "RollbackBegan",
    "RollbackEnded",
    "RolloutCompleted",
    "RolloutAborted",
)


class DeploymentComparison(msgspec.Struct, frozen=True):
    """One deployment in reality and in the backtest; devices are ids."""

    name: str
    really: tuple[RolloutDecision, ...]
    instead: tuple[RolloutDecision, ...]
    had_really: int
    had_instead: int
    failed_really: int
    failed_instead: int
    spared: tuple[str, ...]
    hit: tuple[str, ...]
    failures_spared: tuple[str, ...]

    differs: bool
    """Whether the backtest ended otherwise; decisions at most two rounds of the scheduler apart count as equal."""


class Backtest(msgspec.Struct, frozen=True):
    """The result of a backtest. `assigned_otherwise` are the devices that have another configuration at the end."""

    until: int
    deployments: tuple[DeploymentComparison, ...]
    assigned_otherwise: tuple[str, ...]
    devices: int
    unknown: int
    unmatched: int
    refused: tuple[str, ...]

    def as_text(self) -> str:
        """The result for people: counts, and what was decided when."""
        lines = [line for comparison in self.deployments if comparison.differs for line in _lines_of(comparison)]
        lines = lines or ["no deployment would have ended otherwise"]
        lines.append(
            f"{len(self.assigned_otherwise):,} of {self.devices:,} devices would have another configuration"
            f" at {iso_text(self.until)}"
        )
        if self.unknown:
            lines.append(
                f"{self.unknown:,} times a device gets a configuration that it never really had, or never answered to:"
                " it counts as not answered"
            )
        lines += [f"not possible in the backtest: {text}" for text in self.refused[:_REFUSED_SHOWN]]
        return "\n".join(lines)


def backtest(
    log: Log,
    recorded: ProjectionStore,
    changes: Changes,
    *,
    until: int | None = None,
    step_seconds: int = STEP_SECONDS,
    tell: ReportProgress = lambda _now, _end: None,
) -> Backtest:
    """Compare the history as recorded with a run in virtual time under the changes. Nothing is written to the log.

    Raises:
        ChangeInvalid: a change names a deployment or a rollout that is not recorded.
        LogUnavailable: Redis did not answer.
        UnreadableEvent, LogLostItsTail, CannotApply: the history cannot be read or applied.
    """
    history = History(log, recorded, until=until)
    check_names(changes, history.fleet())
    really = read_history(history)
    was = really.timeline
    virtual = VirtualFleet(history, really, changes)
    virtual.run(step_ms=1000 * step_seconds, tell=tell)
    ids = [partition.directory.ids for partition in virtual.partitions]
    names = sorted(was.had.keys() | virtual.timeline.had.keys() | was.acts.keys() | virtual.timeline.acts.keys())
    devices = was.grants.keys() | virtual.timeline.grants.keys()
    otherwise = sorted(
        ids[number][ordinal]
        for number, ordinal in devices
        if was.configuration((number, ordinal)) != virtual.timeline.configuration((number, ordinal))
        and ordinal in virtual.partitions[number].directory.live
    )
    # Rounds in virtual time fall on multiples of the step, real ones on any second: the same decision comes up to two steps apart.
    return Backtest(
        really.end,
        tuple(_compared(name, was, virtual.timeline, ids, tolerance_ms=2000 * step_seconds) for name in names),
        tuple(otherwise),
        sum(len(partition.directory.live) for partition in virtual.partitions),
        virtual.unknown,
        really.unmatched,
        tuple(virtual.refused),
    )


def _compared(
    name: str, was: Timeline, instead: Timeline, ids: list[list[str]], *, tolerance_ms: int
) -> DeploymentComparison:
    had, would, failed, failed_instead = was.had[name], instead.had[name], was.failed[name], instead.failed[name]
    spared, hit, acts, acts_instead = without(had, would), without(would, had), was.acts[name], instead.acts[name]
    alike = (
        [act.act for act in acts] == [act.act for act in acts_instead]
        and all(abs(act.at - other.at) <= tolerance_ms for act, other in zip(acts, acts_instead, strict=True))
        and not (size_of(spared) or size_of(hit))
        and size_of(failed) == size_of(failed_instead)
    )
    return DeploymentComparison(
        name,
        tuple(acts),
        tuple(acts_instead),
        size_of(had),
        size_of(would),
        size_of(failed),
        size_of(failed_instead),
        _names(spared, ids),
        _names(hit, ids),
        _names({number: ordinals & failed.get(number, BitMap()) for number, ordinals in spared.items()}, ids),
        not alike,
    )


def _names(members: Mapping[int, Iterable[int]], ids: list[list[str]]) -> tuple[str, ...]:
    return tuple(sorted(ids[number][ordinal] for number, ordinals in members.items() for ordinal in ordinals))


def _lines_of(comparison: DeploymentComparison) -> list[str]:
    lines = [f"{comparison.name}"]
    for when, acts in (("really ", comparison.really), ("instead", comparison.instead)):
        lines += [
            f"  {when} {iso_text(act.at)} {act.act}: {act.had:,} devices had it, {act.failed:,} had failed"
            + (f" ({act.reason})" if act.reason else "")
            for act in acts
            if act.act.startswith(_ACTS_SHOWN)
        ]
    lines.append(
        f"  {comparison.had_instead:,} instead of {comparison.had_really:,} devices receive it:"
        f" {len(comparison.spared):,} are spared, {len(comparison.hit):,} more are affected"
    )
    lines.append(
        f"  {comparison.failed_instead:,} instead of {comparison.failed_really:,} report a failure;"
        f" {len(comparison.failures_spared):,} devices that really failed never get it"
    )
    return lines
