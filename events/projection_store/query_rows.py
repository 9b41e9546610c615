"""Builds the rows of a query from documents and projections, with no more than the query reads."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import msgspec

from events.canonical import JsonObject
from events.deployment.state import DeploymentDocument
from events.device.identifiers import SYSTEM_MODULES, module_subject
from events.device.state import DeviceDocument, ModuleDocument, decode_device, decode_module, section
from events.device.tags import HIDDEN
from events.device.twin import DeviceTwin, ModuleTwin, configurations_of, device_twin
from events.fleet.assignments import Assignment
from events.fleet.configuration import HUB, module_ids
from events.fleet.index import REPORTED
from events.fleet.metric_plan import EDGE_ANSWER
from events.fleet.packed import PAGE_ITEMS
from events.log.device_documents import device_in
from events.log.fleet_documents import deployments_of
from events.log.port import Log, Stored
from events.manifest.document import DEVICE, MODULE
from events.projection_store.port import ProjectionStore, read_fields
from events.projection_store.query_index import PartitionIndex
from events.projection_store.twins import Assigned, built_device, built_module, modules_of
from events.properties import masked, merge_patch
from events.query.evaluate import QueryRow
from events.query.tree import Query, paths
from events.stored_projection.not_applied import NOT_APPLIED_HASHES
from events.stored_projection.partition_reader import StoredAssignments, Targeting
from events.stored_projection.stored_partition import StoredPartition

_PLAIN = "$twin"
_LIGHT: dict[str, Any] = {
    "retired": (bool, False),
    "edge": (bool, True),
    "enabled": (bool, True),
    "status_reason": (str | None, None),
    "twin_version": (int, 2),
    "desired_version": (int, 1),
    "reported_version": (int, 1),
    "tags": (dict[str, Any], {}),
    "desired": (dict[str, Any], {}),
    "reported": (dict[str, Any], {}),
}
_SECTIONS = {"tags", "desired", "reported"}
_LIGHT_ROOTS = {"deviceId", "status", "statusReason", "version", "tags", "capabilities", "moduleId", "configurations"}


class QueryRows:
    """The rows of one partition for one query."""

    def __init__(
        self, log: Log, projections: ProjectionStore, index: PartitionIndex, query: Query, *, overlaid: bool = True
    ) -> None:
        """`overlaid`: whether a device shows the answers of its edge hub (DESIGN §7)."""
        self._log, self._projections, self._index = log, projections, index
        query_paths = paths(query)
        whole = not query.select
        self._paths, self._whole = query_paths, whole
        selected = {item.path for item in query.select} | set(query.group_by)
        self._shown_only_ids = not whole and selected <= {("deviceId",), None}
        self._overlaid = overlaid and any(
            path[:2] == REPORTED and path[2:3] and path[2] in EDGE_ANSWER for path in query_paths
        )
        self._times = whole or any("$metadata" in path for path in query_paths)
        self._ids: dict[int, list[str]] = {}
        self._sections_by_digest: dict[str, dict[str, JsonObject]] = {}
        self._assignment_change_times: dict[int, int] = {}

    def shown(self, row: QueryRow) -> QueryRow:
        """The row as `SELECT *` shows it: the twin, without values that only conditions read."""
        plain: QueryRow = row.get(_PLAIN, row)
        return plain

    # -- devices

    def devices(self, ordinals: Sequence[int], *, sure: bool) -> Iterator[QueryRow | None]:
        """The rows of devices; `None` for retired ones. With `sure`, the rows are known to fulfil the condition."""
        names = self.names(ordinals)
        # Nothing of the documents is evaluated or shown, so they need not be read.
        if sure and self._shown_only_ids:
            yield from ({"deviceId": name} for name in names)
            return
        snapshots = self._log.snapshots(self._index.number, names)
        hubs: Iterable[JsonObject] = self._hub_answers(names) if self._overlaid else ({} for _ in names)
        build = self._light if self._is_light else self._full
        for ordinal, name, snapshot, hub in zip(ordinals, names, snapshots, hubs, strict=True):
            row: QueryRow | None = None if snapshot is None else build(ordinal, name, snapshot)
            if row is not None and hub and row["capabilities"]["iotEdge"]:
                row = _overlaid(row, hub, plain=self._whole)
            yield row

    @cached_property
    def _is_light(self) -> bool:
        return not self._whole and all(
            path[0] in _LIGHT_ROOTS
            or (path[0] == "properties" and path[1:2] in {("desired",), ("reported",)} and "$metadata" not in path)
            for path in self._paths
        )

    @cached_property
    def _sections_read(self) -> frozenset[str]:
        """The sections of a document that the query reads."""
        paths = (path for path in self._paths if path[0] in {"tags", "properties"})
        return frozenset(path[0] if path[0] == "tags" else path[1] for path in paths)

    @cached_property
    def _decoder(self) -> msgspec.json.Decoder[Any]:
        """Decodes only the members of a document that the query reads."""
        # msgspec skips other members without building objects of them.
        fields = [(name, *of) for name, of in _LIGHT.items() if name not in _SECTIONS or name in self._sections_read]
        return msgspec.json.Decoder(msgspec.defstruct("Light", fields))

    @cached_property
    def _asks_plain(self) -> bool:
        """Whether the query reads anything of a device outside of its sections."""
        return self._overlaid or any(path[0] not in {"deviceId", "tags", "properties"} for path in self._paths)

    def _light(self, ordinal: int, device_id: str, snapshot: bytes) -> JsonObject | None:
        document = self._decoder.decode(snapshot)
        if document.retired:
            return None
        row: JsonObject = {"deviceId": device_id}
        if self._asks_plain:
            row["status"] = "enabled" if document.enabled else "disabled"
            row["statusReason"] = document.status_reason
            row["version"] = document.twin_version
            row["capabilities"] = {"iotEdge": document.edge}
        sections = self._sections_read
        if "tags" in sections and document.tags:
            row["tags"] = masked(document.tags, mask=HIDDEN)
        properties: JsonObject = {}
        row["properties"] = properties
        if "desired" in sections:
            properties["desired"] = document.desired
            document.desired["$version"] = document.desired_version
        if "reported" in sections:
            properties["reported"] = document.reported
            document.reported["$version"] = document.reported_version
        if self._index.has_own:
            assignment, desired = self._assignments.of(ordinal), properties.get("desired")
            if desired is not None:
                configured = self._sections(assignment.own_part.configuration).get(DEVICE, {})
                version = desired["$version"] + assignment.own_part.version - 1
                properties["desired"] = {**merge_patch(desired, configured), "$version": version}
            if statuses := self._statuses(ordinal, assignment, DEVICE):
                row["configurations"] = configurations_of(statuses)
        return row

    def _full(self, ordinal: int, device_id: str, snapshot: bytes) -> DeviceTwin | None:
        document = decode_device(snapshot)
        if document.retired:
            return None
        if not self._index.has_own:
            return device_twin(device_id, document)
        assignment = self._assignments.of(ordinal)
        sections = self._sections(assignment.own_part.configuration)
        statuses = self._statuses(ordinal, assignment, DEVICE)
        assigned = Assigned(assignment, sections, self._since(ordinal), statuses, self.deployments)
        return built_device(device_id, document, assigned)

    def gone(self, ordinals: Sequence[int], scope: Callable[[JsonObject], bool], logs: Sequence[Log]) -> frozenset[int]:
        """The devices that are no longer in a scope by the documents of one of the logs."""
        names = self.names(ordinals)
        ordinals_gone = set()
        # A device that was registered again between two of the logs is another device: its generation differs.
        for ordinal, name, *stored in zip(ordinals, names, *(log.load(names) for log in logs), strict=True):
            if len({document.head.generation for document in stored}) > 1 or not all(
                _holds(scope, name, document) for document in stored
            ):
                ordinals_gone.add(ordinal)
        return frozenset(ordinals_gone)

    def _hub_answers(self, names: Sequence[str]) -> Iterator[JsonObject]:
        for snapshot in self._log.snapshots(self._index.number, [module_subject(name, HUB) for name in names]):
            reported = {} if snapshot is None else msgspec.json.decode(snapshot, type=_Reported).reported
            yield {name: reported[name] for name in EDGE_ANSWER if name in reported}

    def names(self, ordinals: Sequence[int]) -> list[str]:
        """The device ids of ordinals."""
        pages = {ordinal // PAGE_ITEMS for ordinal in ordinals} - self._ids.keys()
        if pages:
            ids = read_fields(self._projections, self._index.number, "ids", [str(page) for page in sorted(pages)])
            self._ids |= {int(page): msgspec.json.decode(data, type=list[str]) for page, data in ids.items()}
        return [self._ids[ordinal // PAGE_ITEMS][ordinal % PAGE_ITEMS] for ordinal in ordinals]

    # -- modules

    def modules(self, locations: Sequence[tuple[int, str]]) -> Iterator[QueryRow | None]:
        """The rows of (ordinal, module) pairs; `None` if the device or its module does not exist."""
        ordinals = list(dict.fromkeys(ordinal for ordinal, _ in locations))
        names = dict(zip(ordinals, self.names(ordinals), strict=True))
        snapshots = self._log.snapshots(self._index.number, [names[ordinal] for ordinal in ordinals])
        stored = zip(ordinals, snapshots, strict=True)
        documents = {ordinal: None if data is None else decode_device(data) for ordinal, data in stored}
        subjects = [module_subject(names[ordinal], module_id) for ordinal, module_id in locations]
        own = self._log.snapshots(self._index.number, subjects)
        for (ordinal, module_id), snapshot in zip(locations, own, strict=True):
            document = documents[ordinal]
            if document is None or document.retired:
                yield None
                continue
            module = None if snapshot is None else decode_module(snapshot)
            yield self._module(ordinal, names[ordinal], module_id, document, module)

    def _module(
        self, ordinal: int, device_id: str, module_id: str, document: DeviceDocument, module: ModuleDocument | None
    ) -> ModuleTwin | None:
        assignment = self._assignments.of(ordinal)
        sections = self._sections(assignment.configuration)
        if module_id not in modules_of(document, sections):
            return None
        assigned = Assigned(
            assignment,
            sections,
            self._since(ordinal),
            self._statuses(ordinal, assignment),
            self.deployments,
            configured=self._sections(assignment.module_part(module_id).configuration).get(MODULE),
            of_module=self._statuses(ordinal, assignment, module_id),
        )
        return built_module((device_id, module_id), document, module, assigned, times=self._times)

    def _since(self, ordinal: int) -> int:
        """The time of the assignment change that gave a device its assignment; -1 if it is unknown, or not read."""
        position = int.from_bytes(self._stored.arrays["moved_by"][ordinal * 4 : ordinal * 4 + 4], "little")
        if not self._times or not position:
            return -1
        if position not in self._assignment_change_times:
            at = self._projections.assignment_change_at(self._index.number, position)
            self._assignment_change_times[position] = -1 if at is None else at
        return self._assignment_change_times[position]

    def _statuses(self, ordinal: int, assignment: Assignment, twin: str = "") -> dict[str, bool]:
        return self._targeting.statuses(ordinal, assignment, twin) if self._needs_statuses else {}

    @cached_property
    def _stored(self) -> StoredPartition:
        number, arrays = self._index.number, ("assignment_of", "moved_by")
        return self._projections.read(number, hashes=("assignments",), arrays=arrays)

    @cached_property
    def _assignments(self) -> StoredAssignments:
        return StoredAssignments(self._stored)

    @cached_property
    def _targeting(self) -> Targeting:
        return Targeting(self._projections.read(self._index.number, hashes=NOT_APPLIED_HASHES))

    def _sections(self, digest: str) -> dict[str, JsonObject]:
        if digest not in self._sections_by_digest:
            data = read_fields(self._projections, self._index.number, "configurations", [digest]).get(digest)
            self._sections_by_digest[digest] = {} if data is None else msgspec.json.decode(data)
        return self._sections_by_digest[digest]

    @cached_property
    def deployments(self) -> dict[str, DeploymentDocument]:
        """The deployments that the rows of this partition can name."""
        assignments = self._assignments.by_number.values()
        names = {layer.id for assignment in assignments for layer in assignment.layers}
        names.update(self._targeting.names() if self._needs_statuses else ())
        return deployments_of(self._log, sorted(names))

    @property
    def _needs_statuses(self) -> bool:
        return self._whole or any(path[0] == "configurations" for path in self._paths)

    def all_module_ids(self) -> set[str]:
        """Every module that a device of the partition can have."""
        number = self._index.number
        stored = self._projections.read(number, hashes=("configurations",))
        configured = (module_ids(msgspec.json.decode(data)) for data in stored.hashes["configurations"].values())
        return set(SYSTEM_MODULES).union(*self._projections.field_names([number], "modules"), *configured)


class _Reported(msgspec.Struct, frozen=True):
    reported: dict[str, Any] = {}


def _holds(scope: Callable[[JsonObject], bool], device_id: str, stored: Stored) -> bool:
    document = device_in(stored)
    if document is None:
        return False
    # Only this part of a device's row can be named in a target condition.
    properties = {"reported": section(document.reported)}
    return scope({"deviceId": device_id, "tags": section(document.tags), "properties": properties})


def _overlaid(row: QueryRow, hub: JsonObject, *, plain: bool) -> QueryRow:
    """A device's row with the answers of its edge hub, for properties that the device does not report itself (DESIGN §7)."""
    properties = row["properties"]
    over = {**row, "properties": {**properties, "reported": {**hub, **properties["reported"]}}}
    return {**over, _PLAIN: row} if plain else over
