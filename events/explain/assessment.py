"""Why a device has what it has: every deployment weighed by what decides, with the reason of each.

No rule is written here a second time. Whether a condition is true says `evaluate`; what is part of what a device has, its assignment
row; what stands in the way of the others, `in_the_way`, which answers for the list of those passed over, too; who wins a
property, `conflicts`.
"""

from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from events.canonical import Json, JsonObject
from events.deployment.facts import Everyone
from events.explain.judged_condition import Judged, judge
from events.explain.verdict import (
    Contest,
    Known,
    Obstacle,
    Reason,
    Setter,
    Standpoint,
    Subject,
    Twin,
    Verdict,
    Weighed,
    scope_of,
)
from events.fleet.rows import PINNED, Layer, Row, Standing
from events.manifest.document import DEVICE, MODULE, Kind, by_module
from events.manifest.merge import conflicts, merge
from events.properties import is_secret
from events.query.condition import parse_condition
from events.query.module_condition import EVERY_MODULE, ModuleCondition, can_be_for, parse_module_condition
from events.secrets.references import mask
from events.views.kept import Kept, Place
from events.views.reading import in_the_way, places_of, targets_of


def weigh(
    subject: Subject, standpoint: Standpoint, kept: Kept | None, deployments: Mapping[str, Known]
) -> tuple[Weighed, ...]:
    """Every deployment against a device and each of its modules that it could be for; those that apply first, then by priority.

    `kept` holds PASSED_OVER_HASHES as of the standpoint, and is `None` where nothing is to be read of the views.
    """
    weighing = _Weighing(subject, standpoint, kept)
    weighed = [each for name, known in deployments.items() for each in weighing.of(name, known)]
    return tuple(sorted(weighed, key=_order))


_FIRST = {Verdict.BASE: 0, Verdict.LAYER: 1, Verdict.APPLIES: 2}


def _order(weighed: Weighed) -> tuple[int, int, int, int, str, str]:
    return (
        _FIRST.get(weighed.verdict, 3),
        weighed.place,
        -weighed.priority,
        -weighed.created,
        weighed.id,
        weighed.module,
    )


class _Weighing:
    def __init__(self, subject: Subject, standpoint: Standpoint, kept: Kept | None) -> None:
        self._subject, self._at = subject, standpoint
        self._places: dict[Layer, Place] = {} if kept is None else places_of(kept)
        self._layers = {layer.id: layer for layer in self._places}
        ordinal = standpoint.ordinal
        self._targeting: dict[Layer, set[str]] = {}
        if kept is not None and ordinal is not None:
            for layer, sets in targets_of(kept).items():
                self._targeting[layer] = {module for module, members in sets.items() if ordinal in members}

    def of(self, name: str, known: Known) -> Iterator[Weighed]:
        document = known.document
        if document.kind is not Kind.MODULE:
            yield self._against(name, known, "", _judged(document.target_condition, self._subject.twin))
            return
        condition = module_condition(document.target_condition)
        modules = self._modules(name, condition)
        if not modules:
            yield self._without(name, known, condition)
        for module in modules:
            twin = self._subject.modules.get(module, Twin(self._subject.twin.device_id))
            judged = None if condition is None else judge(condition.of(module), twin.row)
            yield self._against(name, known, module, judged)

    def _modules(self, name: str, condition: ModuleCondition | None) -> list[str]:
        """Those that the device has and a condition can be about, and those that the views have all the same."""
        layer = self._layers.get(name)
        targeted = set() if layer is None else self._targeting.get(layer, set())
        if condition is None:
            return sorted(targeted)
        named = condition.module_id
        can_be = {name for name in self._subject.modules if can_be_for(name) and named in {name, EVERY_MODULE}}
        return sorted(can_be | targeted)

    def _without(self, name: str, known: Known, condition: ModuleCondition | None) -> Weighed:
        """One for modules, of which the device has none."""
        module = "" if condition is None or condition.module_id == EVERY_MODULE else condition.module_id
        reason = Reason.CONDITION if condition is None else Reason.NO_MODULE
        return replace(self._plain(name, known, module), obstacle=Obstacle(reason), holds=False)

    def _against(self, name: str, known: Known, module: str, condition: Judged | None) -> Weighed:
        scope = _judged(scope_of(known.document), self._subject.twin)
        layer = self._layers.get(name)
        targeted = layer is not None and module in self._targeting.get(layer, set())
        holds = self._holds(known, condition, scope)
        plain = replace(
            self._plain(name, known, module), targeted=targeted, holds=holds, condition=condition, scope=scope
        )
        passed = None
        if layer is not None and self._at.ordinal is not None:
            passed = in_the_way(layer, self._at.row, self._places, module)
        obstacle = None if passed is None else Obstacle(Reason.of(passed.why), passed.by or None)
        if not targeted:
            if obstacle == Obstacle(Reason.NOT_ADMITTED) and layer is not None and self._is_for_all(layer):
                obstacle = None
            missed = self._missed(condition, scope, holds)
            verdict = Verdict.UNDECIDED if missed.reason is Reason.NOT_FOLDED else Verdict.NOT_TARGETED
            return replace(plain, verdict=verdict, obstacle=missed, then=obstacle)
        if obstacle is not None:
            return replace(plain, verdict=Verdict.PASSED_OVER, obstacle=obstacle)
        if known.document.kind is not Kind.EDGE or layer is None:
            return replace(plain, verdict=Verdict.APPLIES)
        place = self._at.row.stack.index(layer)
        return replace(plain, verdict=Verdict.LAYER if place else Verdict.BASE, place=place)

    def _is_for_all(self, layer: Layer) -> bool:
        return self._places[layer].admission == Everyone.__name__

    def _holds(self, known: Known, condition: Judged | None, scope: Judged) -> bool | None:
        is_suited = known.document.kind is not Kind.EDGE or self._subject.edge
        truths = {is_suited, scope.truth, condition is not None and condition.truth}
        return False if False in truths else None if None in truths else True

    @staticmethod
    def _missed(condition: Judged | None, scope: Judged, holds: bool | None) -> Obstacle:  # noqa: FBT001 - a truth
        if condition is None or condition.truth is not True:
            return Obstacle(Reason.CONDITION)
        if scope.truth is not True:
            return Obstacle(Reason.OUT_OF_SCOPE)
        return Obstacle(Reason.NOT_FOLDED if holds is True else Reason.NOT_EDGE)

    def _plain(self, name: str, known: Known, module: str) -> Weighed:
        document, layer = known.document, self._layers.get(name)
        created = 0 if layer is None else layer.created
        return Weighed(name, created, document.kind, document.priority, document.layered, Verdict.NOT_TARGETED, module)


def _judged(text: str, twin: Twin) -> Judged:
    return judge(parse_condition(text), twin.row)


def module_condition(text: str) -> ModuleCondition | None:
    """The condition of a configuration for modules; `None` for the empty one, which targets nobody."""
    return parse_module_condition(text) if text.strip() else None


# -- who sets what


def contests(row: Row, contents: Mapping[str, JsonObject]) -> tuple[Contest, ...]:
    """Where parts of what a device has set one property to different values, by module and path, with who wins; secrets show as `***`.

    `contents` has the contents of the deployments that the row names, as far as they are still there.
    """
    contested: list[Contest] = []
    for stack, module in stacks_of(row):
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


def stacks_of(row: Row) -> Iterator[tuple[tuple[Layer, ...], str]]:
    """What lies over each other, ascending: a device's modules (``), its own twin, and each module by its name."""
    if row.standing not in PINNED and row.standing is not Standing.UNMANAGED:
        yield row.stack, ""
    yield row.own_part.stack, DEVICE
    for module, part in sorted(row.module_parts.items()):
        yield part.stack, module


def _for(content: JsonObject, module: str) -> JsonObject:
    """What a content sets, by module; the one for modules, of the module that it is laid over."""
    modules = by_module(content)
    return {module: modules[MODULE]} if MODULE in modules else modules


def _set_by(content: JsonObject, module: str, leaf: Sequence[str]) -> Json:
    """What a content sets a property to; an object, where what it sets lies deeper."""
    value: Json = merge({}, [content]).sections.get(module, {})
    for name in leaf:
        if not isinstance(value, dict) or is_secret(value):
            return None
        value = value.get(name)
    return value
