"""Reads the fleet snapshot that rollouts are judged on, for all rollouts at once."""

import copy
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, assert_never

import msgspec
import numpy as np
from msgspec import UNSET
from pyroaring import BitMap

from events.deployment.state import decode
from events.device import state as device_state
from events.device.identifiers import SYSTEM_MODULES, module_subject
from events.envelope import Vector
from events.fleet.answers import NOT_RUNNING, OK
from events.fleet.packed import PAGE_ITEMS
from events.log.keys import FLEET, name
from events.log.port import Log, Stored
from events.projection_store.deployment_reads import DeploymentReads
from events.projection_store.device_pages import device_ids
from events.projection_store.port import Blocked, ProjectionStore, read_fields
from events.projection_store.query_engine import QueryEngine
from events.projection_store.query_index import indexes
from events.query.condition import parse_condition
from events.rollout.cohort import Hashes, hashes_of
from events.rollout.events import RolloutResults
from events.rollout.fleet_snapshot import (
    AdmissionOrder,
    Back,
    ByValue,
    FailureCodes,
    FleetSnapshot,
    NotRead,
    Question,
    RollbackId,
    Where,
)
from events.rollout.planner import Judgement, judge
from events.rollout.rollout_counts import ANSWERED_FAILURE, rollout_counts
from events.rollout.rules import tag_path
from events.rollout.sets import NO_DEVICES, FleetSet
from events.rollout.state import RolloutDocument
from events.stored_projection.not_applied import NOT_APPLIED
from events.stored_projection.partition_reader import STATUS_ARRAYS, STATUS_HASHES, PartitionReading
from events.stored_projection.stored_partition import Checkpoint
from events.update.names import is_update

SETTLE_SECONDS = 0.5
_POLL_SECONDS = 0.02

CODES_READ_MAX = 1000
"""For how many failed devices the code is read when a rollout ends; further ones count as failed without a code."""

States = Mapping[int, tuple[Checkpoint, Blocked | None]]
"""By partition, its checkpoint, and where it is blocked, if it is."""

_NO_HASHES = np.zeros(0, dtype=np.uint64)
_HASHES = (*STATUS_HASHES, "already")


def _vectors(states: States) -> dict[int, Vector]:
    return {number: checkpoint.vector for number, (checkpoint, _) in states.items()}


def _behind(vectors: Mapping[int, Vector], heads: Mapping[int, int]) -> set[int]:
    return {number for number, vector in vectors.items() if not Vector(heads[number], heads[FLEET]).is_within(vector)}


def _blocked(states: States) -> set[int]:
    return {number for number, (_, blocked) in states.items() if blocked is not None}


class FleetSnapshotReader:
    """Reads what rollouts are judged on. One per thread; call `refresh` before the snapshots of a round."""

    def __init__(self, log: Log, projections: ProjectionStore) -> None:
        self._log, self._projections = log, projections
        self._query_engine = QueryEngine(log, projections)
        self._deployment_reads, self._deployment_ids = DeploymentReads(projections), frozenset[str]()
        self._readings: dict[int, PartitionReading] = {}
        self._hashes: dict[int, Hashes] = {}
        # By rollout: its version, and the questions of its last plan.
        self._last_questions: dict[str, tuple[int, tuple[Question, ...]]] = {}
        self.lagging: tuple[str, ...] = ()

    def of_rollouts(self, rollouts: Mapping[str, RolloutDocument]) -> "FleetSnapshotReader":
        """A reader for these rollouts alone. Its cost follows their devices, not the number of other deployments."""
        # A copy shares the hashes of device ids, and where the sets of deployments are.
        reader = copy.copy(self)
        deployment_ids = {*rollouts, *(document.rollback for document in rollouts.values())} - {""}
        reader._deployment_ids = frozenset(deployment_ids)  # noqa: SLF001 - of its own class
        reader._readings, reader._last_questions = {}, {}  # noqa: SLF001
        return reader

    @property
    def position(self) -> tuple[object, ...]:
        """What the last refresh read; while it is equal, so is every fleet snapshot of the same rollout."""
        return self.lagging, {number: reading.checkpoint for number, reading in self._readings.items()}

    def heads(self) -> dict[int, int]:
        """The heads of all streams."""
        return dict(self._log.heads())

    def refresh(self, heads: Mapping[int, int]) -> bool:
        """Read the partitions that moved; returns whether every partition is at these heads, and none is blocked.

        Raises:
            LogUnavailable: the projections cannot be read.
        """
        self._refresh(self._states(), heads)
        return not self.lagging

    def settle(self, pause: Callable[[float], None]) -> None:
        """Refresh once workers have applied the present log, or after `SETTLE_SECONDS`.

        Raises:
            LogUnavailable: the projections cannot be read.
        """
        # The limit is needed: the log of a fleet that reports all the time is always a little ahead of its projections.
        heads, states, waited = self.heads(), self._states(), 0.0
        # A blocked partition waits for an operator, so that no wait makes the snapshot complete.
        while not _blocked(states) and _behind(_vectors(states), heads) and waited < SETTLE_SECONDS:
            pause(_POLL_SECONDS)
            waited += _POLL_SECONDS
            states = self._states()
        self._refresh(states, heads)

    def _states(self) -> States:
        return self._projections.states(range(self._log.partitions))

    def _refresh(self, states: States, heads: Mapping[int, int]) -> None:
        # Not the vectors: a rebuild mends what was damaged at the same vector.
        checkpoints = {number: reading.checkpoint for number, reading in self._readings.items()}
        # A blocked partition without a checkpoint has nothing to read, or is damaged; the others go on.
        moved = [
            number
            for number, (checkpoint, blocked) in states.items()
            if checkpoint != checkpoints.get(number) and not (blocked and checkpoint == Checkpoint())
        ]
        if moved:
            self._readings |= zip(moved, self._read(moved), strict=True)
        # As of what was read, which can be after the states.
        vectors = {number: reading.vector for number, reading in self._readings.items()}
        self.lagging = tuple(map(name, sorted(_behind(vectors, heads) | _blocked(states))))

    def _read(self, numbers: Sequence[int]) -> Iterable[PartitionReading]:
        if self._deployment_ids:
            return self._deployment_reads.readings(numbers, *self._deployment_ids, with_assignments=True)
        return map(PartitionReading, self._projections.read_each(numbers, hashes=_HASHES, arrays=STATUS_ARRAYS))

    def judged(self, name: str, document: RolloutDocument, now: int) -> Judgement:
        """What follows for a rollout at a time (milliseconds), as of the last refresh."""
        return self.judge(name, document, self.of(name, document), now)

    def judge(self, name: str, document: RolloutDocument, fleet_snapshot: FleetSnapshot, now: int) -> Judgement:
        """As `judged`, on a given fleet snapshot. What the plan needs beside the snapshot is read."""
        # A waiting rollout asks the same questions each time. Answering them in advance plans it once, not once per question.
        version, questions = self._last_questions.pop(name, (0, ()))
        asked_again = questions if version == document.version else ()
        answers = {question: self._answer(question, name, document, fleet_snapshot, now) for question in asked_again}
        while True:
            try:
                judgement = judge(name, document, msgspec.structs.replace(fleet_snapshot, answers=answers), now)
            except NotRead as unread:
                answers[unread.question] = self._answer(unread.question, name, document, fleet_snapshot, now)
            else:
                if answers:
                    self._last_questions[name] = (document.version, tuple(answers))
                return judgement

    def _answer(
        self, question: Question, name: str, document: RolloutDocument, fleet_snapshot: FleetSnapshot, now: int
    ) -> Any:
        match question:
            case Where(condition):
                where, numbers = parse_condition(condition), range(self._log.partitions)
                return FleetSet({number: self._query_engine.within(number, where) for number in numbers})
            case ByValue(tag):
                path = tag_path(tag)
                assert path is not None
                devices_by_value: dict[object, dict[int, BitMap]] = {}
                for index in indexes(self._projections, range(self._log.partitions)):
                    for key, members in (index.column(path) or {}).items():
                        devices_by_value.setdefault(key, {})[index.number] = members
                return {key: FleetSet(by_partition) for key, by_partition in devices_by_value.items()}
            case AdmissionOrder():
                return self.hashes()
            case FailureCodes():
                return self._codes(document, fleet_snapshot, now)
            case RollbackId():
                return self._rollback_id(name, document)
            case _:
                assert_never(question)

    def results(self, name: str, document: RolloutDocument, now: int, pause: Callable[[float], None]) -> RolloutResults:
        """The results of a rollout at a time (milliseconds), after workers have applied the present log.

        Raises:
            LogUnavailable: the projections cannot be read.
        """
        self.settle(pause)
        fleet_snapshot = self.of(name, document)
        return rollout_counts(document, fleet_snapshot, now).results(self._codes(document, fleet_snapshot, now))

    def of(self, name: str, document: RolloutDocument) -> FleetSnapshot:
        """What a rollout is judged on, as of the last refresh."""
        readings = self._readings
        status = {number: reading.status(name) for number, reading in readings.items()}
        target = FleetSet.over(readings, lambda reading: reading.targeted(name) & reading.set("enabled"))
        actual = FleetSet.over(status, lambda sets: sets.actual)
        is_open_to_all = all(reading.is_open_to_all(name) for reading in readings.values())
        # Mostly all admitted devices have the deployment, and no reason is needed.
        without = (target if is_open_to_all else target & document.admitted) - actual
        not_applied = {
            number: readings[number].not_applied(name, devices) for number, devices in without.by_partition.items()
        }
        return FleetSnapshot(
            tuple((reading.vector.partition, reading.vector.fleet) for _, reading in sorted(readings.items())),
            self.lagging,
            target,
            actual,
            FleetSet.over(status, lambda sets: sets.healthy),
            FleetSet.over(status, lambda sets: sets.unhealthy),
            FleetSet.over(readings, lambda reading: reading.over_limit(name)),
            FleetSet.over(readings, lambda reading: reading.already(name)),
            self._back(name, document) if document.rollback_at else Back(),
            FleetSet.over(readings, lambda reading: reading.set("refused")),
            {why.value: FleetSet.over(not_applied, lambda sets: sets.get(why, BitMap())) for why in NOT_APPLIED},  # noqa: B023
            is_open_to_all,
        )

    def _back(self, name: str, document: RolloutDocument) -> Back:
        if document.rollback:
            snapshot = self.of(document.rollback, msgspec.structs.replace(document, rollback_at=0))
            # A device that another deployment wins does not wait for the rollback.
            devices = snapshot.target & (snapshot.actual | snapshot.held)
            return Back(devices, devices & snapshot.healthy, devices & (snapshot.unhealthy | snapshot.held))
        readings = self._readings
        targeted = FleetSet.over(readings, lambda reading: reading.targeted(name) & reading.set("enabled"))
        devices = document.admitted & targeted
        sets = {number: reading.settled(name) for number, reading in readings.items()}
        return Back(devices, *(devices & FleetSet.over(sets, itemgetter(part)) for part in range(3)))

    # -- what plans need beside the snapshot

    def hashes(self) -> dict[int, Hashes]:
        """By partition and ordinal, the hashes of device ids."""
        return {number: self._hashes_of(number) for number in range(self._log.partitions)}

    def _hashes_of(self, number: int) -> Hashes:
        # Ordinals are never reused, so a full page never changes and is hashed once.
        hashes, reading = self._hashes.get(number, _NO_HASHES), self._readings.get(number)
        ordinals = (self._projections.checkpoint(number) if reading is None else reading.checkpoint).ordinals
        if len(hashes) < ordinals:
            full = len(hashes) // PAGE_ITEMS
            pages = [str(page) for page in range(full, -(-ordinals // PAGE_ITEMS))]
            ids = read_fields(self._projections, number, "ids", pages)
            fresh = (hashes_of(msgspec.json.decode(ids[page], type=list[str])) for page in pages)
            hashes = self._hashes[number] = np.concatenate([hashes[: full * PAGE_ITEMS], *fresh])
        return hashes

    def _codes(self, document: RolloutDocument, fleet_snapshot: FleetSnapshot, now: int) -> Mapping[int, FleetSet]:
        """Failed devices by the code of their system modules' last answer; at most the first `CODES_READ_MAX` devices.

        Raises:
            LogUnavailable: the reports cannot be read.
        """
        devices = rollout_counts(document, fleet_snapshot, now).failed_by.get(ANSWERED_FAILURE, NO_DEVICES)
        devices_by_code: dict[int, FleetSet] = {}
        left = CODES_READ_MAX
        for number, members in sorted(devices.by_partition.items()):
            ordinals = BitMap(itertools.islice(members, left))
            left -= len(ordinals)
            names = [*device_ids(self._projections, number, ordinals)]
            reports = (self._log.load([module_subject(name, system) for name in names]) for system in SYSTEM_MODULES)
            for ordinal, agent, hub in zip(ordinals, *reports, strict=True):
                if (code := _code_of(agent) or _code_of(hub)) is not None:
                    devices_by_code[code] = devices_by_code.get(code, NO_DEVICES) | FleetSet.one(number, ordinal)
        return devices_by_code

    def _rollback_id(self, name: str, document: RolloutDocument) -> str:
        """A free id for the deployment of a rollback; empty if the deployment to go back to does not exist."""
        beneath = document.plan.rollback_to
        ids = [f"{name[:117]}-rollback{suffix}" for suffix in ("", *(f"-{number}" for number in range(2, 10)))]
        (stored, failed, *existing) = self._log.load([beneath, name, *ids], fleet=True)
        if stored.snapshot is None or failed.snapshot is None:
            return ""
        if not is_update(beneath):
            # A deployment of another kind may have been created under that name since the plan.
            old, other = decode(failed.snapshot), decode(stored.snapshot)
            if (old.kind, old.layered) != (other.kind, other.layered) or old.scope not in {UNSET, other.scope}:
                return ""
        return next((candidate for candidate, other in zip(ids, existing, strict=True) if other.snapshot is None), "")


def _code_of(stored: Stored) -> int | None:
    """The code that a system module reported last; `None` if that is no number, or no failure."""
    if stored.snapshot is None:
        return None
    reported = msgspec.json.decode(device_state.decode_module(stored.snapshot).reported)
    status = reported.get("lastDesiredStatus")
    code = status.get("code") if isinstance(status, dict) else None
    # bool is an int in Python: without the check, a reported `true` would be code 1.
    is_failure = isinstance(code, int) and not isinstance(code, bool) and code not in {OK, NOT_RUNNING}
    return code if is_failure else None
