"""Random histories of a small fleet, and a plain model of what follows from them."""

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from events.deployment.events import (
    AdmissionChanged,
    Admitted,
    DeploymentCreated,
    DeploymentDeleted,
    DeploymentEvent,
    DeploymentUpdated,
    Ended,
    Everyone,
    NotStarted,
)
from events.device.events import (
    ConfigurationSet,
    DeviceEvent,
    DeviceRegistered,
    DeviceRetired,
    DeviceUpdated,
    ModuleCreated,
    ModuleDeleted,
    PropertiesReported,
    TwinPatched,
    TwinReplaced,
)
from events.envelope import Envelope, Principal, PrincipalKind
from events.manifest.merge import merge
from events.properties import merge_patch
from events.query.condition import parse_condition
from events.query.evaluate import QueryRow, holds, twin_row
from events.query.parse import parse as parse_query

AUTHOR = Principal(PrincipalKind.SYSTEM, "tests")
DEVICES = tuple(f"d{number}" for number in range(6))

_scalars = st.sampled_from(["prod", "test", "", True, False, 0, 1, 1.0, 2, 1.5, -3])
_values = st.one_of(
    _scalars,
    st.just(None),
    st.just(["a"]),
    st.fixed_dictionaries({}, optional={"floor": st.one_of(_scalars, st.none()), "context": _scalars}),
)
patches = st.fixed_dictionaries({}, optional={"env": _values, "site": _values, "n": _values})
_literals = st.sampled_from(["'prod'", "'test'", "true", "false", "0", "1", "1.0", "2", "1.5", "''"])
_properties = st.sampled_from(
    [
        *("tags.env", "tags.env", "tags.n", "tags.n", "tags.site.floor", "tags.site.context", "tags.site"),
        *("properties.reported.env", "properties.reported.site.floor"),
    ]
)
_ops = st.sampled_from(["=", "=", "!=", "<>", "<", "<=", ">", ">="])
_fitting = st.builds(
    lambda pair, op: f"{pair[0]} {op} {pair[1]}",
    st.sampled_from(
        [
            *(("tags.env", "'prod'"), ("tags.env", "'test'"), ("tags.n", "1"), ("tags.n", "1.5"), ("tags.n", "2")),
            *(("tags.site.floor", "1"), ("tags.site.floor", "2"), ("properties.reported.env", "'prod'")),
        ]
    ),
    _ops,
)
_atoms = st.one_of(
    *[_fitting] * 6,
    st.builds(lambda path, literal: f"{path} = {literal}", _properties, _literals),
    st.builds(
        lambda path, op, literal: f"{path} {op} {literal}",
        _properties,
        st.sampled_from(["!=", "<>", "<", "<=", ">", ">="]),
        st.sampled_from(["'prod'", "'test'", "1", "1.5", "0", "2"]),
    ),
    st.builds(lambda path: f"is_defined({path})", _properties),
    st.sampled_from(["deviceId = 'd1'", "deviceId > 'd3'", "deviceId <= 'd2'", "NOT deviceId = 'd4'"]),
)
_combined = st.recursive(
    _atoms,
    lambda children: st.one_of(
        st.builds(lambda one, other: f"({one}) AND ({other})", children, children),
        *[st.builds(lambda one, other: f"({one}) OR ({other})", children, children)] * 3,
        st.builds(lambda one, other: f"({one}) NOT ({other})", children, children),
        st.builds(lambda one: f"NOT ({one})", children),
    ),
    max_leaves=4,
)
conditions = st.integers(0, 11).flatmap(lambda number: st.sampled_from(["*", "*", ""]) if number == 7 else _combined)
_beginnings = st.fixed_dictionaries(
    {
        "env": st.sampled_from(["prod", "test", "prod", "test", True, 1]),
        "n": st.sampled_from([0, 1, 1.0, 2, 1.5, 2, True, "prod", None]),
        "site": st.fixed_dictionaries(
            {"floor": st.sampled_from([0, 1, 2, 1.5, "prod", None])}, optional={"context": _scalars}
        ),
    }
)
_modules = st.sampled_from(["a", "b"])


_own_values = st.one_of(
    st.integers(0, 2), st.fixed_dictionaries({}, optional={"y": st.integers(0, 2), "z": st.just(1)})
)
_own_contents = st.one_of(
    *[
        st.dictionaries(
            st.sampled_from(["properties.desired.x", "properties.desired.x.y", "properties.desired.w"]), _own_values
        )
    ]
    * 5,
    st.builds(lambda value: {"properties.desired": {"x": value}}, _own_values),
    # Two of these together are over the limit of a twin.
    st.builds(lambda name: {f"properties.desired.{name}": "x" * 20_000}, st.sampled_from(["long", "longer"])),
)


_module_atoms = st.one_of(
    st.builds(
        "{} {} {}".format,
        st.sampled_from(
            [
                *("properties.reported.s", "properties.reported.s", "properties.reported.n"),
                *("properties.reported.s.deep", "tags.s", "tags.s", "tags.n", "tags.s.deep"),
            ]
        ),
        st.sampled_from(["=", "=", "=", "!=", "<", ">="]),
        st.sampled_from(["'x'", "'x'", "'y'", "1", "2"]),
    ),
    st.sampled_from(
        [
            *("properties.reported.s in ['x', 1]", "is_defined(properties.reported.n)", "properties.reported.n"),
            *("deviceId > 'd1'", "deviceId != 'd2'", "2 > properties.reported.n", "deviceId nin ['d0', 'd3']"),
            *("tags.s in ['x', 1]", "is_defined(tags.n)", "tags.n", "is_defined(tags.s)"),
        ]
    ),
)
_module_ids = st.sampled_from(
    [
        "moduleId = 'a'",
        "moduleId != 'a'",
        "moduleId > 'a'",
        "'b' >= moduleId",
        "moduleId in ['a', 'c']",
        "moduleId nin ['b']",
    ]
)


def _joined(atoms: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.recursive(
        atoms,
        lambda inner: st.one_of(
            inner.map("not ({})".format),
            st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda three: "({}) {} ({})".format(*three)),
        ),
        max_leaves=3,
    )


_module_wheres = _joined(_module_atoms)
module_conditions = st.one_of(
    st.builds("FROM devices.modules WHERE moduleId = '{}'".format, _modules),
    *[st.builds("from Devices.Modules where moduleId = '{}' AND ({})".format, _modules, _module_wheres)] * 3,
    st.builds("FROM devices.modules WHERE {} and moduleId = '{}'".format, _module_atoms, _modules),
    *[_joined(st.one_of(_module_atoms, _module_ids)).map("FROM devices.modules WHERE {}".format)] * 3,
    st.just(""),
)
_module_reports = st.fixed_dictionaries(
    {},
    optional={
        "s": st.sampled_from(["x", "x", "y", 1, True, None, {"deep": "x"}, {"deep": None}]),
        "n": st.sampled_from([1, 2, 1.0, True, "x", None, ["x"]]),
    },
)
_module_events = st.one_of(
    st.builds(PropertiesReported, _module_reports),
    st.builds(TwinPatched, st.one_of(_module_reports, st.none())),
    st.builds(lambda tags: TwinReplaced(tags, {}), _module_reports),
)


@st.composite
def contents(draw: st.DrawFn, own_of_ten: int = 2, modules_of_ten: int = 1) -> dict[str, Any]:
    module = draw(_modules)
    kind = draw(st.integers(1, 10))
    if kind > 10 - own_of_ten:
        return {"deviceContent": draw(_own_contents)}
    if kind <= modules_of_ten:
        return {"moduleContent": draw(_own_contents)}
    if draw(st.booleans()):
        modules = {module: {"status": draw(st.sampled_from(["running", "stopped"])), "v": draw(st.integers(0, 2))}}
        agent = {"systemModules": {"edgeAgent": {}, "edgeHub": {}}, "modules": modules if draw(st.booleans()) else {}}
        return {"modulesContent": {"$edgeAgent": {"properties.desired": agent}, "$edgeHub": {"properties.desired": {}}}}
    layer: dict[str, Any] = {"$edgeAgent": {f"properties.desired.modules.{module}": {"status": "running"}}}
    layer[module] = {
        draw(st.sampled_from(["properties.desired", "properties.desired.x"])): {"k": draw(st.integers(0, 2))}
    }
    return {"modulesContent": layer}


_closed_or_some = st.one_of(
    st.just(NotStarted()),
    st.just(Ended()),
    st.sets(st.sampled_from(DEVICES)).map(lambda ids: Admitted(tuple(sorted(ids)))),
)
admissions = st.integers(0, 7).flatmap(lambda number: _closed_or_some if number == 5 else st.just(Everyone()))
_wide = st.sampled_from(["*", "tags.env = 'prod' OR tags.env = 'test'", "tags.n >= 0", "deviceId >= 'd1'"])
_targets = st.one_of(_wide, conditions)
_scopes = st.integers(0, 7).flatmap(lambda rare: conditions if rare == 7 else st.just(UNSET))
_agent_reports = st.builds(
    lambda version, code, status: {
        "lastDesiredVersion": version,
        "lastDesiredStatus": {"code": code},
        "systemModules": {"edgeAgent": {"runtimeStatus": "running"}, "edgeHub": {"runtimeStatus": "running"}},
        "modules": {"a": {"runtimeStatus": status}},
    },
    st.integers(1, 4),
    st.sampled_from([200, 200, 406, 500]),
    st.sampled_from(["running", "stopped", "failed"]),
)


class History:
    """Two streams that follow the rules of decide: events of one partition, and events of the fleet."""

    def __init__(self) -> None:
        self.partition: list[Envelope[DeviceEvent]] = []
        self.fleet: list[Envelope[Any]] = []
        self._versions: dict[str, int] = {}

    def device(self, subject: str, event: DeviceEvent) -> None:
        self.partition.append(self._envelope(self.partition, subject, event))

    def deployment(self, subject: str, event: DeploymentEvent) -> None:
        self.fleet.append(self._envelope(self.fleet, subject, event))

    def _envelope(self, stream: Sequence[Any], subject: str, event: Any) -> Envelope[Any]:
        version = self._versions[subject] = self._versions.get(subject, 0) + 1
        position = len(stream) + 1
        return Envelope(position, subject, version, 1000 * position, AUTHOR, "", event)


@st.composite
def histories(
    draw: st.DrawFn, *, events: int = 30, own_of_ten: int = 2, modules_of_ten: int = 1, by_hand: bool = False
) -> History:
    history, live, deployed = History(), set(), {}
    made: set[tuple[str, str]] = set()
    kinds = (own_of_ten, modules_of_ten)
    for device in DEVICES:
        if draw(st.integers(0, 5)):
            live.add(device)
            history.device(device, DeviceRegistered())
            history.device(device, TwinPatched(tags=_compact(draw(_beginnings))))
            if draw(st.booleans()):
                history.device(device, PropertiesReported(patch=draw(_beginnings)))
    for _ in range(draw(st.integers(4, 8))):
        _draw_deployment_event(draw, history, deployed, kinds)
    for _ in range(draw(st.integers(5, events))):
        if draw(st.integers(0, 2)) == 0:
            _draw_deployment_event(draw, history, deployed, kinds)
        elif modules_of_ten and live and draw(st.integers(0, 2)) == 0:
            _draw_module_event(draw, history, live, made)
        else:
            _draw_device_event(draw, history, live)
            made = {(device, module) for device, module in made if device in live}
        if by_hand and live and draw(st.integers(0, 3)) == 0:
            content = draw(contents(own_of_ten=0, modules_of_ten=0))
            history.device(draw(st.sampled_from(sorted(live))), ConfigurationSet(content))
    return history


def _draw_module_event(draw: st.DrawFn, history: History, live: set[str], made: set[tuple[str, str]]) -> None:
    device, module = draw(st.sampled_from(sorted(live))), draw(st.one_of(_modules, _modules, st.just("c")))
    if draw(st.integers(0, 2)):
        history.device(f"{device}/{draw(st.sampled_from([module] * 4 + ['$edgeHub']))}", draw(_module_events))
    elif (device, module) in made:
        made.discard((device, module))
        history.device(device, ModuleDeleted(module))
    else:
        made.add((device, module))
        history.device(device, ModuleCreated(module))


def _draw_deployment_event(
    draw: st.DrawFn, history: History, deployed: dict[str, bool], kinds: tuple[int, int]
) -> None:
    name = draw(st.sampled_from("abcdefgh"))
    priority = draw(st.integers(0, 3))
    if name not in deployed:
        content = draw(contents(*kinds))
        deployed[name] = "moduleContent" in content
        history.deployment(
            name,
            DeploymentCreated(
                content=content,
                target_condition=draw(module_conditions if deployed[name] else _targets),
                priority=priority,
                admission=draw(admissions),
                scope=draw(_scopes),
            ),
        )
        return
    match draw(st.integers(0, 5)):
        case 0:
            del deployed[name]
            history.deployment(name, DeploymentDeleted())
        case 1 | 2 | 3:
            condition = draw(module_conditions if deployed[name] else _targets)
            history.deployment(
                name, DeploymentUpdated(target_condition=condition, priority=priority, labels={}, metrics={})
            )
        case _:
            history.deployment(name, AdmissionChanged(admission=draw(admissions)))


def _parent_of(name: str) -> str | UnsetType:
    """A parent for some devices; nothing is drawn, as parents decide nothing about deployments."""
    return (UNSET, "ms-azure-iot-edge://d0-1", "ms-azure-iot-edge://elsewhere-2")[sum(name.encode()) % 3]


def _draw_device_event(draw: st.DrawFn, history: History, live: set[str]) -> None:
    device = draw(st.sampled_from(DEVICES))
    if device not in live:
        live.add(device)
        history.device(device, DeviceRegistered(edge=draw(st.integers(0, 4)) > 0, parent_scope=_parent_of(device)))
        return
    match draw(st.integers(0, 9)):
        case 0:
            live.discard(device)
            history.device(device, DeviceRetired())
        case 1:
            edge, enabled = draw(st.integers(0, 3)) > 0, draw(st.booleans())
            parent = _parent_of(device if enabled else f"{device}-other")
            history.device(device, DeviceUpdated(edge=edge, enabled=enabled, parent_scope=parent))
        case 2:
            history.device(device, TwinReplaced(tags=_compact(draw(patches)), desired={}))
        case 3 | 4:
            history.device(device, PropertiesReported(patch=draw(patches)))
        case 5 | 6:
            history.device(f"{device}/$edgeAgent", PropertiesReported(patch=draw(_agent_reports)))
        case _:
            history.device(device, TwinPatched(tags=draw(patches)))


def _compact(patch: dict[str, Any]) -> dict[str, Any]:
    return merge_patch({}, patch)


class ModelTwin(msgspec.Struct):
    """A device as a plain document, what the reference evaluator reads."""

    device_id: str
    edge: bool
    tags: dict[str, Any]
    reported: dict[str, Any]


def row_of(twin: ModelTwin) -> QueryRow:
    """A twin as conditions are evaluated on it."""
    return twin_row(twin.device_id, twin.tags, twin.reported)


class ModuleTwin(msgspec.Struct):
    """What a module says, and what is said of it."""

    tags: dict[str, Any] = {}
    reported: dict[str, Any] = {}


class Model:
    """The plain reading of a history: no index, no sets, device by device."""

    def __init__(self, history: History) -> None:
        self.twins: dict[str, ModelTwin] = {}
        self.by_hand: set[tuple[str, str]] = set()
        self.module_twins: dict[tuple[str, str], ModuleTwin] = {}
        self.deployments: dict[str, tuple[int, DeploymentCreated]] = {}
        for envelope in history.partition:
            self._device(envelope.subject, envelope.event)
        for envelope in history.fleet:
            self._deployment(envelope.position, envelope.subject, envelope.event)

    def _device(self, subject: str, event: DeviceEvent) -> None:
        match event:
            case DeviceRegistered():
                self.twins[subject] = ModelTwin(subject, event.edge, {}, {})
            case DeviceUpdated():
                self.twins[subject].edge = event.edge
            case DeviceRetired():
                del self.twins[subject]
                self.by_hand = {one for one in self.by_hand if one[0] != subject}
                self.module_twins = {one: twin for one, twin in self.module_twins.items() if one[0] != subject}
            case ModuleCreated(module):
                self.by_hand.add((subject, module))
            case ModuleDeleted(module):
                self.by_hand.discard((subject, module))
                self.module_twins.pop((subject, module), None)
            case PropertiesReported() | TwinPatched() | TwinReplaced() if "/" in subject:
                device, _, module = subject.partition("/")
                self._module(self.module_twins.setdefault((device, module), ModuleTwin()), event)
            case TwinPatched():
                self.twins[subject].tags = merge_patch(self.twins[subject].tags, event.tags or {})
            case TwinReplaced():
                self.twins[subject].tags = event.tags
            case PropertiesReported() if "/" not in subject:
                self.twins[subject].reported = merge_patch(self.twins[subject].reported, event.patch)
            case _:
                pass

    def _module(self, twin: "ModuleTwin", event: DeviceEvent) -> None:
        match event:
            case PropertiesReported(patch):
                twin.reported = merge_patch(twin.reported, patch)
            case TwinPatched(tags=tags) if tags is not None:
                twin.tags = merge_patch(twin.tags, tags)
            case TwinReplaced(tags=tags):
                twin.tags = merge_patch({}, tags)
            case _:
                pass

    def _deployment(self, position: int, name: str, event: DeploymentEvent) -> None:
        match event:
            case DeploymentCreated():
                self.deployments[name] = (position, event)
            case DeploymentUpdated():
                created, old = self.deployments[name]
                new = msgspec.structs.replace(old, target_condition=event.target_condition, priority=event.priority)
                self.deployments[name] = (created, new)
            case AdmissionChanged():
                created, old = self.deployments[name]
                self.deployments[name] = (created, msgspec.structs.replace(old, admission=event.admission))
            case DeploymentDeleted():
                del self.deployments[name]

    def targets(self, name: str) -> set[str]:
        deployment = self.deployments[name][1]
        texts = [deployment.target_condition, *([] if deployment.scope is UNSET else [deployment.scope])]
        own = "deviceContent" in deployment.content
        return {
            twin.device_id
            for twin in self.twins.values()
            if (twin.edge or own) and all(holds(parse_condition(text), row_of(twin)) is True for text in texts)
        }

    def targets_of_module(self, name: str, module_id: str, having: set[str]) -> set[str]:
        """The devices whose module one targets, of those that have the module: by the query that its condition is."""
        deployment = self.deployments[name][1]
        if not deployment.target_condition:
            return set()
        where = parse_query(f"select * {deployment.target_condition}").where
        scope = "*" if deployment.scope is UNSET else deployment.scope
        return {
            device
            for device in having
            if holds(where, self._module_row(device, module_id)) is True
            and holds(parse_condition(scope), row_of(self.twins[device])) is True
        }

    def _module_row(self, device_id: str, module_id: str) -> dict[str, Any]:
        twin = self.module_twins.get((device_id, module_id), ModuleTwin())
        shown = {"deviceId": device_id, "moduleId": module_id, "properties": {"reported": twin.reported}}
        return {**shown, "tags": twin.tags} if twin.tags else shown

    def module_stack(self, device_id: str, module_id: str, having: set[str]) -> tuple[str, ...]:
        """Every configuration that targets a module of one device, in the order in which they are laid."""
        ranked = [
            (deployment.priority, created, name)
            for name, (created, deployment) in self.deployments.items()
            if "moduleContent" in deployment.content
            and device_id in self.targets_of_module(name, module_id, having)
            and _admits(deployment.admission, device_id)
        ]
        return tuple(name for _, _, name in sorted(ranked))

    def stack(self, device_id: str) -> tuple[str, ...]:
        """Base and layers of one device, by the words of contract/hub.md §3.3."""
        ranked = []
        for name, (created, deployment) in self.deployments.items():
            if "modulesContent" not in deployment.content:
                continue
            if device_id in self.targets(name) and _admits(deployment.admission, device_id):
                layered = "properties.desired" not in deployment.content["modulesContent"]["$edgeAgent"]
                ranked.append((deployment.priority, created, name, layered))
        ranked.sort()
        bases = [one for one in ranked if not one[3]]
        if not bases:
            return ()
        base = bases[-1]
        newest = {priority: name for priority, _, name, layered in ranked if layered and priority > base[0]}
        return (base[2], *(newest[priority] for priority in sorted(newest)))

    def own_stack(self, device_id: str) -> tuple[str, ...]:
        """Every configuration that targets one device's own twin, in the order in which they are laid."""
        ranked = [
            (deployment.priority, created, name)
            for name, (created, deployment) in self.deployments.items()
            if "deviceContent" in deployment.content
            and device_id in self.targets(name)
            and _admits(deployment.admission, device_id)
        ]
        return tuple(name for _, _, name in sorted(ranked))

    def own_section(self, stack: tuple[str, ...], member: str = "deviceContent") -> dict[str, Any]:
        """What these configurations make of a twin: property by property, the last to set one wins."""
        section: dict[str, Any] = {}
        for name in stack:
            paths = self.deployments[name][1].content[member]
            for path in sorted(paths, key=len):
                *above, last = path.split(".")[1:]
                holder: dict[str, Any] = {"desired": section}
                node = holder
                for one in above:
                    node[one] = node = node[one] if isinstance(node.get(one), dict) else {}
                node[last] = msgspec.json.decode(msgspec.json.encode(paths[path]))
                section = holder["desired"]
        return section

    def sections(self, stack: tuple[str, ...]) -> dict[str, Any]:
        contents = [self.deployments[name][1].content["modulesContent"] for name in stack]
        return merge(contents[0], contents[1:])


def _admits(admission: object, device_id: str) -> bool:
    match admission:
        case Everyone():
            return True
        case Admitted(device_ids):
            return device_id in device_ids
        case _:
            return False
