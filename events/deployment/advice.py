"""Advice on an accepted deployment: probable mistakes, such as layers that do not apply and conditions without devices."""

from collections.abc import Iterable, Mapping
from typing import Protocol

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

OUTRANKED = "layer-not-above-base"
"""The rule of the advice on another deployment: a layer without a priority above a base."""


class Advice(msgspec.Struct, frozen=True):
    """A probable mistake in a deployment. `about` is the id of the other deployment that it involves, if any."""

    rule: str
    message: str
    about: str = ""


class Ranked(Protocol):
    """A deployment, as far as its rank goes."""

    @property
    def priority(self) -> int:
        """Its priority."""
        ...

    @property
    def layered(self) -> bool:
        """Whether it is a layer."""
        ...

    @property
    def kind(self) -> ContentKind:
        """Its kind of content."""
        ...


def advice(
    name: str, document: DeploymentDocument, other_deployments: Iterable[tuple[str, Ranked]]
) -> tuple[Advice, ...]:
    """Return advice on a deployment, alone and together with the other deployments.

    It includes the manifest's problems: warnings, and errors that a creation without full validation accepted.

    Raises:
        ConditionInvalid: the condition is invalid, which the condition of an accepted deployment never is.
    """
    result = []
    of_module = document.kind is ContentKind.MODULE
    if not document.target_condition.strip():
        every_module = "FROM devices.modules WHERE moduleId = 'm' targets all modules m"
        example = every_module if of_module else "* targets all devices"
        result.append(Advice("empty-condition", f"{name} has no target condition, so it targets no device; {example}"))
    notes = () if of_module else lint(document.target_condition)
    result += [Advice("implicit-and", f"{name}: column {note.column}: {note.message}") for note in notes]
    for metric, text in document.metrics.items():
        if why := _why_never_matches(name, document, text):
            result.append(Advice("metric-never-matches", f"{name}: metric {metric}: {why}"))
    result += [Advice(problem.rule, f"{name}: {problem}") for problem in problems(document.content)]
    return (*result, *outranked(name, document, other_deployments))


def targets_nothing(name: str) -> Advice:
    """Return the advice that the condition is true for no device now; a device can still match later."""
    text = "targets 0 devices now; compare its condition with the tags and reported properties of a device"
    return Advice("targets-nothing", f"{name} {text}")


_TYPE_NAMES = {"string": "text", "number": "a number", "boolean": "a boolean"}


def another_type(name: str, path: Path, kind: str, devices_by_kind: Mapping[str, int]) -> Advice:
    """Return the advice that a condition compares a property with a literal of a `kind` that differs from its values.

    `kind` and the keys of `devices_by_kind` are string, number or boolean.
    """
    # The most frequent type first.
    counts = sorted((-count, other) for other, count in devices_by_kind.items() if other != kind and count)
    parts = [f"{_TYPE_NAMES[other]} on {counted(-count, 'device')}" for count, other in counts]
    return Advice(
        "another-type",
        f"{name}: {printed_path(path)} is {', '.join(parts)} and {_TYPE_NAMES[kind]} on {devices_by_kind.get(kind, 0)}; "
        f"the condition compares it with {_TYPE_NAMES[kind]}, which never matches another type: write the literal with the "
        "type of the value on the devices (3 or '3'), or change the value on the devices",
    )


# `$edgeAgent` reports these sections, and the device's own twin never has them.
_SECTIONS_OF_AGENT = {"modules", "systemModules", "runtime"}


def _why_never_matches(name: str, document: DeploymentDocument, text: str) -> str:
    """Return why a metric never matches what it is probably meant for; empty if it can match."""
    try:
        query = parse_query(text)
    except QueryInvalid as error:
        return f"the query is invalid: {error.reason}"
    if query.source is not QuerySource.DEVICES:
        return ""
    of_agent = "use FROM devices.modules WHERE moduleId = '$edgeAgent' AND …"
    for path in sorted(paths_of(query.where)):
        if path[:2] == ("properties", "reported") and path[2:3] and path[2] in _SECTIONS_OF_AGENT:
            return f"the edge agent reports {'.'.join(path[:3])}, not the device; {of_agent}"
        if path[:2] == ("configurations", name) and document.kind is ContentKind.MODULE:
            return "the status is in the twins of modules; use FROM devices.modules WHERE moduleId = …"
        if path[:2] == ("configurations", name) and document.kind is ContentKind.EDGE:
            return f"the status of an edge deployment is in the twins of modules; {of_agent}"
    return ""


def outranked(name: str, document: DeploymentDocument, other_deployments: Iterable[tuple[str, Ranked]]) -> list[Advice]:
    """Return advice on layers without a priority above this base, or on bases that this layer has no priority above.

    A layer applies only with a priority strictly above its device's base (contract/hub.md §3.3).
    """
    result: list[Advice] = []
    # This does not check whether both target a common device, because any change of a tag can change that.
    for other_name, other in sorted(other_deployments, key=lambda pair: pair[0]):
        are_edge = document.kind is other.kind is ContentKind.EDGE
        if other_name == name or not are_edge or other.layered == document.layered:
            continue
        own, second = (name, document.priority), (other_name, other.priority)
        (layer, above), (base, below) = (own, second) if document.layered else (second, own)
        if above <= below:
            text = f"layer {layer} (priority {above}) is not applied on devices of {base} (priority {below})"
            result.append(Advice(OUTRANKED, text, other_name))
    return result
