"""An explanation in sentences: what the device runs, and the effect of each deployment with its reason."""

from collections.abc import Iterator
from typing import Any

from events.deployment.events import Admitted, Kept, NotStarted
from events.envelope import Envelope
from events.explain.explanation import Explanation
from events.explain.judged_condition import EMPTY_CONDITION, why_not
from events.explain.rollout_turn import turn_text
from events.explain.verdict import LoggedDeployment, Obstacle, Reason, Standpoint, Verdict, Weighed
from events.fleet.assignments import Assignment, AssignmentStatus
from events.fleet.configuration import AGENT
from events.log.keys import name as stream_name
from events.manifest.document import ContentKind, by_module
from events.manifest.merge import contributes
from events.number_text import utc_text
from events.rollout.rollout_text import admission_text
from events.rollout.state import RolloutState
from events.update.names import group_and_deployment

_NAMED_MAX = 3

NOT_COUNTED = (
    "the contract's appliedCount does not include the device, because it counts $edgeAgent twins and this layer sets "
    "nothing for $edgeAgent; the status list `actual` includes it"
)
"""The note on a layer that applies and is not counted, which would surprise."""


def answer(explanation: Explanation, *, deployment_id: str = "") -> str:
    """Returns the explanation as one sentence; `deployment_id` limits it to one deployment."""
    document, effective, blocked = explanation.document, explanation.effective, explanation.blocked
    device_id, traced, stream = explanation.device_id, explanation.traced, stream_name(explanation.standpoint.number)
    if document.retired:
        retired = f"was retired{_author(stream, traced.retired)}"
        parts = [f"{device_id} {retired}: it has no twin, and no deployment targets it"]
    elif effective is None:
        registered = f"was registered{_author(stream, traced.registered)}"
        parts = [f"{device_id} {registered}, and {behind(explanation.standpoint)}"]
        parts += [verdict(each, explanation) for each in explanation.weighed if each.id == deployment_id]
    else:
        parts = [*of_device(explanation, since=effective.at, deployment_id=deployment_id)]
    if not document.enabled and not document.retired:
        parts.append("it is disabled, so it cannot fetch a configuration")
    if blocked is not None:
        parts.append(
            f"its partition {stream} is stopped at {stream_name(blocked.stream)}:{blocked.position}, "
            "and its assignments do not change until an operator resolves the error"
        )
    return "; ".join(parts)


def _author(stream: str, envelope: Envelope[Any] | None) -> str:
    return "" if envelope is None else f" by {envelope.by} on {utc_text(envelope.at)} ({stream}:{envelope.position})"


def of_device(explanation: Explanation, *, since: int, deployment_id: str = "") -> Iterator[str]:
    """Yields what a device runs, since when (milliseconds), and why other deployments that target it are not applied."""
    weighed = explanation.weighed
    yield f"{explanation.device_id} {runs(explanation.standpoint.assignment, since=since)}"
    applied = [called(each.id) for each in weighed if each.verdict is Verdict.APPLIES]
    if applied:
        yield f"its twins get the properties of {', '.join(dict.fromkeys(applied))}"
    if deployment_id:
        yield from (verdict(each, explanation) for each in weighed if each.id == deployment_id)
        return
    not_applied = [each for each in weighed if each.verdict in {Verdict.NOT_APPLIED, Verdict.UNDECIDED}]
    yield from (verdict(each, explanation) for each in not_applied[:_NAMED_MAX])
    if len(not_applied) > _NAMED_MAX:
        yield f"{len(not_applied) - _NAMED_MAX} more target it and are not applied"
    not_targeting = sum(each.verdict is Verdict.NOT_TARGETED for each in weighed)
    if not_targeting:
        yield f"{not_targeting} other deployment{'s do' if not_targeting > 1 else ' does'} not target it"


def runs(assignment: Assignment, *, since: int = 0) -> str:
    """Returns what a device runs, as a predicate: the caller puts the subject in front."""
    when = f" since {utc_text(since)}" if since else ""
    stack = " + ".join(called(layer.id) for layer in assignment.stack)
    match assignment.status:
        case AssignmentStatus.MANAGED:
            return f"runs {stack}{when}"
        case AssignmentStatus.OVER_LIMIT:
            over_limit_stack = " + ".join(called(layer.id) for layer in assignment.wanted)
            keeps = f"keeps {stack}" if stack else "keeps its previous configuration"
            return f"{keeps}{when}, as {over_limit_stack} does not fit: {assignment.reason}"
        case AssignmentStatus.BY_HAND:
            return f"runs a configuration that was set by hand{when}"
        case AssignmentStatus.RESTORED:
            return f"runs the configuration that a rollback restored{when}"
        case _ if stack:
            return f"is unmanaged{when}: no deployment targets it any more, and it keeps the configuration from {stack}"
        case _ if assignment.was_assigned:
            return f"is unmanaged{when}: no deployment targets it any more, and it keeps its previous configuration"
        case _:
            return "runs nothing: no base targets it"


# -- the verdicts


def called(name: str) -> str:
    """Returns a deployment's id; for the deployment of an update, with the update's group and number."""
    names = group_and_deployment(name)
    return name if names is None else f"{name} (deployment {names[1]} of the group {names[0]})"


def verdict(weighed: Weighed, explanation: Explanation, *, why: str = "") -> str:
    """Returns the effect of a deployment on the device, with the reason; `why` saves calling `because` again."""
    module = f" for the module {weighed.module}" if weighed.module else ""
    match weighed.verdict:
        case Verdict.BASE:
            text = f"{called(weighed.id)} applies as the base, with priority {weighed.priority}"
        case Verdict.LAYER:
            count = len(explanation.standpoint.assignment.stack) - 1
            text = f"{called(weighed.id)} applies as layer {weighed.rank} of {count}, with priority {weighed.priority}"
        case Verdict.APPLIES:
            twin = f"the twin of the module {weighed.module}" if weighed.module else "the device's own twin"
            text = f"{called(weighed.id)} applies to {twin}, with priority {weighed.priority}"
        case Verdict.UNDECIDED:
            return f"{called(weighed.id)} is not evaluated yet{module}: {why or because(weighed, explanation)}"
        case _:
            return f"it does not get {called(weighed.id)}{module}: {why or because(weighed, explanation)}"
    return (
        text if weighed.is_settled else f"{text}; its inputs have changed since, and {behind(explanation.standpoint)}"
    )


def because(weighed: Weighed, explanation: Explanation) -> str:
    """Returns why a deployment does not apply; a further obstacle comes last."""
    assert weighed.obstacle is not None
    text = _obstacle(weighed, weighed.obstacle, explanation)
    if weighed.verdict is Verdict.NOT_TARGETED and weighed.then is not None:
        text += f"; and if it did target the device: {_obstacle(weighed, weighed.then, explanation)}"
    if weighed.verdict is Verdict.NOT_APPLIED and not weighed.is_settled:
        text += f"; its inputs have changed since, and {behind(explanation.standpoint)}"
    return text


def _obstacle(weighed: Weighed, obstacle: Obstacle, explanation: Explanation) -> str:
    deployment, assignment = explanation.deployments[weighed.id], explanation.standpoint.assignment
    by, rollout, reason = called(obstacle.by or ""), deployment.rollout, obstacle.reason
    winner = explanation.deployments.get(obstacle.by or "")
    priority = "its own" if winner is None else winner.document.priority
    # The other texts count devices or name conditions; a scoped caller would learn about devices outside of the scope.
    of_rollout = {Reason.NOT_STARTED, Reason.ENDED, Reason.NOT_ADMITTED}
    if rollout is not None and reason in of_rollout and not explanation.may_know_rollout(deployment):
        return "it is rolled out in phases, and no phase has admitted the device"
    match reason:
        case Reason.CONDITION:
            if weighed.condition is None:
                return EMPTY_CONDITION
            return why_not(weighed.condition, own=f"of {weighed.module}, " if weighed.module else "")
        case Reason.OUT_OF_SCOPE:
            assert weighed.scope is not None
            return f"its author is limited to a scope: {why_not(weighed.scope)}"
        case Reason.NOT_EDGE:
            return "the device is not edge-capable, and the deployment sets modules of edge devices"
        case Reason.NO_MODULE:
            return f"the device has no module {weighed.module or 'that it can apply to'}"
        case Reason.NOT_APPLIED_YET:
            return f"its condition is true, and {behind(explanation.standpoint)}"
        case Reason.NOT_STARTED | Reason.ENDED:
            text = admission_text(deployment.document, rollout, explanation.now)
            is_created = rollout is None or rollout.state is RolloutState.CREATED
            by_rollout = not is_created and isinstance(deployment.document.admission, NotStarted)
            return f"its rollout is {text}" if by_rollout else f"it {text}"
        case Reason.NOT_ADMITTED:
            return _not_admitted(weighed, deployment, explanation)
        case Reason.BASE_OUTRANKED:
            if priority == weighed.priority:
                return f"{by} wins, which has the same priority {priority} and was created later"
            return f"{by} wins, with priority {priority} over {weighed.priority}"
        case Reason.LAYER_NOT_ABOVE_BASE:
            return (
                f"its priority {weighed.priority} is not above that of the base {by}, {priority}, "
                "and a layer applies only with a higher priority than its base"
            )
        case Reason.NEWER_LAYER:
            return f"the layer {by} has the same priority {weighed.priority} and was created later"
        case Reason.NO_BASE:
            return "it is a layer, and no base targets the device"
        case Reason.OVER_LIMIT:
            part = assignment.module_part(weighed.module) if weighed.module else assignment.own_part
            why = assignment.reason if weighed.kind is ContentKind.EDGE else part.reason
            return f"the merged configuration would exceed a limit: {why}"
        case Reason.BY_HAND:
            return "a configuration was set on the device by hand; it stays until the deployments that apply to the device change"
        case Reason.RESTORED:
            return "a rollback restored the device's previous configuration, which stays until another deployment targets the device"


def _not_admitted(weighed: Weighed, deployment: LoggedDeployment, explanation: Explanation) -> str:
    enabled, turn = explanation.subject.enabled, explanation.turns.get(weighed.id)
    if deployment.rollout is not None and turn is not None and deployment.rollout.admits:
        return turn_text(turn, deployment.rollout, enabled=enabled)
    match deployment.document.admission:
        case Admitted(devices):
            return f"it is for {len(devices)} named devices, and this device is not one of them"
        case Kept():
            return "it was canceled: devices that had it then keep it, and no other device gets it"
        case _ if deployment.rollout is not None:
            return f"its rollout is {admission_text(deployment.document, deployment.rollout, explanation.now)}"
        case _:
            return "the device is not admitted"


def behind(at: Standpoint) -> str:
    """Returns how far the workers are behind the log, by stream."""
    if not at.is_behind:
        return "the projections do not include that yet"
    positions = [
        f"{name} at {done} of {head}"
        for name, done, head in (
            (stream_name(at.number), at.vector.partition, at.head.partition),
            ("fleet", at.vector.fleet, at.head.fleet),
        )
        if done < head
    ]
    return f"the workers have not processed that yet ({', '.join(positions)})"


def is_counted(weighed: Weighed, deployment: LoggedDeployment) -> bool:
    """Returns whether the contract's appliedCount includes the device; for an edge deployment, that needs content for `$edgeAgent`."""
    return weighed.applies and (
        weighed.kind is not ContentKind.EDGE or contributes(by_module(deployment.document.content), AGENT)
    )
