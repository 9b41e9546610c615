"""Custom metrics kept up with every event: the rows of a deployment's metric queries as sets of ordinals.

A metric is kept where the index can answer its query: about devices by tags, reported properties and what the registry says;
about one module of each device by its tags, by what it reports and by what deployments are to it. The others are counted
when they are asked for.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np
from pyroaring import BitMap

from events.fleet.answers import DeviceAnswers
from events.fleet.assignments import Assignment, Assignments, AssignmentStatus, Layer
from events.fleet.column import ValueKey, value_key
from events.fleet.configuration import AGENT, HUB
from events.fleet.deployments import Deployments
from events.fleet.directory import Directory
from events.fleet.index import DEVICE_ID, REPORTED, Index
from events.fleet.metric_plan import MetricPlan, indexed, plan_of
from events.fleet.packed import Packed
from events.fleet.watch import Watch
from events.manifest.document import ContentKind
from events.manifest.merge import contributes
from events.query.evaluate import compared
from events.query.select import among
from events.query.tree import Op, Path, Primitive

_NOBODY = BitMap()


class MetricsState(msgspec.Struct, frozen=True, eq=False):
    """What metrics read of a partition."""

    directory: Directory
    index: Index
    deployments: Deployments
    modules: Mapping[str, BitMap]
    assignments: Assignments
    assignment_of: Packed
    answers: DeviceAnswers
    targeted: Callable[[str, str], BitMap]
    """Whom a deployment targets openly; one of modules, those of this name."""


class _Slices:
    """Sets of the index, cut down to some ordinals once for all the metrics that ask for them."""

    def __init__(self, index: Index, within: BitMap | None) -> None:
        self._index = index
        self.within = within
        self.live = index.everyone() if within is None else index.everyone() & within
        self._known: dict[object, BitMap] = {}
        self._orders: dict[tuple[Path, str], tuple[list[Any], list[BitMap]]] = {}

    def equal(self, path: Path, literal: Primitive) -> BitMap:
        key = (path, value_key(literal))
        members = self._known.get(key)
        return self._cut(key, self._index.compare(path, Op.EQ, literal)) if members is None else members

    def of_kind(self, path: Path, kind: str) -> BitMap:
        key = (path, kind)
        members = self._known.get(key)
        return self._cut(key, self._index.of_kind(path, kind)) if members is None else members

    def defined(self, path: Path) -> BitMap:
        members = self._known.get(path)
        return self._cut(path, self._index.defined(path)) if members is None else members

    def ordered(self, path: Path, op: Op, literal: str | float) -> BitMap:
        if self.within is None or path == DEVICE_ID:
            return self._index.ordered(path, op, literal)
        kind = value_key(literal)[0]
        values, upto = self._upto(path, kind)
        match op:
            case Op.LT:
                return upto[bisect_left(values, literal)]
            case Op.LE:
                return upto[bisect_right(values, literal)]
            case Op.GT:
                return upto[-1] - upto[bisect_right(values, literal)]
            case _:
                return upto[-1] - upto[bisect_left(values, literal)]

    def _upto(self, path: Path, kind: str) -> tuple[list[Any], list[BitMap]]:
        """The values of a path, sorted, and who has one of the first so many of them."""
        order = self._orders.get((path, kind))
        if order is None:
            values, upto = self._index.values(path, kind), [BitMap()]
            for value in values:
                upto.append(upto[-1] | self.equal(path, value))
            order = self._orders[path, kind] = (values, upto)
        return order

    def _cut(self, key: object, members: BitMap) -> BitMap:
        slice_members = self._known[key] = members if self.within is None else members & self.within
        return slice_members


class _Within:
    """`ColumnIndex` of one metric over some ordinals."""

    def __init__(self, state: MetricsState, plan: MetricPlan, slices: _Slices) -> None:
        self._state, self._plan, self._slices = state, plan, slices
        if plan.module is None:
            self._within = slices.live
        else:
            members = self._having(plan.module)
            self._within = members if slices.within is None else members & slices.within

    def everyone(self) -> BitMap:
        return self._within

    def compare(self, path: Path, op: Op, literal: Primitive) -> BitMap:
        directory, within = self._state.directory, self._within
        match path:
            case ("moduleId",):
                name = self._plan.module
                return within if name is not None and compared(name, op, literal) is True else _NOBODY
            case ("status",):
                disabled = within - directory.enabled
                return among(op, literal, ("enabled", directory.enabled), ("disabled", disabled)) & within
            case ("capabilities", "iotEdge"):
                return among(op, literal, (True, directory.edge), (False, within - directory.edge)) & within
            case ("configurations", name, "status"):
                applied, targeted = self._status(name)
                return among(op, literal, ("Applied", applied), ("Targeted", targeted - applied)) & within
            case ("deviceId",):
                return self._indexed(path, op, literal) & within
            case _:
                first, *overlaid = indexed(path, self._plan.module)
                own = self._indexed(first, op, literal)
                for other in overlaid:
                    theirs = self._indexed(other, op, literal) & directory.edge
                    own = own | (theirs - self._shown_itself(path))
                return own & within

    def defined(self, path: Path) -> BitMap:
        match path:
            case ("moduleId",):
                return _NOBODY if self._plan.module is None else self._within
            case ("status",) | ("capabilities", "iotEdge") | ("deviceId",):
                return self._within
            case ("configurations", name, "status"):
                return self._status(name)[1] & self._within
            case _:
                first, *overlaid = indexed(path, self._plan.module)
                own = self._slices.defined(first)
                for other in overlaid:
                    theirs = self._slices.defined(other) & self._state.directory.edge
                    own = own | (theirs - self._shown_itself(path))
                return own & self._within

    def compare_properties(self, _left: Path, op: Op, _right: Path) -> BitMap:
        """Whether the agent answered for the version that it is to have; no metric that compares others is kept (`plan_of`)."""
        ordinals = np.array(self._within, dtype=np.uint32)
        assignments, inverse = np.unique(self._state.assignment_of.take(ordinals), return_inverse=True)
        by_number = self._state.assignments.by_number
        expected = np.array(
            [max(1, by_number[int(assignment)].agent_version) for assignment in assignments], dtype=np.uint32
        )[inverse]
        answered = self._state.answers.agent.versions.take(ordinals)
        equal = BitMap(ordinals[answered == expected])
        other = BitMap(ordinals[(answered != 0) & (answered != expected)])
        return equal if op is Op.EQ else other

    def contains(self, _path: Path, _literal: str) -> None:
        """No metric with an array is kept (`plan_of`)."""

    def _shown_itself(self, path: Path) -> BitMap:
        """Who reports the overlaid property itself: then nothing of the hub's is seen below it."""
        return self._slices.defined(path[: len(REPORTED) + 1])

    def _indexed(self, path: Path, op: Op, literal: Primitive) -> BitMap:
        index = self._slices
        match op:
            case Op.EQ:
                return index.equal(path, literal)
            case Op.NE:
                return index.of_kind(path, value_key(literal)[0]) - index.equal(path, literal)
            case _:
                return _NOBODY if isinstance(literal, bool) else index.ordered(path, op, literal)

    def _having(self, module: str) -> BitMap:
        """Who has a module: made by hand, or as an edge device by what it runs."""
        state = self._state
        if module in {AGENT, HUB}:
            return state.directory.edge
        by_hand = state.modules.get(module, _NOBODY) & state.directory.live
        configurations = state.assignments.configurations
        configured = self._with_assignments(
            lambda assignment: module in configurations[assignment.configuration].module_ids, state.directory.edge
        )
        return by_hand | configured

    def _with_assignments(self, holds: Callable[[Assignment], bool], among: BitMap) -> BitMap:
        """Those of some ordinals for whose rows something holds."""
        numbers = [number for number, assignment in self._state.assignments.by_number.items() if holds(assignment)]
        ordinals = np.array(among, dtype=np.uint32)
        return BitMap(ordinals[np.isin(self._state.assignment_of.take(ordinals), numbers)])

    def _status(self, deployment_id: str) -> tuple[BitMap, BitMap]:
        deployment = self._state.deployments.by_id.get(deployment_id)
        if deployment is None or deployment.kind is ContentKind.DEVICE:
            return _NOBODY, _NOBODY
        module = self._plan.module or ""
        targeted = self._state.targeted(deployment_id, module) & self._within
        layer = Layer(deployment.id, deployment.created)
        if deployment.kind is ContentKind.MODULE:
            return self._with_assignments(lambda assignment: assignment.has(layer, module), targeted), targeted
        if not contributes(deployment.content, module):
            return _NOBODY, targeted
        managed = (AssignmentStatus.MANAGED, AssignmentStatus.OVER_LIMIT)
        return self._with_assignments(
            lambda assignment: assignment.status in managed and layer in assignment.stack, targeted
        ), targeted


Name = tuple[int, str, str]
"""A metric: fleet position of its deployment's creation, the deployment's id, the metric's name."""


class PartitionMetrics:
    """The rows of every kept metric of a partition. Metrics of one query share their rows, whichever deployments they are of."""

    def __init__(self, state: MetricsState) -> None:
        self._state = state
        self._plans: dict[Name, MetricPlan] = {}
        self._names: dict[MetricPlan, set[Name]] = {}
        self._assignments: dict[MetricPlan, BitMap] = {}
        self._watch: Watch[MetricPlan] = Watch()
        self._by_status: set[MetricPlan] = set()
        self.changed: set[Name] = set()
        """Whose count is another one; which rows these are is not kept beyond the process."""

    def count(self, name: Name) -> int | None:
        """How many rows a metric has; `None` where it is not kept."""
        plan = self._plans.get(name)
        return None if plan is None else len(self._assignments[plan])

    def define(self, created: int, deployment_id: str, queries: Mapping[str, str]) -> None:
        """Keep exactly these metrics of a deployment."""
        plans = {(created, deployment_id, name): plan for name, text in queries.items() if (plan := plan_of(text))}
        for name in [defined for defined in self._plans if defined[:2] == (created, deployment_id)]:
            if plans.get(name) is not self._plans[name]:
                self._drop(name)
        for name, plan in plans.items():
            if name not in self._plans:
                self._add(name, plan)

    def fill(self) -> None:
        """Find the rows of all metrics anew, as after `define` on a state that was put back."""
        slices = _Slices(self._state.index, None)
        self._assignments = {plan: BitMap(self._selected(plan, slices)) for plan in self._names}
        self.changed.clear()

    def update(self, touched: Mapping[Path, set[ValueKey]], ordinals: BitMap, renewed: BitMap, status: BitMap) -> None:
        """Find the rows again among those that a replay may have changed.

        `touched` are the sets of the index that `ordinals` went in or out of; `renewed` came, changed or went in the
        registry; `status` may have another assignment, targets or answers.
        """
        plans = set(self._assignments) if renewed else self._watch.affected(touched) & self._assignments.keys()
        if status:
            plans |= self._by_status & self._assignments.keys()
        within = ordinals | renewed | status
        slices = _Slices(self._state.index, within)
        for plan in plans:
            assignments = self._assignments[plan]
            before = len(assignments)
            # Few change, of many: in place.
            assignments -= within
            assignments |= self._selected(plan, slices)
            if len(assignments) != before:
                self.changed |= self._names[plan]
        for plan in self._names.keys() - self._assignments.keys():
            self._assignments[plan] = BitMap(self._selected(plan, _Slices(self._state.index, None)))

    def _selected(self, plan: MetricPlan, slices: _Slices) -> BitMap:
        """The rows within the slices; not to be changed."""
        return plan.select(_Within(self._state, plan, slices), None)

    def _add(self, name: Name, plan: MetricPlan) -> None:
        self._plans[name] = plan
        self.changed.add(name)
        names = self._names.setdefault(plan, set())
        names.add(name)
        if len(names) == 1:
            if plan.statuses or (plan.module is not None and plan.module not in {AGENT, HUB}):
                self._by_status.add(plan)
            self._watch.add(plan, plan.paths, plan.values)

    def _drop(self, name: Name) -> None:
        plan = self._plans.pop(name)
        self.changed.add(name)
        names = self._names[plan]
        names.discard(name)
        if not names:
            del self._names[plan]
            self._assignments.pop(plan, None)
            self._by_status.discard(plan)
            self._watch.remove(plan, plan.paths, plan.values)
