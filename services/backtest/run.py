"""A backtest from beginning to end: what really happened, then the same devices under what is other, then what differs."""

from collections.abc import Callable, Iterable, Mapping

import msgspec
from pyroaring import BitMap

from events.camel_case import camel_json
from events.canonical import JsonObject
from events.log.port import Log
from events.number_text import iso_text
from events.projection_store.port import ProjectionStore
from services.backtest.changes import Changes, check_names
from services.backtest.course import Act, Course, size_of, without
from services.backtest.recorded import History
from services.backtest.recorded_answers import really
from services.backtest.virtual import Virtual

STEP_SECONDS = 60
_REFUSED_SHOWN = 20
_ACTS_TOLD = ("RolloutPaused", "RollbackBegan", "RollbackEnded", "RolloutCompleted", "RolloutAborted")

ReportProgress = Callable[[int, int], None]
"""Is told the time that is reached, and when the end is (milliseconds)."""


class Of(msgspec.Struct, frozen=True):
    """One deployment, as it was and as it would have been; devices by id."""

    name: str
    really: tuple[Act, ...]
    instead: tuple[Act, ...]
    had_really: int
    had_instead: int
    failed_really: int
    failed_instead: int
    spared: tuple[str, ...]
    hit: tuple[str, ...]
    failures_spared: tuple[str, ...]

    differs: bool
    """Whether anything came of it otherwise; what comes two looks of the scheduler earlier or later is the same."""


class Backtest(msgspec.Struct, frozen=True):
    """All that would have been otherwise. `assigned_otherwise` are the devices that have another configuration at the end."""

    until: int
    deployments: tuple[Of, ...]
    assigned_otherwise: tuple[str, ...]
    devices: int
    unknown: int
    unmatched: int
    refused: tuple[str, ...]

    def as_json(self) -> JsonObject:
        """The whole, for programs."""
        document: JsonObject = camel_json(self)
        return document

    def as_text(self) -> str:
        """The same for people: counts, and what was decided when."""
        lines = []
        for comparison in self.deployments:
            if comparison.differs:
                lines += _lines_of(comparison)
        if not lines:
            lines.append("no deployment would have fared otherwise")
        lines.append(
            f"{len(self.assigned_otherwise):,} of {self.devices:,} devices would have another configuration"
            f" at {iso_text(self.until)}"
        )
        if self.unknown:
            lines.append(
                f"{self.unknown:,} times a device is given what it never really had, or never answered to:"
                " it counts as one that has not answered"
            )
        for text in self.refused[:_REFUSED_SHOWN]:
            lines.append(f"not possible here: {text}")
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
    """Go through the history twice: as it was, and in virtual time under the changes; nothing is written to the log.

    Raises:
        ChangeInvalid: what is to be changed is not recorded.
        LogUnavailable: Redis did not answer.
        UnreadableEvent, LogLostItsTail, CannotApply: the history cannot be gone through.
    """
    history = History(log, recorded, until=until)
    check_names(changes, history.fleet())
    was, answers, last = really(history)
    virtual = Virtual(history.partitions, was, answers, changes, history.fleet())
    _run(virtual, history, changes, end=last, step=1000 * step_seconds, tell=tell)
    ids = [partition.directory.ids for partition in virtual.partitions]
    names = sorted(was.had.keys() | virtual.course.had.keys() | was.acts.keys() | virtual.course.acts.keys())
    locations = was.given.keys() | virtual.course.given.keys()
    otherwise = sorted(
        ids[number][ordinal]
        for number, ordinal in locations
        if was.configuration((number, ordinal)) != virtual.course.configuration((number, ordinal))
        and ordinal in virtual.partitions[number].directory.live
    )
    return Backtest(
        last,
        tuple(_compared(name, was, virtual.course, ids, tolerance_ms=2000 * step_seconds) for name in names),
        tuple(otherwise),
        sum(len(partition.directory.live) for partition in virtual.partitions),
        virtual.unknown,
        answers.unmatched,
        tuple(virtual.refused),
    )


def _run(virtual: Virtual, history: History, changes: Changes, *, end: int, step: int, tell: ReportProgress) -> None:
    """Let time pass: to whatever comes next where nothing waits for the clock, and by steps where something does."""
    events = history.events()
    waiting = next(events, None)
    replaced = {envelope.subject for envelope in history.fleet()}
    added = sorted((deployed.at, name) for name, deployed in changes.deployments.items() if name not in replaced)
    while True:
        coming = [virtual.next_due, waiting.at if waiting else None, added[0][0] if added else None]
        points_in_time = [point_in_time for point_in_time in coming if point_in_time is not None]
        if virtual.is_busy:
            points_in_time.append(virtual.now + step)
        if not points_in_time or (now := max(virtual.now, min(points_in_time))) > end:
            return
        # What comes within one step is taken in together, as a scheduler looks but once in a while.
        virtual.now = min(end, -(-now // step) * step)
        while waiting is not None and waiting.at <= virtual.now:
            while added and added[0][0] <= waiting.at:
                virtual.add(added.pop(0)[1], at=waiting.at)
            virtual.take(waiting)
            waiting = next(events, None)
        while added and added[0][0] <= virtual.now:
            virtual.add(added.pop(0)[1], at=virtual.now)
        virtual.step()
        tell(virtual.now, end)
        if virtual.now >= end and waiting is None:
            return


def _compared(name: str, was: Course, instead: Course, ids: list[list[str]], *, tolerance_ms: int) -> Of:
    had, would = was.had.get(name, {}), instead.had.get(name, {})
    failed = was.failed.get(name, {})
    spared, hit = without(had, would), without(would, had)
    failed_instead = instead.failed.get(name, {})
    acted = _acted_alike(was.acts.get(name, []), instead.acts.get(name, []), tolerance_ms)
    alike = acted and not (size_of(spared) or size_of(hit)) and size_of(failed) == size_of(failed_instead)
    return Of(
        name,
        tuple(was.acts.get(name, ())),
        tuple(instead.acts.get(name, ())),
        size_of(had),
        size_of(would),
        size_of(failed),
        size_of(failed_instead),
        _names(spared, ids),
        _names(hit, ids),
        _names({number: ordinals & failed.get(number, BitMap()) for number, ordinals in spared.items()}, ids),
        not alike,
    )


def _acted_alike(really: list[Act], instead: list[Act], tolerance_ms: int) -> bool:
    return [act.act for act in really] == [act.act for act in instead] and all(
        abs(act.at - other.at) <= tolerance_ms for act, other in zip(really, instead, strict=True)
    )


def _names(members: Mapping[int, Iterable[int]], ids: list[list[str]]) -> tuple[str, ...]:
    return tuple(sorted(ids[number][ordinal] for number, ordinals in members.items() for ordinal in ordinals))


def _lines_of(comparison: Of) -> list[str]:
    lines = [f"{comparison.name}"]
    for when, acts in (("really ", comparison.really), ("instead", comparison.instead)):
        listed_acts = [act for act in acts if act.act.startswith((*_ACTS_TOLD, "PhaseOpened", "PhasePassed"))]
        lines += [
            f"  {when} {iso_text(act.at)} {act.act}: {act.had:,} devices had it, {act.failed:,} had failed"
            + (f" ({act.reason})" if act.reason else "")
            for act in listed_acts
        ]
    lines.append(
        f"  {comparison.had_instead:,} instead of {comparison.had_really:,} devices receive it:"
        f" {len(comparison.spared):,} are spared, {len(comparison.hit):,} are hit in addition"
    )
    lines.append(
        f"  {comparison.failed_instead:,} instead of {comparison.failed_really:,} report a failure;"
        f" {len(comparison.failures_spared):,} that really failed never get it"
    )
    return lines
