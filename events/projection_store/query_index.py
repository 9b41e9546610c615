"""The index of one partition for queries: sets of ordinals by property, read when they are needed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np
from pyroaring import BitMap

from events.bitmaps import as_stored, members_where
from events.fleet.answers import OTHER
from events.fleet.column import STRING, ValueKey, value_key
from events.fleet.configuration import AGENT, HUB, module_ids
from events.fleet.index import REPORTED
from events.fleet.metric_plan import DESIRED_VERSION, EDGE_ANSWER, VERSION
from events.manifest.document import DEVICE
from events.projection_store.deployment_reads import DeploymentReads
from events.projection_store.port import ProjectionStore, read_fields
from events.query.evaluate import COMPARE
from events.query.select import among
from events.query.tree import Expression, Op, Path, Primitive, equalities
from events.stored_projection.not_applied import NOT_APPLIED_HASHES
from events.stored_projection.partition_codec import IndexField, index_field
from events.stored_projection.partition_reader import StoredAssignments, Targeting
from events.stored_projection.stored_partition import StoredPartition, all_device_ids

PARENT_SCOPES: Path = ("parentScopes",)
CODE: Path = (*REPORTED, "lastDesiredStatus", "code")

_NO_ORDINALS = BitMap()


def indexes(projections: ProjectionStore, numbers: Sequence[int], *wheres: Expression | None) -> list["PartitionIndex"]:
    """The indexes of partitions, with the sets for all equalities in the conditions, read in one round trip."""
    compared = [equality for where in wheres for equality in equalities(where) if _is_property(equality[0])]
    fields = tuple(sorted({index_field(path, value_key(literal)) for path, literal in compared}))
    read = projections.read_each(numbers, fields=(("sets", ("live", "edge", "enabled")), ("index", fields)))
    partitions = zip(numbers, read, strict=True)
    return [PartitionIndex(projections, number, stored, fields) for number, stored in partitions]


def kinds_of(projections: ProjectionStore, numbers: Sequence[int], paths: Collection[Path]) -> dict[Path, set[str]]:
    """The types of values that devices of partitions have of properties, in one round trip; of every value, if it is indexed."""
    prefixes = {path: _prefix_of(path) for path in paths if _is_property(path)}
    kinds: dict[Path, set[str]] = {path: set() for path in paths}
    for names in projections.field_names(numbers, "index") if prefixes else ():
        for path, prefix in prefixes.items():
            # After the path comes the type, in quotation marks; a property has up to a thousand values of few types.
            texts = {field[len(prefix) :].partition(",")[0] for field in names if field.startswith(prefix)}
            kinds[path].update(text.strip('"') for text in texts)
    return kinds


def _prefix_of(path: Path) -> str:
    """What the fields of a path in the index begin with."""
    return index_field(path, (STRING, ""))[: -len('"string",""]')]


def _is_property(path: Path) -> bool:
    """Whether the index can have a path."""
    match path:
        case ("properties", "reported", name, *_):
            return name not in EDGE_ANSWER
        case ("tags", _, *_):
            return True
        case _:
            return False


class PartitionIndex:
    """`ColumnIndex` over the devices of a partition. Each read is atomic; different reads can see different commits."""

    def __init__(
        self, projections: ProjectionStore, number: int, stored: StoredPartition, fields: Sequence[str]
    ) -> None:
        """`stored` has the sets of all devices, and these `fields` of the index, as far as they exist."""
        self._projections = projections
        self.number = number
        self._stored, self._fields = stored, frozenset(fields)
        self._sets = {name: as_stored(data) for name, data in stored.hashes["sets"].items()}
        self._columns: dict[Path, dict[ValueKey, BitMap] | None] = {}
        self.has_own = stored.checkpoint.has_own is True

    def everyone(self) -> BitMap:
        """Every device."""
        return self._sets.get("live", _NO_ORDINALS)

    @property
    def edge(self) -> BitMap:
        """Every edge-capable device."""
        return self._sets.get("edge", _NO_ORDINALS)

    def compare(self, path: Path, op: Op, literal: Primitive) -> BitMap | None:
        """The devices for which a comparison is true; `None` if the path is not indexed."""
        match path:
            case ("deviceId",):
                return self._compare_ids(op, literal)
            case ("status",):
                enabled = self._sets.get("enabled", _NO_ORDINALS)
                return among(op, literal, ("enabled", enabled), ("disabled", self.everyone() - enabled))
            case ("capabilities", "iotEdge"):
                return among(op, literal, (True, self.edge), (False, self.everyone() - self.edge))
            case ("configurations", name, "status") if self.has_own:
                applied, targeted = self._own_status(name)
                return among(op, literal, ("Applied", applied), ("Targeted", targeted - applied))
            case ("configurations", *_) | ("moduleId",):
                return _NO_ORDINALS
            case _:
                return self._compare_indexed(path, op, literal) if _is_property(path) else None

    def defined(self, path: Path) -> BitMap | None:
        """The devices that have a property; `None` if the path is not indexed."""
        match path:
            case ("deviceId",) | ("status",) | ("capabilities", "iotEdge"):
                return self.everyone()
            case ("configurations",) if self.has_own:
                stored = self._projections.read(self.number, hashes=NOT_APPLIED_HASHES)
                return BitMap().union(*(members for _, members in Targeting(stored).by_twin.get(DEVICE, ())))
            case ("configurations", name) | ("configurations", name, "status") if self.has_own:
                return self._own_status(name)[1]
            case ("configurations", *_) | ("moduleId",):
                return _NO_ORDINALS
            case _:
                column = self.column(path)
                return None if column is None else BitMap().union(*column.values())

    def contains(self, path: Path, literal: str) -> BitMap | None:
        """The devices whose parent has a scope; `None` for other arrays, which are not indexed."""
        if path != PARENT_SCOPES:
            return None
        data = read_fields(self._projections, self.number, "children", [literal]).get(literal)
        return _NO_ORDINALS if data is None else as_stored(data)

    def compare_properties(self, _left: Path, _op: Op, _right: Path) -> None:
        """Return `None`: the index cannot compare two properties of devices."""

    def _own_status(self, deployment_id: str) -> tuple[BitMap, BitMap]:
        """The devices to whose own twin a configuration is applied, and those that it targets."""
        (reading,) = DeploymentReads(self._projections).readings([self.number], deployment_id)
        return reading.in_twin(deployment_id, DEVICE)

    # -- indexed properties

    def _compare_indexed(self, path: Path, op: Op, literal: Primitive) -> BitMap | None:
        value = value_key(literal)
        if op is Op.EQ:
            field = index_field(path, value)
            stored = self._stored
            if field not in self._fields:
                stored = self._projections.read(self.number, fields=(("index", (field,)),))
            if not stored.checkpoint.is_indexed(path):
                return None
            data = stored.hashes["index"].get(field)
            return _NO_ORDINALS if data is None else as_stored(data)
        column = self.column(path)
        if column is None:
            return None
        compare = COMPARE[op]
        sets = (members for (kind, of), members in column.items() if kind == value[0] and compare(of, value[1]))
        return BitMap().union(*sets)

    def column(self, path: Path) -> dict[ValueKey, BitMap] | None:
        """The devices by typed value of a property; `None` if the path is not indexed."""
        if path in self._columns:
            return self._columns[path]
        column: dict[ValueKey, BitMap] | None = None
        if _is_property(path):
            fields = self._fields_of(path)
            stored = self._projections.read(self.number, fields=(("index", fields),))
            if stored.checkpoint.is_indexed(path):
                column = {}
                for field, data in stored.hashes["index"].items():
                    _, kind, value = msgspec.json.decode(field, type=IndexField)
                    column[kind, value] = as_stored(data)
        self._columns[path] = column
        return column

    def _fields_of(self, path: Path) -> tuple[str, ...]:
        prefix, (names,) = _prefix_of(path), self._projections.field_names([self.number], "index")
        return tuple(field for field in names if field.startswith(prefix))

    # -- ids

    def _compare_ids(self, op: Op, literal: Primitive) -> BitMap:
        if not isinstance(literal, str):
            return _NO_ORDINALS
        if op is Op.EQ:
            ordinals = read_fields(self._projections, self.number, "ordinals", [literal])
            return BitMap(map(int, ordinals.values()))
        if op is Op.NE and not literal:
            return self.everyone()
        compare = COMPARE[op]
        return BitMap(ordinal for ordinal in self.everyone() if compare(self.ids[ordinal], literal))

    @cached_property
    def ids(self) -> list[str]:
        """The device id of every ordinal, retired devices included."""
        return all_device_ids(self._projections.read(self.number, hashes=("ids",)).hashes["ids"])


@dataclass(eq=False)
class ModuleIndex:
    """`ColumnIndex` over one module of every device of a partition; ordinals are those of the devices."""

    projections: ProjectionStore
    devices: PartitionIndex
    module_id: str
    contributing: frozenset[str]
    """The ids of the deployments that set anything for the module."""

    def everyone(self) -> BitMap:
        """Every device that has the module."""
        return self._members

    @cached_property
    def _members(self) -> BitMap:
        if self.module_id in {AGENT, HUB}:
            return self.devices.edge
        module_id, number = self.module_id, self.devices.number
        fields = (("modules", (module_id,)),)
        stored = self.projections.read(number, hashes=("assignments",), fields=fields, arrays=("assignment_of",))
        assignments = StoredAssignments(stored)
        digests = sorted({assignment.configuration for assignment in assignments.by_number.values()})
        configurations = read_fields(self.projections, number, "configurations", digests)
        sections = ((digest, msgspec.json.decode(data)) for digest, data in configurations.items())
        having = {digest for digest, by_module in sections if module_id in module_ids(by_module)}
        configured = assignments.where(lambda assignment: assignment.configuration in having)
        by_hand = stored.hashes["modules"].get(module_id)
        made_by_hand = _NO_ORDINALS if by_hand is None else as_stored(by_hand)
        return (made_by_hand & self.devices.everyone()) | (configured & self.devices.edge)

    def compare(self, path: Path, op: Op, literal: Primitive) -> BitMap | None:
        """The devices for which a comparison is true; `None` if the path is not indexed."""
        match path:
            case ("deviceId",):
                devices = self.devices.compare(path, op, literal)
                return None if devices is None else devices & self.everyone()
            case ("moduleId",):
                return among(op, literal, (self.module_id, self.everyone()))
            case ("configurations", name, "status"):
                applied, targeted = self._status(name)
                return among(op, literal, ("Applied", applied), ("Targeted", targeted - applied)) & self.everyone()
            case _ if path == CODE and self.module_id == AGENT:
                return self._compare_code(op, literal)
            case _:
                return None

    def defined(self, path: Path) -> BitMap | None:
        """The devices that have a property; `None` if the path is not indexed."""
        match path:
            case ("deviceId",) | ("moduleId",):
                return self.everyone()
            case ("configurations", name) | ("configurations", name, "status"):
                return self._status(name)[1] & self.everyone()
            case _:
                return None

    def contains(self, path: Path, _literal: str) -> BitMap | None:
        """No devices for `parentScopes`, as no module has a parent; `None` for other arrays, which are not indexed."""
        return _NO_ORDINALS if path == PARENT_SCOPES else None

    def compare_properties(self, left: Path, op: Op, right: Path) -> BitMap | None:
        """The devices whose agent answered for the version that it should have, or for another; else `None`."""
        if self.module_id != AGENT or {left, right} != {VERSION, DESIRED_VERSION} or op not in {Op.EQ, Op.NE}:
            return None
        arrays = ("assignment_of", "answer_versions")
        stored = self.projections.read(self.devices.number, hashes=("assignments",), arrays=arrays)
        assignments = StoredAssignments(stored)
        expected_versions = np.ones(1 + max(assignments.by_number, default=0), dtype=np.uint32)
        for number, assignment in assignments.by_number.items():
            expected_versions[number] = max(1, assignment.agent_version)
        answered = np.frombuffer(stored.arrays["answer_versions"], dtype=np.uint32)
        equal = answered == expected_versions[assignments.of_devices]
        return members_where(equal if op is Op.EQ else (answered != 0) & ~equal) & self.everyone()

    def _status(self, deployment_id: str) -> tuple[BitMap, BitMap]:
        """The devices to whose twin of this module a deployment is applied, and those that it targets."""
        (reading,) = DeploymentReads(self.projections).readings([self.devices.number], deployment_id)
        if reading.is_of_modules(deployment_id):
            return reading.in_twin(deployment_id, self.module_id)
        applied, targeted = reading.in_twin(deployment_id)
        return (applied if deployment_id in self.contributing else _NO_ORDINALS), targeted

    def _compare_code(self, op: Op, literal: Primitive) -> BitMap | None:
        if isinstance(literal, bool):
            return _NO_ORDINALS
        stored = self.projections.read(self.devices.number, arrays=("answer_codes",))
        codes = np.frombuffer(stored.arrays["answer_codes"], dtype=np.uint32)
        if isinstance(literal, str) or (op not in {Op.EQ, Op.NE} and bool((codes == OTHER).any())):
            return None
        if op in {Op.EQ, Op.NE} and not 0 < literal < OTHER:
            return None
        holds = COMPARE[op](codes, literal) & (codes != 0)
        return members_where(holds) & self.everyone()
