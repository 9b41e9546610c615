"""Custom metrics that are updated with every event: the rows of a deployment's metric queries as sets of ordinals.

A metric is kept here if the index can answer its query: about devices, by tags, reported properties and registry data; about
one module of each device, by its tags, reported properties and deployment statuses. Other metrics are counted on request.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from pyroaring import BitMap

from events.fleet.assignments import Assignment, AssignmentStatus, Layer
from events.fleet.column import ValueKey, value_key
from events.fleet.configuration import AGENT, HUB
from events.fleet.index import DEVICE_ID, REPORTED, Index
from events.fleet.metric_plan import MetricPlan, indexed, plan_of
from events.fleet.state import PartitionState
from events.fleet.watch import Watch
from events.manifest.document import ContentKind
from events.manifest.merge import contributes
from events.query.evaluate import compared
from events.query.select import among
from events.query.tree import Op, Path, Primitive

_NO_ORDINALS = BitMap()


class _Slices:
    """Sets of the index within some ordinals, cut once for all metrics that read them."""

    # After a batch few ordinals changed of a large partition; metrics then work on small sets (docs/decisions/0020).
    def __init__(self, index: Index, within: BitMap | None) -> None:
        self._index = index
        self.within = within
        self.live = index.everyone() if within is None else index.everyone() & within
        self._cuts: dict[object, BitMap] = {}
        self._orders: dict[tuple[Path, str], tuple[list[Any], list[BitMap]]] = {}

    def compare(self, path: Path, op: Op, literal: Primitive) -> BitMap:
        key = value_key(literal)
        if op is Op.EQ:
            return self._cut((path, key), lambda: self._index.compare(path, Op.EQ, literal))
        if op is Op.NE:
            of_kind = self._cut((path, key[0]), lambda: self._index.of_kind(path, key[0]))
            return of_kind - self.compare(path, Op.EQ, literal)
        if isinstance(literal, bool):
            return _NO_ORDINALS
        if self.within is None or path == DEVICE_ID:
            return self._index.ordered(path, op, literal)
        values, upto = self._upto(path, key[0])
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
        """The values of a path, sorted, and for each number n the ordinals with one of the first n values."""
        order = self._orders.get((path, kind))
        if order is None:
            values, upto = self._index.values(path, kind), [BitMap()]
            for value in values:
                upto.append(upto[-1] | self.compare(path, Op.EQ, value))
            order = self._orders[path, kind] = (values, upto)
        return order

    def defined(self, path: Path) -> BitMap:
        return self._cut(path, lambda: self._index.defined(path))

    def _cut(self, key: object, read: Callable[[], BitMap]) -> BitMap:
        members = self._cuts.get(key)
        if members is None:
            members = self._cuts[key] = read() if self.within is None else read() & self.within
        return members


class _Within:
    """The `ColumnIndex` of one metric within some ordinals."""

    def __init__(self, state: PartitionState, plan: MetricPlan, slices: _Slices) -> None:
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
                return within if name is not None and compared(name, op, literal) is True else _NO_ORDINALS
            case ("status",):
                disabled = within - directory.enabled
                return among(op, literal, ("enabled", directory.enabled), ("disabled", disabled)) & within
            case ("capabilities", "iotEdge"):
                return among(op, literal, (True, directory.edge), (False, within - directory.edge)) & within
            case ("configurations", name, "status"):
                applied, targeted = self._status(name)
                return among(op, literal, ("Applied", applied), ("Targeted", targeted - applied)) & within
            case ("deviceId",):
                return self._slices.compare(path, op, literal) & within
            case _:
                return self._inherited(path, lambda indexed_path: self._slices.compare(indexed_path, op, literal))

    def defined(self, path: Path) -> BitMap:
        match path:
            case ("moduleId",):
                return _NO_ORDINALS if self._plan.module is None else self._within
            case ("status",) | ("capabilities", "iotEdge") | ("deviceId",):
                return self._within
            case ("configurations", name, "status"):
                return self._status(name)[1] & self._within
            case _:
                return self._inherited(path, self._slices.defined)

    def compare_properties(self, _left: Path, op: Op, _right: Path) -> BitMap:
        """The ordinals whose agent answered for the expected version; `plan_of` keeps no other comparison of properties."""
        ordinals = np.array(self._within, dtype=np.uint32)
        assignments, inverse = np.unique(self._state.assignment_of.take(ordinals), return_inverse=True)
        by_number = self._state.assignments.by_number
        versions = [max(1, by_number[int(assignment)].agent_version) for assignment in assignments]
        expected = np.array(versions, dtype=np.uint32)[inverse]
        answered = self._state.answers.agent.versions.take(ordinals)
        equal = answered == expected
        return BitMap(ordinals[equal if op is Op.EQ else (answered != 0) & ~equal])

    def contains(self, _path: Path, _literal: str) -> None:
        """`None`: `plan_of` keeps no metric with an array."""

    def _inherited(self, path: Path, members_of: Callable[[Path], BitMap]) -> BitMap:
        """The members of a property; an edge-capable device that does not report it inherits that of its `$edgeHub`."""
        own_path, *hub_paths = indexed(path, self._plan.module)
        members = members_of(own_path)
        for hub_path in hub_paths:
            reported_itself = self._slices.defined(path[: len(REPORTED) + 1])
            members = members | ((members_of(hub_path) & self._state.directory.edge) - reported_itself)
        return members & self._within

    def _having(self, module: str) -> BitMap:
        """The devices that have a module: made by hand, or part of an edge device's configuration."""
        state = self._state
        if module in {AGENT, HUB}:
            return state.directory.edge
        configurations = state.assignments.configurations
        configured = self._with_assignments(
            lambda assignment: module in configurations[assignment.configuration].module_ids, state.directory.edge
        )
        return (state.modules.get(module, _NO_ORDINALS) & state.directory.live) | configured

    def _with_assignments(self, holds: Callable[[Assignment], bool], among: BitMap) -> BitMap:
        """The ordinals of `among` for whose assignments `holds` is true."""
        numbers = [number for number, assignment in self._state.assignments.by_number.items() if holds(assignment)]
        ordinals = np.array(among, dtype=np.uint32)
        return BitMap(ordinals[np.isin(self._state.assignment_of.take(ordinals), numbers)])

    def _status(self, deployment_id: str) -> tuple[BitMap, BitMap]:
        deployment = self._state.deployments.by_id.get(deployment_id)
        if deployment is None or deployment.kind is ContentKind.DEVICE:
            return _NO_ORDINALS, _NO_ORDINALS
        module = self._plan.module or ""
        targeted = self._state.targets.openly(deployment_id, module) & self._within
        layer = Layer(deployment.id, deployment.created)
        if deployment.kind is ContentKind.MODULE:
            return self._with_assignments(lambda assignment: assignment.has(layer, module), targeted), targeted
        if not contributes(deployment.content, module):
            return _NO_ORDINALS, targeted
        managed = (AssignmentStatus.MANAGED, AssignmentStatus.OVER_LIMIT)
        applied = self._with_assignments(
            lambda assignment: assignment.status in managed and layer in assignment.stack, targeted
        )
        return applied, targeted


Name = tuple[int, str, str]
"""A metric: fleet position of its deployment's creation, the deployment's id, the metric's name."""


class PartitionMetrics:
    """The rows of every kept metric of a partition. Metrics with the same query share their rows across deployments."""

    def __init__(self, state: PartitionState) -> None:
        self._state = state
        self._plans: dict[Name, MetricPlan] = {}
        self._names: dict[MetricPlan, set[Name]] = {}
        self._rows: dict[MetricPlan, BitMap] = {}
        self._watch: Watch[MetricPlan] = Watch()
        self._by_status: set[MetricPlan] = set()
        self.changed: set[Name] = set()
        """The metrics whose count changed since the last commit; only counts are stored, not the rows."""

    def count(self, name: Name) -> int | None:
        """The number of rows of a metric; `None` if it is not kept."""
        plan = self._plans.get(name)
        return None if plan is None else len(self._rows[plan])

    def define(self, created: int, deployment_id: str, queries: Mapping[str, str]) -> None:
        """Keep exactly these metrics of a deployment."""
        plans = {(created, deployment_id, name): plan for name, text in queries.items() if (plan := plan_of(text))}
        for name in [defined for defined in self._plans if defined[:2] == (created, deployment_id)]:
            if plans.get(name) is not self._plans[name]:
                self._drop(name)
        for name, plan in plans.items():
            if name in self._plans:
                continue
            self._plans[name] = plan
            self.changed.add(name)
            names = self._names.setdefault(plan, set())
            names.add(name)
            if len(names) == 1:
                if plan.statuses:
                    self._by_status.add(plan)
                self._watch.add(plan, plan.paths, plan.values)

    def fill(self) -> None:
        """Keep the metrics of all deployments of a restored state, and select their rows."""
        for deployment in self._state.deployments.by_id.values():
            self.define(deployment.created, deployment.id, deployment.metrics)
        slices = _Slices(self._state.index, None)
        self._rows = {plan: BitMap(self._selected(plan, slices)) for plan in self._names}
        self.changed.clear()

    def update(self, touched: Mapping[Path, set[ValueKey]], ordinals: BitMap, renewed: BitMap, status: BitMap) -> None:
        """Update the rows after a batch.

        `touched` are the sets of the index that gained or lost `ordinals`; `renewed` were registered, updated or retired;
        `status` can have another assignment, other targets or answers.
        """
        plans = set(self._rows) if renewed else self._watch.affected(touched) & self._rows.keys()
        if status:
            plans |= self._by_status & self._rows.keys()
        within = ordinals | renewed | status
        slices = _Slices(self._state.index, within)
        for plan in plans:
            rows = self._rows[plan]
            before = len(rows)
            # In place: a new set would copy all rows for a few changes.
            rows -= within
            rows |= self._selected(plan, slices)
            if len(rows) != before:
                self.changed |= self._names[plan]
        for plan in self._names.keys() - self._rows.keys():
            self._rows[plan] = BitMap(self._selected(plan, _Slices(self._state.index, None)))

    def _selected(self, plan: MetricPlan, slices: _Slices) -> BitMap:
        """The rows within the slices; the caller must not change them."""
        return plan.select(_Within(self._state, plan, slices), None)

    def _drop(self, name: Name) -> None:
        plan = self._plans.pop(name)
        self.changed.add(name)
        names = self._names[plan]
        names.discard(name)
        if not names:
            del self._names[plan]
            self._rows.pop(plan, None)
            self._by_status.discard(plan)
            self._watch.remove(plan, plan.paths, plan.values)
