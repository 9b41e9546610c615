"""Why a device has its configuration: the verdict on each deployment, with its reason.

The rules are those of the workers, called and not repeated, so that an explanation cannot contradict an assignment: `holds`
for conditions, the stored assignment for what applies, `in_the_way` for what does not (the list of deployments not applied uses
it too), and `conflicts` for the winner of a property.
"""

from collections.abc import Iterator, Mapping, Sequence

from msgspec import UNSET
from msgspec.structs import replace

from events.canonical import Json, JsonObject
from events.deployment.events import Everyone
from events.explain import verdict
from events.explain.judged_condition import Judged, judge
from events.explain.verdict import LoggedDeployment, Obstacle, Reason, Verdict, Weighed
from events.fleet.assignments import PINNED, Assignment, AssignmentStatus, Layer
from events.manifest.document import DEVICE, MODULE, ContentKind, by_module
from events.manifest.merge import conflicts, merge
from events.properties import is_secret
from events.query.condition import parse_condition
from events.query.evaluate import twin_row
from events.query.module_condition import EVERY_MODULE, can_be_for, parse_module_condition
from events.secrets.references import mask
from events.stored_projection.not_applied import in_the_way, ranks_of, targets_of
from events.stored_projection.stored_partition import DeploymentRank, StoredPartition


def weigh(
    subject: verdict.ExplainedDevice,
    standpoint: verdict.Standpoint,
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
    first = _FIRST.get(weighed.verdict, 3)
    return first, weighed.rank, -weighed.priority, -weighed.created, weighed.id, weighed.module


class _Assessor:
    def __init__(
        self, subject: verdict.ExplainedDevice, standpoint: verdict.Standpoint, stored: StoredPartition | None
    ) -> None:
        self._subject, self._at = subject, standpoint
        self._ranks: dict[Layer, DeploymentRank] = {} if stored is None else ranks_of(stored)
        self._layers = {layer.id: layer for layer in self._ranks}
        self._targeting: dict[str, set[str]] = {}
        if stored is not None and standpoint.ordinal is not None:
            for layer, sets in targets_of(stored).items():
                if layer == self._layers.get(layer.id):
                    modules = {module for module, members in sets.items() if standpoint.ordinal in members}
                    self._targeting[layer.id] = modules

    def of(self, name: str, logged: LoggedDeployment) -> Iterator[Weighed]:
        document, subject = logged.document, self._subject
        if document.kind is not ContentKind.MODULE:
            yield self._against(name, logged, "", judge(parse_condition(document.target_condition), subject.twin))
            return
        # The empty condition of a configuration for modules targets no module.
        condition = parse_module_condition(document.target_condition) if document.target_condition.strip() else None
        # A module can be gone from the device and still be targeted in the projections, as long as workers are behind.
        modules = set(self._targeting.get(name, ()))
        if condition is not None:
            selectable = subject.modules if condition.module_id == EVERY_MODULE else {condition.module_id}
            modules |= {module for module in subject.modules if can_be_for(module) and module in selectable}
        if not modules:
            module = "" if condition is None or condition.module_id == EVERY_MODULE else condition.module_id
            reason = Reason.CONDITION if condition is None else Reason.NO_MODULE
            yield replace(self._plain(name, logged, module), obstacle=Obstacle(reason), holds=False)
        for module in sorted(modules):
            twin = subject.modules.get(module, twin_row(subject.twin["deviceId"], {}, {}))
            judged = None if condition is None else judge(condition.of(module), twin)
            yield self._against(name, logged, module, judged)

    def _plain(self, name: str, logged: LoggedDeployment, module: str) -> Weighed:
        document, layer = logged.document, self._layers.get(name)
        created = 0 if layer is None else layer.created
        return Weighed(name, created, document.kind, document.priority, document.layered, Verdict.NOT_TARGETED, module)

    def _against(self, name: str, logged: LoggedDeployment, module: str, condition: Judged | None) -> Weighed:
        document, layer = logged.document, self._layers.get(name)
        scope = judge(parse_condition("*" if document.scope is UNSET else document.scope), self._subject.twin)
        is_suited = document.kind is not ContentKind.EDGE or self._subject.edge
        # Three-valued: one false term decides, and only without one does an unknown term leave the whole unknown.
        truths = {is_suited, scope.truth, condition is not None and condition.truth}
        holds = False if False in truths else None if None in truths else True
        targeted = module in self._targeting.get(name, ())
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
            if holds:
                missed = Obstacle(Reason.NOT_APPLIED_YET)
                return replace(plain, verdict=Verdict.UNDECIDED, obstacle=missed, then=obstacle)
            reason = Reason.NOT_EDGE if scope.truth is True else Reason.OUT_OF_SCOPE
            if condition is None or condition.truth is not True:
                reason = Reason.CONDITION
            return replace(plain, obstacle=Obstacle(reason), then=obstacle)
        if obstacle is not None:
            return replace(plain, verdict=Verdict.NOT_APPLIED, obstacle=obstacle)
        if document.kind is not ContentKind.EDGE or layer is None:
            return replace(plain, verdict=Verdict.APPLIES)
        rank = self._at.assignment.stack.index(layer)
        return replace(plain, verdict=Verdict.LAYER if rank else Verdict.BASE, rank=rank)


# -- contested properties


def contests(assignment: Assignment, contents: Mapping[str, JsonObject]) -> tuple[verdict.Contest, ...]:
    """Returns the properties that several deployments of a device set to different values, with the winner; secrets show as `***`.

    `contents` has the contents of the assignment's deployments; deleted deployments are missing there and skipped.
    """
    contested: list[verdict.Contest] = []
    stacks = [(part.stack, module) for module, part in sorted(assignment.module_parts.items())]
    stacks.insert(0, (assignment.own_part.stack, DEVICE))
    if assignment.status not in PINNED and assignment.status is not AssignmentStatus.UNMANAGED:
        stacks.insert(0, (assignment.stack, ""))
    for stack, module in stacks:
        contents_by_module = [(layer.id, by_module(contents[layer.id])) for layer in stack if layer.id in contents]
        # Content for modules (MODULE) counts as content of the module.
        named = [(name, {module: each[MODULE]} if MODULE in each else each) for name, each in contents_by_module]
        for conflict in conflicts(named):
            leaf = tuple(conflict.path.split(".")[2:])
            values = {name: mask(_set_by(content, conflict.module, leaf)) for name, content in named}
            winner = verdict.Setter(conflict.winner, values[conflict.winner])
            losers = tuple(verdict.Setter(name, values[name]) for name in conflict.losers)
            contested.append(verdict.Contest(conflict.module, conflict.path, winner, losers))
    return tuple(contested)


def _set_by(content: JsonObject, module: str, leaf: Sequence[str]) -> Json:
    """The value that a content sets a property to; an object if it sets properties below that."""
    value: Json = merge({}, [content]).get(module, {})
    for name in leaf:
        # A secret reference is an object too: without this, a path could reach into it.
        if not isinstance(value, dict) or is_secret(value):
            return None
        value = value.get(name)
    return value
