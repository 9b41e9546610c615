"""The text of a verdict, with its reason."""

from collections.abc import Iterator, Mapping

import msgspec

from events.deployment.events import Admitted, Kept, NotStarted
from events.explain.audience import Audience
from events.explain.condition_text import EMPTY_CONDITION, why_not
from events.explain.rollout_turn import Turn, turn_text
from events.explain.verdict import ExplainedDevice, LoggedDeployment, Obstacle, Reason, Standpoint, Verdict, Weighed
from events.fleet.configuration import AGENT
from events.log.keys import name as stream_name
from events.manifest.document import ContentKind, by_module
from events.manifest.merge import contributes
from events.rollout.rollout_text import admission_text as admission
from events.rollout.state import RolloutState
from events.update.names import group_and_deployment


class ExplainContext(msgspec.Struct, frozen=True):
    """The data that the texts need besides a verdict; `now` in milliseconds, `turns` by deployment."""

    device_id: str
    subject: ExplainedDevice
    standpoint: Standpoint
    deployments: Mapping[str, LoggedDeployment]
    now: int
    turns: Mapping[str, Turn] = {}
    audience: Audience = Audience()


def called(name: str) -> str:
    """Returns a deployment's id; for the deployment of an update, with the update's group and number."""
    names = group_and_deployment(name)
    return name if names is None else f"{name} (deployment {names[1]} of the group {names[0]})"


def verdict(weighed: Weighed, context: ExplainContext, *, why: str = "") -> str:
    """Returns the effect of a deployment on the device, with the reason; `why` saves calling `because` again."""
    module = f" for the module {weighed.module}" if weighed.module else ""
    match weighed.verdict:
        case Verdict.BASE:
            text = f"{called(weighed.id)} applies as the base, with priority {weighed.priority}"
        case Verdict.LAYER:
            count = len(context.standpoint.assignment.stack) - 1
            text = f"{called(weighed.id)} applies as layer {weighed.rank} of {count}, with priority {weighed.priority}"
        case Verdict.APPLIES:
            twin = f"the twin of the module {weighed.module}" if weighed.module else "the device's own twin"
            text = f"{called(weighed.id)} applies to {twin}, with priority {weighed.priority}"
        case Verdict.UNDECIDED:
            return f"{called(weighed.id)} is not evaluated yet{module}: {why or because(weighed, context)}"
        case _:
            return f"it does not get {called(weighed.id)}{module}: {why or because(weighed, context)}"
    return text if weighed.is_settled else f"{text}; its inputs have changed since, and {behind(context.standpoint)}"


def because(weighed: Weighed, context: ExplainContext) -> str:
    """Returns why a deployment does not apply; a further obstacle comes last."""
    assert weighed.obstacle is not None
    text = _obstacle(weighed, weighed.obstacle, context)
    if weighed.verdict is Verdict.NOT_TARGETED and weighed.then is not None:
        text += f"; and if it did target the device: {_obstacle(weighed, weighed.then, context)}"
    if weighed.verdict is Verdict.NOT_APPLIED and not weighed.is_settled:
        text += f"; its inputs have changed since, and {behind(context.standpoint)}"
    return text


def _obstacle(weighed: Weighed, obstacle: Obstacle, context: ExplainContext) -> str:
    deployment, assignment, by = context.deployments[weighed.id], context.standpoint.assignment, obstacle.by or ""
    # The other texts count devices or name conditions; a scoped caller would learn about devices outside of the scope.
    of_rollout = {Reason.NOT_STARTED, Reason.ENDED, Reason.NOT_ADMITTED}
    if (
        deployment.rollout is not None
        and obstacle.reason in of_rollout
        and not context.audience.may_know_rollout(deployment)
    ):
        return "it is rolled out in phases, and no phase has admitted the device"
    match obstacle.reason:
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
            return f"its condition is true, and {behind(context.standpoint)}"
        case Reason.NOT_STARTED | Reason.ENDED:
            return _closed(deployment, context.now)
        case Reason.NOT_ADMITTED:
            return _not_admitted(weighed, deployment, context)
        case Reason.BASE_OUTRANKED:
            return f"{called(by)} wins, {_contest(weighed, by, context)}"
        case Reason.LAYER_NOT_ABOVE_BASE:
            priority = _priority(by, context)
            return (
                f"its priority {weighed.priority} is not above that of the base {called(by)}, {priority}, "
                "and a layer applies only with a higher priority than its base"
            )
        case Reason.NEWER_LAYER:
            return f"the layer {called(by)} has the same priority {weighed.priority} and was created later"
        case Reason.NO_BASE:
            return "it is a layer, and no base targets the device"
        case Reason.OVER_LIMIT:
            part = assignment.module_part(weighed.module) if weighed.module else assignment.own_part
            reason = assignment.reason if weighed.kind is ContentKind.EDGE else part.reason
            return f"the merged configuration would exceed a limit: {reason}"
        case Reason.BY_HAND:
            return "a configuration was set on the device by hand; it stays until the deployments that apply to the device change"
        case Reason.RESTORED:
            return "a rollback restored the device's previous configuration, which stays until another deployment targets the device"


def _closed(deployment: LoggedDeployment, now: int) -> str:
    text = admission(deployment.document, deployment.rollout, now)
    by_rollout = deployment.rollout is not None and isinstance(deployment.document.admission, NotStarted)
    if not by_rollout or deployment.rollout is None or deployment.rollout.state is RolloutState.CREATED:
        return f"it {text}"
    return f"its rollout is {text}"


def _contest(weighed: Weighed, by: str, context: ExplainContext) -> str:
    priority = _priority(by, context)
    if priority == weighed.priority:
        return f"which has the same priority {weighed.priority} and was created later"
    return f"with priority {priority} over {weighed.priority}"


def _priority(name: str, context: ExplainContext) -> object:
    deployment = context.deployments.get(name)
    return "its own" if deployment is None else deployment.document.priority


def _not_admitted(weighed: Weighed, deployment: LoggedDeployment, context: ExplainContext) -> str:
    enabled, turn = context.subject.enabled, context.turns.get(weighed.id)
    if deployment.rollout is not None and turn is not None and deployment.rollout.admits:
        return turn_text(turn, deployment.rollout, enabled=enabled)
    match deployment.document.admission:
        case Admitted(devices):
            return f"it is for {len(devices)} named devices, and this device is not one of them"
        case Kept():
            return "it was canceled: devices that had it then keep it, and no other device gets it"
        case _ if deployment.rollout is not None:
            return f"its rollout is {admission(deployment.document, deployment.rollout, context.now)}"
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


def notes(weighed: Weighed, deployment: LoggedDeployment) -> Iterator[str]:
    """Yields notes about surprising differences between the verdict and the contract's counts."""
    if weighed.applies and not is_counted(weighed, deployment):
        yield (
            "the contract's appliedCount does not include the device, because it counts $edgeAgent twins and this layer sets "
            "nothing for $edgeAgent; the status list `actual` includes it"
        )
