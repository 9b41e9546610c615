"""The rows that a query looks at, built from documents and projections in bulk, with no more in them than is asked for."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from events.canonical import JsonObject
from events.deployment.state import DeploymentDocument
from events.device.identifiers import SYSTEM_MODULES, module_subject
from events.device.personal import HIDDEN
from events.device.state import DeviceDocument, ModuleDocument, begun_module, decode_device, decode_module, section
from events.device.twin import (
    Configured,
    DeviceTwin,
    ModuleTwin,
    PropertyAuthor,
    configurations_of,
    device_twin,
    module_twin,
)
from events.fleet.assignments import NO_ASSIGNMENT, Assignment, Layer
from events.fleet.configuration import HUB, module_ids
from events.fleet.index import REPORTED
from events.fleet.metric_plan import EDGE_ANSWER
from events.fleet.packed import PAGE_ITEMS
from events.log.device_documents import device_in
from events.log.fleet_documents import deployments_of
from events.log.port import Log, Stored
from events.manifest.document import DEVICE, MODULE, by_module
from events.manifest.merge import contributes, last_setter
from events.projection_store.port import ProjectionSelection, ProjectionStore
from events.projection_store.query_index import PartitionIndex
from events.properties import masked, merge_patch
from events.query.evaluate import Assignment as QueryRow
from events.query.tree import Path, Query, paths
from events.stored_projection.partition_reader import Targeting, assignment_numbers, assignments_of

_PLAIN = "$twin"
_LIGHT: dict[str, Any] = {
    "generation": (int, 0),
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
    """Rows of one partition, for one query."""

    def __init__(
        self, log: Log, projections: ProjectionStore, index: PartitionIndex, query: Query, *, overlaid: bool = True
    ) -> None:
        """`overlaid` says whether a device shows what its hub answers (DESIGN §7)."""
        self._log, self._projections, self._index = log, projections, index
        asked = paths(query)
        whole = not query.select
        self._asked, self._whole = asked, whole
        shown = {item.path for item in query.select} | set(query.group_by)
        self._shown_only_ids = not whole and shown <= {("deviceId",), None}
        self._overlaid = overlaid and any(
            path[:2] == REPORTED and path[2:3] and path[2] in EDGE_ANSWER for path in asked
        )
        self._times = whole or any("$metadata" in path for path in asked)
        self._ids: dict[int, list[str]] = {}

    def shown(self, row: QueryRow) -> QueryRow:
        """A row as `SELECT *` shows it: the twin, without what it is only read for."""
        plain: QueryRow = row.get(_PLAIN, row)
        return plain

    # -- devices

    def devices(self, ordinals: Sequence[int], *, sure: bool) -> Iterator[QueryRow | None]:
        """The rows of some devices; `None` for those that are gone. Of `sure` ones only what is shown matters."""
        names = self.names(ordinals)
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
            for path in self._asked
        )

    @cached_property
    def _wanted(self) -> frozenset[str]:
        """The sections of a document that are asked for."""
        roots = {path[0] if path[0] == "tags" else path[1] for path in self._asked if path[0] in {"tags", "properties"}}
        return frozenset(roots)

    @cached_property
    def _decoder(self) -> msgspec.json.Decoder[Any]:
        """Reads of a document just what is asked for."""
        fields = [(name, *of) for name, of in _LIGHT.items() if name not in _SECTIONS or name in self._wanted]
        return msgspec.json.Decoder(msgspec.defstruct("Light", fields))

    @cached_property
    def _asks_plain(self) -> bool:
        """Whether anything of a device is asked for that is not in a section."""
        return self._overlaid or any(path[0] not in {"deviceId", "tags", "properties"} for path in self._asked)

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
        wanted = self._wanted
        if "tags" in wanted and document.tags:
            row["tags"] = masked(document.tags, mask=HIDDEN)
        properties = row["properties"] = {}
        if "desired" in wanted:
            properties["desired"] = document.desired
            document.desired["$version"] = document.desired_version
        if "reported" in wanted:
            properties["reported"] = document.reported
            document.reported["$version"] = document.reported_version
        if self._index.has_own:
            self._lay_own(row, ordinal)
        return row

    def _lay_own(self, row: JsonObject, ordinal: int) -> None:
        """Lay what configurations give the device's own twin over a light row."""
        own, desired = self._row(ordinal), row["properties"].get("desired")
        if desired is not None:
            given = self._sections(own.own_part.configuration).get(DEVICE, {})
            version = desired["$version"] + own.own_part.version - 1
            row["properties"]["desired"] = {**merge_patch(desired, given), "$version": version}
        statuses = self._own_standings(ordinal, own)
        if statuses:
            row["configurations"] = configurations_of(statuses)

    def _full(self, ordinal: int, device_id: str, snapshot: bytes) -> DeviceTwin | None:
        document = decode_device(snapshot)
        if document.retired:
            return None
        if not self._index.has_own:
            return device_twin(device_id, document)
        row = self._row(ordinal)
        sections, statuses = self._sections(row.own_part.configuration), self._own_standings(ordinal, row)
        assigned = Assigned(row, sections, self._since(ordinal), statuses, self.deployments)
        return built_device(device_id, document, assigned)

    def gone(self, ordinals: Sequence[int], scope: Callable[[JsonObject], bool], logs: Sequence[Log]) -> frozenset[int]:
        """Those of some devices that are in a scope no more by the documents of some logs, whatever the projections know of it.

        Whoever was registered again between two of the logs is somebody else.
        """
        names = self.names(ordinals)
        found = set()
        for ordinal, name, *stored in zip(ordinals, names, *(log.load(names) for log in logs), strict=True):
            if len({one.head.generation for one in stored}) > 1 or not all(_holds(scope, name, one) for one in stored):
                found.add(ordinal)
        return frozenset(found)

    def _hub_answers(self, names: Sequence[str]) -> Iterator[JsonObject]:
        for snapshot in self._log.snapshots(self._index.number, [module_subject(name, HUB) for name in names]):
            reported = {} if snapshot is None else msgspec.json.decode(snapshot, type=_Reported).reported
            yield {name: reported[name] for name in EDGE_ANSWER if name in reported}

    def names(self, ordinals: Sequence[int]) -> list[str]:
        """The device ids of some ordinals."""
        pages = {ordinal // PAGE_ITEMS for ordinal in ordinals} - self._ids.keys()
        if pages:
            wanted = ProjectionSelection(fields=(("ids", tuple(str(page) for page in sorted(pages))),))
            kept = self._projections.read(self._index.number, wanted).hashes["ids"]
            self._ids |= {int(page): msgspec.json.decode(data, type=list[str]) for page, data in kept.items()}
        return [self._ids[ordinal // PAGE_ITEMS][ordinal % PAGE_ITEMS] for ordinal in ordinals]

    # -- modules

    def modules(self, wanted: Sequence[tuple[int, str]]) -> Iterator[QueryRow | None]:
        """The rows of some (ordinal, module); `None` where a device or its module is gone."""
        ordinals = list(dict.fromkeys(ordinal for ordinal, _ in wanted))
        names = dict(zip(ordinals, self.names(ordinals), strict=True))
        snapshots = self._log.snapshots(self._index.number, [names[ordinal] for ordinal in ordinals])
        documents = {
            ordinal: None if snapshot is None else decode_device(snapshot)
            for ordinal, snapshot in zip(ordinals, snapshots, strict=True)
        }
        subjects = [module_subject(names[ordinal], module_id) for ordinal, module_id in wanted]
        own = self._log.snapshots(self._index.number, subjects)
        for (ordinal, module_id), snapshot in zip(wanted, own, strict=True):
            document = documents[ordinal]
            if document is None or document.retired:
                yield None
                continue
            module = None if snapshot is None else decode_module(snapshot)
            yield self._module(ordinal, names[ordinal], module_id, document, module)

    def _module(
        self, ordinal: int, device_id: str, module_id: str, document: DeviceDocument, module: ModuleDocument | None
    ) -> ModuleTwin | None:
        row = self._row(ordinal)
        sections = self._sections(row.configuration)
        if module_id not in modules_of(document, sections):
            return None
        assigned = Assigned(
            row,
            sections,
            self._since(ordinal),
            self._standings(ordinal, row),
            self.deployments,
            given=self._sections(row.module_part(module_id).configuration).get(MODULE),
            of_module=self._targeting.statuses(ordinal, row, module_id) if self._needs_statuses else {},
        )
        return built_module((device_id, module_id), document, module, assigned, times=self._times)

    def _since(self, ordinal: int) -> int:
        moved = self._assignments.moved_by
        return self._assignment_change_at(int(moved[ordinal])) if self._times and ordinal < len(moved) else -1

    def _standings(self, ordinal: int, row: Assignment) -> dict[str, bool]:
        return self._targeting.statuses(ordinal, row) if self._needs_statuses else {}

    def _own_standings(self, ordinal: int, row: Assignment) -> dict[str, bool]:
        return self._targeting.statuses(ordinal, row, DEVICE) if self._needs_statuses else {}

    def _row(self, ordinal: int) -> Assignment:
        assignment_of = self._assignments.assignment_of
        return (
            self._assignments.rows.get(int(assignment_of[ordinal]), NO_ASSIGNMENT)
            if ordinal < len(assignment_of)
            else NO_ASSIGNMENT
        )

    @cached_property
    def _assignments(self) -> "_Assignments":
        kept = self._projections.read(
            self._index.number, ProjectionSelection(hashes=("assignments",), arrays=("assignment_of", "moved_by"))
        )
        return _Assignments(
            assignments_of(kept),
            assignment_numbers(kept),
            np.frombuffer(kept.arrays["moved_by"], dtype=np.uint32),
        )

    @cached_property
    def _targeting(self) -> Targeting:
        return Targeting(
            self._projections.read(self._index.number, ProjectionSelection(hashes=("deployments", "targets")))
        )

    def _sections(self, digest: str) -> dict[str, JsonObject]:
        known = self._known_sections
        if digest not in known:
            found = self._projections.read(
                self._index.number, ProjectionSelection(fields=(("configurations", (digest,)),))
            )
            data = found.hashes["configurations"].get(digest)
            known[digest] = {} if data is None else msgspec.json.decode(data)
        return known[digest]

    @cached_property
    def _known_sections(self) -> dict[str, dict[str, JsonObject]]:
        return {}

    def _assignment_change_at(self, position: int) -> int:
        if position not in self._assignment_change_times:
            found = self._projections.assignment_change_at(self._index.number, position) if position else None
            self._assignment_change_times[position] = -1 if found is None else found
        return self._assignment_change_times[position]

    @cached_property
    def _assignment_change_times(self) -> dict[int, int]:
        return {}

    @cached_property
    def deployments(self) -> dict[str, DeploymentDocument]:
        """The deployments that rows of this partition name."""
        rows = self._assignments.rows.values()
        names = {layer.id for row in rows for layer in row.layers}
        names.update(self._targeting.names() if self._needs_statuses else ())
        return deployments_of(self._log, sorted(names))

    @property
    def _needs_statuses(self) -> bool:
        return self._whole or any(path[0] == "configurations" for path in self._asked)

    def all_module_ids(self) -> set[str]:
        """Every module that a device of the partition could have."""
        number = self._index.number
        stored = self._projections.read(number, ProjectionSelection(hashes=("configurations",))).hashes[
            "configurations"
        ]
        configured = (module_ids(msgspec.json.decode(data)) for data in stored.values())
        return set(SYSTEM_MODULES).union(self._projections.field_names(number, "modules"), *configured)


class _Assignments(msgspec.Struct, frozen=True):
    rows: dict[int, Assignment]
    assignment_of: Any
    moved_by: Any


class _Reported(msgspec.Struct, frozen=True):
    reported: dict[str, Any] = {}


def _holds(scope: Callable[[JsonObject], bool], device_id: str, stored: Stored) -> bool:
    document = device_in(stored)
    return document is not None and scope(_plain(device_id, document))


def modules_of(document: DeviceDocument, sections: dict[str, JsonObject]) -> set[str]:
    """The modules of a device: those made by hand, and of an edge device the system modules and its configuration's."""
    return set(document.modules) | (module_ids(sections) | set(SYSTEM_MODULES) if document.edge else set())


class Assigned(msgspec.Struct, frozen=True):
    """What the projections know of a device: its assignment since a time, and the deployments that target it, with documents."""

    assignment: Assignment = NO_ASSIGNMENT
    sections: dict[str, JsonObject] = {}
    since: int = -1
    statuses: dict[str, bool] = {}
    known: dict[str, DeploymentDocument] = {}
    given: JsonObject | None = None
    """What configurations of the module in question give it, and what each that targets it is to it."""
    of_module: dict[str, bool] = {}


def built_module(
    subject: tuple[str, str],
    document: DeviceDocument,
    module: ModuleDocument | None,
    assigned: Assigned,
    *,
    times: bool = True,
) -> ModuleTwin:
    """A module's twin, as the projections and documents make it (contract/hub.md §1.6, §1.7)."""
    device_id, module_id = subject
    row, known = assigned.assignment, assigned.known
    own = module if module is not None and module.generation == document.generation else begun_module(document)
    configured = Configured(
        assigned.sections.get(module_id),
        row.versions.get(module_id, 0),
        assigned.since,
        _author_in(row.stack, known, module_id),
        {
            name: applied and name in known and contributes(by_module(known[name].content), module_id)
            for name, applied in assigned.statuses.items()
        }
        | assigned.of_module,
    )
    part = row.module_part(module_id)
    over = Configured(assigned.given, part.version, assigned.since, _author_in(part.stack, known, MODULE))
    identity = document.modules.get(module_id)
    return module_twin(device_id, module_id, own, configured, over=over, identity=identity, times=times)


def _plain(device_id: str, document: DeviceDocument) -> JsonObject:
    """As much of a device's row as a target condition can name."""
    reported = {"reported": section(document.reported)}
    return {"deviceId": device_id, "tags": section(document.tags), "properties": reported}


def built_device(device_id: str, document: DeviceDocument, assigned: Assigned) -> DeviceTwin:
    """A device's twin, as the projections and its document make it; `assigned` has what is for its own twin alone."""
    own = assigned.assignment.own_part
    configured = Configured(
        assigned.sections.get(DEVICE),
        own.version,
        assigned.since,
        _author_in(own.stack, assigned.known, DEVICE),
        assigned.statuses,
    )
    return device_twin(device_id, document, configured)


def _author_in(
    layers: Sequence[Layer], known: dict[str, DeploymentDocument], module_id: str
) -> Callable[[Path], PropertyAuthor | None]:
    """Tells who of a stack was the last to set a property of a module."""
    stack = [layer.id for layer in layers if layer.id in known]
    contents = [by_module(known[name].content) for name in stack]

    def author(path: Path) -> PropertyAuthor | None:
        setter = last_setter(contents, module_id, path)
        return None if setter < 0 else PropertyAuthor(stack[setter], known[stack[setter]].updated_at)

    return author


def _overlaid(row: QueryRow, hub: JsonObject, *, plain: bool) -> QueryRow:
    """A device's row with what its hub answers, where it says nothing itself (DESIGN §7)."""
    properties = row["properties"]
    over = {**row, "properties": {**properties, "reported": {**hub, **properties["reported"]}}}
    return {**over, _PLAIN: row} if plain else over
