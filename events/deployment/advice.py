"""What an operator should know about a deployment that is accepted: layers that do not apply, conditions that match nobody."""

from collections.abc import Iterable, Mapping

import msgspec

from events.deployment.state import DeploymentDocument
from events.manifest.document import ContentKind
from events.manifest.validate import problems
from events.number_text import counted
from events.query.condition import lint
from events.query.errors import QueryInvalid
from events.query.parse import parse as parse_query
from events.query.text import printed_path
from events.query.tree import Path, QuerySource, paths_of


class Advice(msgspec.Struct, frozen=True):
    """Something that is allowed and probably not meant. `about` names the other deployment, if it is one."""

    rule: str
    message: str
    about: str = ""


def advice(
    name: str, document: DeploymentDocument, other_deployments: Iterable[tuple[str, DeploymentDocument]]
) -> tuple[Advice, ...]:
    """Advice on one deployment as it stands beside the others.

    Of the content it names what the manifest's rules warn of, and what a creation without full validation let pass.

    Raises:
        ConditionInvalid: the condition cannot be read (one that was accepted can).
    """
    result = []
    of_module = document.kind is ContentKind.MODULE
    if not document.target_condition.strip():
        all_of_them = (
            "FROM devices.modules WHERE moduleId = 'm' targets all modules m" if of_module else "* targets all"
        )
        result.append(Advice("empty-condition", f"{name} has no target condition, so it targets nobody; {all_of_them}"))
    result += [
        Advice("implicit-and", f"{name}: column {note.column}: {note.message}")
        for note in (() if of_module else lint(document.target_condition))
    ]
    result += [
        Advice("metric-never-matches", f"{name}: metric {metric}: {why}")
        for metric, text in document.metrics.items()
        if (why := _in_vain(name, document, text))
    ]
    result += [Advice(problem.rule, f"{name}: {problem}") for problem in problems(document.content)]
    result += outranked(name, document, other_deployments)
    return tuple(result)


def targets_nothing(name: str) -> Advice:
    """Its condition is true for no device now; one that joins or changes can be targeted later."""
    return Advice(
        "targets-nothing",
        f"{name} targets 0 devices now; compare its condition with the tags and reported properties of a device",
    )


_TYPE_NAMES = {"string": "text", "number": "a number", "boolean": "a boolean"}


def another_type(name: str, path: Path, kind: str, devices_by_kind: Mapping[str, int]) -> Advice:
    """A condition compares a property with a literal of a `kind` (string, number, boolean) that it is not on some devices."""
    counts = sorted((-count, other) for other, count in devices_by_kind.items() if other != kind and count)
    parts = [f"{_TYPE_NAMES[other]} on {counted(-count, 'device')}" for count, other in counts]
    return Advice(
        "another-type",
        f"{name}: {printed_path(path)} is {', '.join(parts)} and {_TYPE_NAMES[kind]} on {devices_by_kind.get(kind, 0)}; "
        f"the condition compares it with {_TYPE_NAMES[kind]}, which is true for no other type: write the literal as devices "
        "have the value (3 or '3'), or tag them anew",
    )


_OF_THE_AGENT = {"modules", "systemModules", "runtime"}


def _in_vain(name: str, document: DeploymentDocument, text: str) -> str:
    """Why a metric can match nothing that it means; empty where it can."""
    try:
        query = parse_query(text)
    except QueryInvalid as error:
        return f"it cannot be read: {error.reason}"
    if query.source is not QuerySource.DEVICES:
        return ""
    for path in sorted(paths_of(query.where)):
        if path[:2] == ("properties", "reported") and path[2:3] and path[2] in _OF_THE_AGENT:
            return (
                f"{'.'.join(path[:3])} is reported by the edge agent, not by the device; "
                "ask FROM devices.modules WHERE moduleId = '$edgeAgent' AND …"
            )
        if path[:2] == ("configurations", name) and document.kind is ContentKind.MODULE:
            return "whether it applies stands in the twins of modules; ask FROM devices.modules WHERE moduleId = …"
        if path[:2] == ("configurations", name) and document.kind is ContentKind.EDGE:
            return (
                "whether an edge deployment applies stands in the twins of modules; "
                "ask FROM devices.modules WHERE moduleId = '$edgeAgent' AND …"
            )
    return ""


def outranked(
    name: str, document: DeploymentDocument, other_deployments: Iterable[tuple[str, DeploymentDocument]]
) -> list[Advice]:
    """Layers that would not apply where this base does, or bases above which this layer does not stand.

    A layer applies only with a priority strictly above its device's base (contract/hub.md §3.3). Whether the two target a
    device in common is not looked at: that can change with any tag.
    """
    result: list[Advice] = []
    if document.kind is not ContentKind.EDGE:
        return result
    for other_name, other in sorted(other_deployments, key=lambda pair: pair[0]):
        if other_name == name or other.kind is not ContentKind.EDGE or other.layered == document.layered:
            continue
        layer, base = (name, other_name) if document.layered else (other_name, name)
        layer_priority, base_priority = (
            (document.priority, other.priority) if document.layered else (other.priority, document.priority)
        )
        if layer_priority <= base_priority:
            result.append(
                Advice(
                    "layer-not-above-base",
                    f"layer {layer} (priority {layer_priority}) is not applied on devices of {base} (priority {base_priority})",
                    other_name,
                )
            )
    return result
