"""A verdict in a sentence, with its reason."""

from collections.abc import Iterator, Mapping

import msgspec

from events.deployment.facts import Admitted, Kept, NotStarted
from events.explain.audience import Audience
from events.explain.condition_text import why_not
from events.explain.rollout_turn import Turn, turn_text
from events.explain.verdict import Known, Obstacle, Reason, Standpoint, Subject, Verdict, Weighed
from events.fleet.configuration import AGENT
from events.log.keys import name as stream_name
from events.manifest.document import Kind, by_module
from events.manifest.merge import contributes
from events.rollout.state import State
from events.rollout.words import standing as admission
from events.update.names import carried, is_carrier


class ExplainContext(msgspec.Struct, frozen=True):
    """What texts are made of beside a verdict; `now` in milliseconds, `turns` by deployment."""

    device_id: str
    subject: Subject
    standpoint: Standpoint
    deployments: Mapping[str, Known]
    now: int
    turns: Mapping[str, Turn] = {}
    audience: Audience = Audience()


def called(name: str) -> str:
    """A deployment's id; of one that carries an update, whose it is."""
    found = carried(name) if is_carrier(name) else None
    return name if found is None else f"{name} (deployment {found[1]} of the group {found[0]})"


def verdict(one: Weighed, context: ExplainContext, *, why: str = "") -> str:
    """What a deployment is to the device, and why; `why` is the text of `because`, where the caller has it already."""
    whom = f" for the module {one.module}" if one.module else ""
    match one.verdict:
        case Verdict.BASE:
            said = f"{called(one.id)} applies as the base, with priority {one.priority}"
        case Verdict.LAYER:
            count = len(context.standpoint.row.stack) - 1
            said = f"{called(one.id)} applies as layer {one.place} of {count}, with priority {one.priority}"
        case Verdict.APPLIES:
            twin = f"the twin of the module {one.module}" if one.module else "the device's own twin"
            said = f"{called(one.id)} applies to {twin}, with priority {one.priority}"
        case Verdict.UNDECIDED:
            return f"{called(one.id)} is not decided on yet{whom}: {why or because(one, context)}"
        case _:
            return f"it does not get {called(one.id)}{whom}: {why or because(one, context)}"
    return said if one.is_settled else f"{said}; what decides has changed since, and {behind(context.standpoint)}"


def because(one: Weighed, context: ExplainContext) -> str:
    """Why a deployment does not apply; what else would stand in the way comes last."""
    assert one.obstacle is not None
    said = _obstacle(one, one.obstacle, context)
    if one.verdict is Verdict.NOT_TARGETED and one.then is not None:
        said += f"; and if it did target the device: {_obstacle(one, one.then, context)}"
    if one.verdict is Verdict.PASSED_OVER and not one.is_settled:
        said += f"; what decides has changed since, and {behind(context.standpoint)}"
    return said


def _obstacle(one: Weighed, obstacle: Obstacle, context: ExplainContext) -> str:
    known, row = context.deployments[one.id], context.standpoint.row
    of_rollout = {Reason.NOT_STARTED, Reason.ENDED, Reason.NOT_ADMITTED}
    if known.rollout is not None and obstacle.reason in of_rollout and not context.audience.may_know_rollout(known):
        return "it is rolled out in phases, and is not open to the device"
    match obstacle.reason:
        case Reason.CONDITION:
            if one.condition is None:
                return "its condition is empty, which targets nobody"
            return why_not(one.condition, own=f"of {one.module}, " if one.module else "")
        case Reason.OUT_OF_SCOPE:
            assert one.scope is not None
            return f"whoever created it is kept to a scope: {why_not(one.scope)}"
        case Reason.NOT_EDGE:
            return "the device is not edge-capable, and it sets modules of edge devices"
        case Reason.NO_MODULE:
            return (
                f"the device has no module {one.module}"
                if one.module
                else "the device has no module that it could be for"
            )
        case Reason.NOT_FOLDED:
            return f"its condition is true, and {behind(context.standpoint)}"
        case Reason.NOT_STARTED | Reason.ENDED:
            return _closed(known, context.now)
        case Reason.NOT_ADMITTED:
            return _not_admitted(one, known, context)
        case Reason.BASE_OUTRANKED:
            return f"{called(obstacle.by)} wins, {_contest(one, obstacle.by, context)}"
        case Reason.LAYER_NOT_ABOVE_BASE:
            other = _priority(obstacle.by, context)
            return (
                f"its priority {one.priority} is not above that of the base {called(obstacle.by)}, {other}, "
                "and only layers above their base are laid on it"
            )
        case Reason.NEWER_LAYER:
            return f"the layer {called(obstacle.by)} has the same priority {one.priority} and was created later"
        case Reason.NO_BASE:
            return "it is a layer, and no base targets the device that it could be laid on"
        case Reason.OVER_LIMIT:
            part = row.module_part(one.module) if one.module else row.own_part
            return f"what it would merge to is over a limit: {row.reason if one.kind is Kind.EDGE else part.reason}"
        case Reason.BY_HAND:
            return "a configuration was set on the device by hand, and stays until something changes which deployments apply to it"
        case Reason.RESTORED:
            return "a rollback brought the device back to what it had before, and that stays until something else targets it"


def _closed(known: Known, now: int) -> str:
    said = admission(known.document, known.rollout, now)
    by_rollout = known.rollout is not None and isinstance(known.document.admission, NotStarted)
    if not by_rollout or known.rollout is None or known.rollout.state is State.CREATED:
        return f"it {said}"
    return f"its rollout is {said}"


def _contest(one: Weighed, by: str, context: ExplainContext) -> str:
    other = _priority(by, context)
    if other == one.priority:
        return f"which has the same priority {one.priority} and was created later"
    return f"with priority {other} over {one.priority}"


def _priority(name: str, context: ExplainContext) -> object:
    known = context.deployments.get(name)
    return "its own" if known is None else known.document.priority


def _not_admitted(one: Weighed, known: Known, context: ExplainContext) -> str:
    enabled, found = context.subject.enabled, context.turns.get(one.id)
    if known.rollout is not None and found is not None and known.rollout.admits:
        return turn_text(found, known.rollout, enabled=enabled)
    match known.document.admission:
        case Admitted(devices):
            return f"it is for {len(devices)} named devices, and this is none of them"
        case Kept():
            return "it was canceled: whoever had it then keeps it, and nobody else gets it"
        case _ if known.rollout is not None:
            return f"its rollout is {admission(known.document, known.rollout, context.now)}"
        case _:
            return "the device is not among those admitted"


def behind(at: Standpoint) -> str:
    """How far the workers are behind the log, by stream."""
    if not at.is_behind:
        return "the views have not taken that in"
    places = [
        f"{name} at {done} of {head}"
        for name, done, head in (
            (stream_name(at.number), at.vector.partition, at.head.partition),
            ("fleet", at.vector.fleet, at.head.fleet),
        )
        if done < head
    ]
    return f"the workers have not come to that yet ({', '.join(places)})"


def is_counted(one: Weighed, known: Known) -> bool:
    """Whether the device is in the contract's appliedCount: of an edge deployment, a question about the `$edgeAgent` twin."""
    return one.applies and (one.kind is not Kind.EDGE or contributes(by_module(known.document.content), AGENT))


def notes(one: Weighed, known: Known) -> Iterator[str]:
    """What surprises people about a verdict."""
    if one.applies and not is_counted(one, known):
        yield (
            "the contract's appliedCount leaves the device out, as that is a question about $edgeAgent, for which this layer "
            "sets nothing; the status list `actual` has it"
        )
