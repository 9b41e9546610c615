"""The deployments of a partition, with parsed conditions, in the order of their rank."""

import base64
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, assert_never

import msgspec
from msgspec import UNSET, UnsetType
from pyroaring import BitMap

from events.bitmaps import from_bytes
from events.canonical import JsonObject
from events.deployment.events import (
    Admission,
    AdmissionChanged,
    DeploymentCreated,
    DeploymentDeleted,
    DeploymentEvent,
    DeploymentScheduled,
    DeploymentUpdated,
    Ended,
    Everyone,
    Kept,
    NotStarted,
)
from events.envelope import Envelope
from events.fleet.column import ValueKey, value_key
from events.fleet.errors import CannotApply
from events.fleet.index import DEVICE_ID
from events.fleet.metric_plan import indexed, plan_of
from events.fleet.watch import Watch
from events.manifest.document import ContentKind, by_module, is_layered, kind_of
from events.query.condition import parse_condition
from events.query.errors import ConditionInvalid
from events.query.module_condition import EVERY_MODULE, MODULE_ID, is_module_condition, parse_module_condition
from events.query.select import Select, compile_select
from events.query.tree import Expression, Path, both, equalities, is_monotone, paths_of, renamed
from events.rollout.events import (
    Devices,
    DevicesAdmitted,
    RollbackBegan,
    RolloutCompleted,
    RolloutCreated,
    RolloutEvent,
)
from events.rollout.plan import RolloutPlan
from events.rollout.state import ROLLOUT

CONTENT_KEY = "modulesContent"
_FEW = 16


class Target(msgspec.Struct, frozen=True):
    """A compiled target condition: how it selects, and which changes can change its result.

    `values` are the (path, value) pairs of a monotone condition; `None` if any change of a path in `paths` can matter.
    `module` is the module of a condition for modules, which selects among the devices that have it. If it is `EVERY_MODULE`,
    `paths` and `values` have it in place of the module, and only `Deployment.target_in` can select.
    """

    select: Select
    paths: frozenset[Path]
    values: frozenset[tuple[Path, ValueKey]] | None
    module: str = ""


@lru_cache(maxsize=50_000)
def target_of(text: str, scope: str | UnsetType = UNSET, *, module: str = "") -> Target:
    """The compiled condition within a scope; with a `module`, a condition for any module for the modules of that name."""
    condition, about = _condition_of(text, module)
    if scope is not UNSET:
        condition = both(condition, parse_condition(scope))
    values = None
    if is_monotone(condition):
        pairs = equalities(condition)
        values = frozenset((path, value_key(literal)) for path, literal in pairs if path != MODULE_ID)
    return Target(compile_select(condition), paths_of(condition) - {MODULE_ID}, values, about)


def _condition_of(text: str, module: str) -> tuple[Expression, str]:
    """A condition over the paths of the index, and its module."""
    if not is_module_condition(text):
        return parse_condition(text), ""
    module_condition = parse_module_condition(text)
    about = module or module_condition.module_id
    condition = module_condition.of(module) if module else module_condition.condition
    apart = {DEVICE_ID, MODULE_ID}
    return renamed(condition, lambda path: path if path in apart else indexed(path, about)[0]), about


class Phased(msgspec.Struct, frozen=True, eq=False):
    """The admission during a rollout: these devices of the partition, as far as they are targeted."""

    members: BitMap


class Deployment(msgspec.Struct, frozen=True, eq=False):
    """A deployment at a point in time. `created` is the fleet position of its creation: later ones win ties.

    It targets the devices for which its condition and its scope are true.
    `content` has paths and values by module; kind DEVICE, for the device's own twin, has the one module `DEVICE`, and kind
    MODULE the one module `MODULE`, which stands for the modules of its condition.
    """

    id: str
    created: int
    priority: int
    layered: bool
    condition: str
    admission: Admission | Phased
    content: JsonObject
    metrics: dict[str, str]
    scope: str | UnsetType = UNSET
    kind: ContentKind = ContentKind.EDGE
    rolled: frozenset[Path] = frozenset()
    """The properties that its rollout's plan names."""

    @property
    def rank(self) -> tuple[int, int]:
        """The sort key: the highest rank wins (DESIGN §7: of equal priorities, the deployment created last)."""
        return (self.priority, self.created)

    @property
    def target(self) -> Target:
        """The compiled condition within the scope."""
        return target_of(self.condition, self.scope)

    @property
    def module(self) -> str:
        """The module of kind MODULE, or `EVERY_MODULE`; empty if it targets no device, and for other kinds."""
        return self.target.module

    def target_in(self, module: str) -> Target:
        """As `target` for the modules of one name."""
        target = self.target
        return target_of(self.condition, self.scope, module=module) if target.module == EVERY_MODULE else target


TargetingEvent = DeploymentEvent | RolloutEvent
"""The events that can change the targeted or admitted devices of a deployment; events of rollouts count for the deployment."""


def deployment_of(subject: str) -> str:
    """The deployment of a subject, which is a deployment or its rollout."""
    return subject.removeprefix(ROLLOUT)


def targeting_events(events: Iterable[Envelope[Any]]) -> Iterator[tuple[int, str, TargetingEvent]]:
    """The fleet events that `Deployments` applies, as (position, deployment, event)."""
    for envelope in events:
        if isinstance(envelope.event, TargetingEvent):
            yield envelope.position, deployment_of(envelope.subject), envelope.event


def paths_in(event: TargetingEvent) -> frozenset[Path]:
    """The properties that a deployment names from an event on; it names those of its scope from its creation on."""
    match event:
        case DeploymentCreated():
            return target_of(event.target_condition, event.scope).paths | metric_paths(event.metrics)
        case DeploymentUpdated():
            return target_of(event.target_condition).paths | metric_paths(event.metrics)
        case RolloutCreated(plan):
            return plan_paths(plan)
        case _:
            return frozenset()


def plan_paths(plan: RolloutPlan) -> frozenset[Path]:
    """The properties that a rollout reads: those of its phases' conditions, and the tag of its spread."""
    conditions = [parse_condition(phase.condition) for phase in plan.phases if phase.condition is not None]
    if plan.spread is not None:
        conditions.append(parse_condition(f"{plan.spread.tag} = ''"))
    return frozenset().union(*map(paths_of, conditions)) - {DEVICE_ID}


class DeploymentChange(msgspec.Struct, frozen=True, eq=False):
    """A deployment before and after an event; `None` before its creation and after its deletion."""

    before: Deployment | None
    after: Deployment | None


def metric_paths(metrics: Mapping[str, str]) -> frozenset[Path]:
    """The properties that metrics read from the index."""
    plans = map(plan_of, metrics.values())
    return frozenset().union(*(plan.paths for plan in plans if plan is not None))


class Deployments:
    """The replay of the fleet's log for targeting, in the partition of a number."""

    def __init__(self, number: int = 0) -> None:
        self._number = number
        self.by_id: dict[str, Deployment] = {}
        self._rank()
        # It is never reset: the changes of a past configuration still count in the twin's `$version`.
        self.has_had_own = False
        """Whether there ever was a configuration of devices' own twins."""
        self.watch: Watch[str] = Watch()
        self.names: Counter[Path] = Counter()

    def apply(self, events: Iterable[tuple[int, str, TargetingEvent]]) -> dict[str, DeploymentChange]:
        """Apply (position, deployment id, event); returns each changed deployment before and after all of them.

        Raises:
            CannotApply: an event does not follow from the state, which is unusable afterwards.
        """
        changes, events = dict[str, DeploymentChange](), list(events)
        created = (event for _, _, event in events if isinstance(event, DeploymentCreated))
        self.has_had_own |= any(kind_of(event.content) is ContentKind.DEVICE for event in created)
        for name, new in self._evolved(events).items():
            old = self.by_id.pop(name, None)
            changes[name] = DeploymentChange(old, new)
            self.names.subtract(_named(old))
            self.names.update(_named(new))
            if old is not None:
                self.watch.remove(name, old.target.paths, old.target.values)
            if new is not None:
                self.by_id[name] = new
                self.watch.add(name, new.target.paths, new.target.values)
        if changes:
            self.names = +self.names
            self._rank_changed(changes.values())
        return changes

    def _evolved(self, events: Iterable[tuple[int, str, TargetingEvent]]) -> dict[str, Deployment | None]:
        """Each deployment that the events are about, after all of them."""
        after: dict[str, Deployment | None] = {}
        for position, name, event in events:
            old = after[name] if name in after else self.by_id.get(name)
            after[name] = self._evolve(old, event, deployment_id=name, position=position)
        return after

    def _rank(self) -> None:
        self.phased = sum(isinstance(deployment.admission, Phased) for deployment in self.by_id.values())
        ranked = sorted(self.by_id.values(), key=lambda deployment: deployment.rank)
        edge = [deployment for deployment in ranked if deployment.kind is ContentKind.EDGE]
        self.layers_ascending = [deployment for deployment in edge if deployment.layered]
        self.bases_descending = [deployment for deployment in reversed(edge) if not deployment.layered]
        self.own_ascending = [deployment for deployment in ranked if deployment.kind is ContentKind.DEVICE]
        self.of_modules_ascending = [deployment for deployment in ranked if deployment.kind is ContentKind.MODULE]

    def _rank_changed(self, changes: Collection[DeploymentChange]) -> None:
        """As `_rank` after these changes."""
        # Sorting thousands of deployments takes milliseconds for each partition, and most batches change one.
        if len(changes) > _FEW:
            self._rank()
            return
        for change in changes:
            for deployment, is_added in ((change.before, False), (change.after, True)):
                if deployment is None:
                    continue
                self.phased += (1 if is_added else -1) * isinstance(deployment.admission, Phased)
                name, key = _list_of(deployment)
                # A new list: others share the old one.
                deployments = list(getattr(self, name))
                at = bisect_left(deployments, key(deployment), key=key)
                deployments[at : at + (not is_added)] = [deployment] if is_added else []
                setattr(self, name, deployments)

    @property
    def has_phased(self) -> bool:
        """Whether a deployment admits devices in phases."""
        return self.phased > 0

    def adopt(self, other: "Deployments") -> None:
        """Become an independent copy of another one of the same partition."""
        self.by_id = dict(other.by_id)
        # `apply` replaces these lists and never changes them, so both can share them.
        self.layers_ascending, self.bases_descending = other.layers_ascending, other.bases_descending
        self.own_ascending, self.of_modules_ascending = other.own_ascending, other.of_modules_ascending
        self.phased, self.has_had_own = other.phased, other.has_had_own
        self.watch.adopt(other.watch)
        self.names = Counter(other.names)

    def translate(self, other: "Deployments", events: Sequence[tuple[int, str, TargetingEvent]]) -> None:
        """Become a copy of one of another partition; `events` are all events that it has applied."""
        self.adopt(other)
        phased = {name for name, deployment in self.by_id.items() if isinstance(deployment.admission, Phased)}
        if phased:
            # Only the admitted devices differ between partitions, so only phased deployments are replayed.
            here = Deployments(self._number)
            here.apply((position, name, event) for position, name, event in events if name in phased)
            self.by_id |= {name: here.by_id[name] for name in phased}
            self._rank()

    def named_paths(self) -> set[Path]:
        """Every tag or reported path that a deployment names."""
        return set(self.names)

    def paths_named_after(self, events: Iterable[tuple[int, str, TargetingEvent]]) -> set[Path]:
        """The result of `named_paths` after further events, without applying them.

        Raises:
            CannotApply: as `apply`.
        """
        names = Counter(self.names)
        for name, new in self._evolved(events).items():
            names.subtract(_named(self.by_id.get(name)))
            names.update(_named(new))
        return set(+names)

    def _evolve(
        self, old: Deployment | None, event: TargetingEvent, *, deployment_id: str, position: int
    ) -> Deployment | None:
        replace = msgspec.structs.replace
        if isinstance(event, DeploymentCreated):
            content, condition = event.content, event.target_condition
            of_content = (is_layered(content), condition, event.admission, by_module(content), event.metrics)
            new = Deployment(deployment_id, position, event.priority, *of_content, event.scope, kind_of(content))
            return _readable(new, position)
        if old is None:
            # A rollout is deleted with its deployment.
            if isinstance(event, RolloutEvent):
                return None
            raise CannotApply(position, deployment_id, "the deployment does not exist", fleet=True)
        match event:
            case DeploymentUpdated(condition, priority, metrics=metrics):
                return _readable(replace(old, priority=priority, condition=condition, metrics=metrics), position)
            case AdmissionChanged(Kept(devices)):
                return replace(old, admission=Phased(self.members(devices)), rolled=frozenset())
            case AdmissionChanged(admission):
                return replace(old, admission=admission)
            case DeploymentDeleted():
                return None
            case RolloutCreated(plan):
                return replace(old, rolled=plan_paths(plan))
            # A change of the admission by hand overrides the rollout.
            case DevicesAdmitted(_, devices) if isinstance(old.admission, NotStarted | Phased):
                admitted = old.admission.members if isinstance(old.admission, Phased) else BitMap()
                return replace(old, admission=Phased(admitted | self.members(devices)))
            case RolloutCompleted() if isinstance(old.admission, NotStarted | Phased):
                return replace(old, admission=Everyone(), rolled=frozenset())
            case RollbackBegan():
                return replace(old, admission=Ended(), rolled=frozenset())
            case DeploymentScheduled():
                return old
            case _:
                if isinstance(event, RolloutEvent):
                    return old
                assert_never(event)

    def members(self, devices: Devices) -> BitMap:
        """The ordinals of the devices in this partition."""
        data = devices.get(str(self._number))
        return BitMap() if data is None else from_bytes(base64.b64decode(data))


def _ascending(deployment: Deployment) -> tuple[int, int]:
    return deployment.rank


def _descending(deployment: Deployment) -> tuple[int, int]:
    priority, created = deployment.rank
    return -priority, -created


def _list_of(deployment: Deployment) -> tuple[str, Callable[[Deployment], tuple[int, int]]]:
    """The list of `Deployments` that a deployment is in, and its sort key."""
    match deployment.kind:
        case ContentKind.EDGE if deployment.layered:
            return "layers_ascending", _ascending
        case ContentKind.EDGE:
            return "bases_descending", _descending
        case ContentKind.DEVICE:
            return "own_ascending", _ascending
        case _:
            return "of_modules_ascending", _ascending


def _named(deployment: Deployment | None) -> frozenset[Path]:
    """The paths that the index must have for a deployment: those of its condition, its metrics and its rollout."""
    if deployment is None:
        return frozenset()
    return (deployment.target.paths - {DEVICE_ID}) | metric_paths(deployment.metrics) | deployment.rolled


def _readable(deployment: Deployment, position: int) -> Deployment:
    try:
        target_of(deployment.condition, deployment.scope)
    except ConditionInvalid as error:
        raise CannotApply(position, deployment.id, f"its condition cannot be read: {error}", fleet=True) from error
    return deployment
