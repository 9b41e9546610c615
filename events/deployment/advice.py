"""What an operator should know about a deployment that is accepted: layers that do not apply, conditions that match nobody."""

from collections.abc import Iterable

import msgspec

from events.deployment.state import DeploymentDocument
from events.manifest.document import Kind
from events.manifest.validate import problems
from events.targeting.parse import lint


class Advice(msgspec.Struct, frozen=True):
    """Something that is allowed and probably not meant. `about` names the other deployment, if it is one."""

    rule: str
    message: str
    about: str = ""


def advice(
    name: str, document: DeploymentDocument, others: Iterable[tuple[str, DeploymentDocument]]
) -> tuple[Advice, ...]:
    """Advice on one deployment as it stands beside the others.

    Of the content it names what the manifest's rules warn of, and what a creation without full validation let pass.

    Raises:
        ConditionInvalid: the condition cannot be read (one that was accepted can).
    """
    found = []
    if not document.target_condition.strip():
        found.append(Advice("empty-condition", f"{name} has no target condition, so it targets nobody; * targets all"))
    found += [
        Advice("implicit-and", f"{name}: column {note.column}: {note.message}")
        for note in lint(document.target_condition)
    ]
    found += [Advice(problem.rule, f"{name}: {problem}") for problem in problems(document.content)]
    found += outranked(name, document, others)
    return tuple(found)


def outranked(
    name: str, document: DeploymentDocument, others: Iterable[tuple[str, DeploymentDocument]]
) -> list[Advice]:
    """Layers that would not apply where this base does, or bases above which this layer does not stand.

    A layer applies only with a priority strictly above its device's base (contract/hub.md §3.3). Whether the two target a
    device in common is not looked at: that can change with any tag.
    """
    found: list[Advice] = []
    if document.kind is not Kind.EDGE:
        return found
    for other_name, other in sorted(others, key=lambda pair: pair[0]):
        if other_name == name or other.kind is not Kind.EDGE or other.layered == document.layered:
            continue
        layer, base = (name, other_name) if document.layered else (other_name, name)
        layer_priority, base_priority = (
            (document.priority, other.priority) if document.layered else (other.priority, document.priority)
        )
        if layer_priority <= base_priority:
            found.append(
                Advice(
                    "layer-not-above-base",
                    f"layer {layer} (priority {layer_priority}) is not applied on devices of {base} (priority {base_priority})",
                    other_name,
                )
            )
    return found
