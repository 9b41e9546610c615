"""Why a device has its configuration: the verdict on each deployment, with its reason.

The rules are those of the workers, called and not repeated, so that an explanation cannot contradict an assignment: `holds`
for conditions, the stored assignment for what applies, `in_the_way` for what does not (the list of deployments not applied uses
it too), and `conflicts` for the winner of a property.
"""

from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from events.canonical import Json, JsonObject
from events.deployment.events import Everyone
from events.explain.judged_condition import Judged, judge
from events.explain.verdict import (
    Contest,
    ExplainedDevice,
    JudgedTwin,
    LoggedDeployment,
    Obstacle,
    Reason,
    Setter,
    Standpoint,
    Verdict,
    Weighed,
    scope_of,
)
from events.fleet.assignments import PINNED, Assignment, AssignmentStatus, Layer
from events.manifest.document import DEVICE, MODULE, ContentKind, by_module
from events.manifest.merge import conflicts, merge
from events.properties import is_secret
from events.query.condition import parse_condition
from events.query.module_condition import EVERY_MODULE, ModuleCondition, can_be_for, parse_module_condition
from events.secrets.references import mask
from events.stored_projection.not_applied import in_the_way, ranks_of, targets_of
from events.stored_projection.stored_partition import DeploymentRank, StoredPartition


def weigh(
    subject: ExplainedDevice,
    standpoint: Standpoint,
    stored: StoredPartition | None,
    deployments: Mapping[str, LoggedDeployment],
) -> tuple[Weighed, ...]:
    """Returns the verdict on each deployment for a device and each module it can apply to: applied deployments first, then by priority.

    `stored` holds NOT_APPLIED_HASHES as of the standpoint; `None` ignores the projections.
    """
    assessor = _Assessor(subject, standpoint, stored)
    weighed = [each for name, logged in deployments.items() for each in assessor.of(name, logged)]
    return tuple(sorted(weighed, key=_order))


_FIRST = {Verdict.BASE: 0, Verdict.LAYER: 1, Verdict.APPLIES: 2}


def _order(weighed: Weighed) -> tuple[int, int, int, int, str, str]:
    return (
        _FIRST.get(weighed.verdict, 3),
        weighed.rank,
        -weighed.priority,
        -weighed.created,
        weighed.id,
        weighed.module,
    )


class _Assessor:
    def __init__(self, subject: ExplainedDevice, standpoint: Standpoint, stored: StoredPartition | None) -> None:
        self._subject, self._at = subject, standpoint
        self._ranks: dict[Layer, DeploymentRank] = {} if stored is None else ranks_of(stored)
        self._layers = {layer.id: layer for layer in self._ranks}
        ordinal = standpoint.ordinal
        self._targeting: dict[Layer, set[str]] = {}
        if stored is not None and ordinal is not None:
            for layer, sets in targets_of(stored).items():
                self._targeting[layer] = {module for module, members in sets.items() if ordinal in members}

    def of(self, name: str, logged: LoggedDeployment) -> Iterator[Weighed]:
        document = logged.document
        if document.kind is not ContentKind.MODULE:
            yield self._against(name, logged, "", _judged(document.target_condition, self._subject.twin))
            return
        condition = module_condition(document.target_condition)
        modules = self._modules(name, condition)
        if not modules:
            yield self._without(name, logged, condition)
        for module in modules:
            twin = self._subject.modules.get(module, JudgedTwin(self._subject.twin.device_id))
            judged = None if condition is None else judge(condition.of(module), twin.row)
            yield self._against(name, logged, module, judged)

    def _modules(self, name: str, condition: ModuleCondition | None) -> list[str]:
        """The modules of the device that a condition can match, and the modules that the projections list as targeted."""
        layer = self._layers.get(name)
        targeted = set() if layer is None else self._targeting.get(layer, set())
        if condition is None:
            return sorted(targeted)
        named = condition.module_id
        # A module can be gone from the device and still be targeted in the projections, as long as workers are behind.
        can_be = {name for name in self._subject.modules if can_be_for(name) and named in {name, EVERY_MODULE}}
        return sorted(can_be | targeted)

    def _without(self, name: str, logged: LoggedDeployment, condition: ModuleCondition | None) -> Weighed:
        """The verdict on a deployment for modules where the device has no matching module."""
        module = "" if condition is None or condition.module_id == EVERY_MODULE else condition.module_id
        reason = Reason.CONDITION if condition is None else Reason.NO_MODULE
        return replace(self._plain(name, logged, module), obstacle=Obstacle(reason), holds=False)

    def _against(self, name: str, logged: LoggedDeployment, module: str, condition: Judged | None) -> Weighed:
        scope = _judged(scope_of(logged.document), self._subject.twin)
        layer = self._layers.get(name)
        targeted = layer is not None and module in self._targeting.get(layer, set())
        holds = self._holds(logged, condition, scope)
        plain = replace(
            self._plain(name, logged, module), targeted=targeted, holds=holds, condition=condition, scope=scope
        )
        not_applied = None
        if layer is not None and self._at.ordinal is not None:
            not_applied = in_the_way(layer, self._at.assignment, self._ranks, module)
        obstacle = None if not_applied is None else Obstacle(Reason[not_applied.why.name], not_applied.by or None)
        if not targeted:
            # `in_the_way` answers NOT_ADMITTED where it knows no other obstacle; a deployment for everyone admits every device.
            is_for_all = layer is not None and self._ranks[layer].admission == Everyone.__name__
            if obstacle == Obstacle(Reason.NOT_ADMITTED) and is_for_all:
                obstacle = None
            missed = self._missed(condition, scope, holds)
            verdict = Verdict.UNDECIDED if missed.reason is Reason.NOT_APPLIED_YET else Verdict.NOT_TARGETED
            return replace(plain, verdict=verdict, obstacle=missed, then=obstacle)
        if obstacle is not None:
            return replace(plain, verdict=Verdict.NOT_APPLIED, obstacle=obstacle)
        if logged.document.kind is not ContentKind.EDGE or layer is None:
            return replace(plain, verdict=Verdict.APPLIES)
        rank = self._at.assignment.stack.index(layer)
        return replace(plain, verdict=Verdict.LAYER if rank else Verdict.BASE, rank=rank)

    def _holds(self, logged: LoggedDeployment, condition: Judged | None, scope: Judged) -> bool | None:
        is_suited = logged.document.kind is not ContentKind.EDGE or self._subject.edge
        # Three-valued: one false term decides, and only without one does an unknown term leave the whole unknown.
        truths = {is_suited, scope.truth, condition is not None and condition.truth}
        return False if False in truths else None if None in truths else True

    @staticmethod
    def _missed(condition: Judged | None, scope: Judged, holds: bool | None) -> Obstacle:  # noqa: FBT001 - a truth
        if condition is None or condition.truth is not True:
            return Obstacle(Reason.CONDITION)
        if scope.truth is not True:
            return Obstacle(Reason.OUT_OF_SCOPE)
        return Obstacle(Reason.NOT_APPLIED_YET if holds is True else Reason.NOT_EDGE)

    def _plain(self, name: str, logged: LoggedDeployment, module: str) -> Weighed:
        document, layer = logged.document, self._layers.get(name)
        created = 0 if layer is None else layer.created
        return Weighed(name, created, document.kind, document.priority, document.layered, Verdict.NOT_TARGETED, module)


def _judged(text: str, twin: JudgedTwin) -> Judged:
    return judge(parse_condition(text), twin.row)


def module_condition(text: str) -> ModuleCondition | None:
    """Returns the condition of a configuration for modules; `None` for the empty condition, which targets no module."""
    return parse_module_condition(text) if text.strip() else None


# -- contested properties


def contests(assignment: Assignment, contents: Mapping[str, JsonObject]) -> tuple[Contest, ...]:
    """Returns the properties that several deployments of a device set to different values, with the winner; secrets show as `***`.

    `contents` has the contents of the assignment's deployments; deleted deployments are missing there and skipped.
    """
    contested: list[Contest] = []
    for stack, module in stacks_of(assignment):
        named = [(layer.id, _for(contents[layer.id], module)) for layer in stack if layer.id in contents]
        for conflict in conflicts(named):
            leaf = tuple(conflict.path.split(".")[2:])
            values = {name: mask(_set_by(content, conflict.module, leaf)) for name, content in named}
            contested.append(
                Contest(
                    conflict.module,
                    conflict.path,
                    Setter(conflict.winner, values[conflict.winner]),
                    tuple(Setter(name, values[name]) for name in conflict.losers),
                )
            )
    return tuple(contested)


def stacks_of(assignment: Assignment) -> Iterator[tuple[tuple[Layer, ...], str]]:
    """Yields each stack of layers, lowest first: of the manifest (name ``), of the device's own twin, and of each module by name."""
    if assignment.status not in PINNED and assignment.status is not AssignmentStatus.UNMANAGED:
        yield assignment.stack, ""
    yield assignment.own_part.stack, DEVICE
    for module, part in sorted(assignment.module_parts.items()):
        yield part.stack, module


def _for(content: JsonObject, module: str) -> JsonObject:
    """What a content sets, by module; content for modules (MODULE) counts as content of `module`."""
    modules = by_module(content)
    return {module: modules[MODULE]} if MODULE in modules else modules


def _set_by(content: JsonObject, module: str, leaf: Sequence[str]) -> Json:
    """The value that a content sets a property to; an object if it sets properties below that."""
    value: Json = merge({}, [content]).get(module, {})
    for name in leaf:
        # A secret reference is an object too: without this, a path could reach into it.
        if not isinstance(value, dict) or is_secret(value):
            return None
        value = value.get(name)
    return value
