"""An explanation in one sentence: what the device runs, and why the other deployments do not apply."""

from collections.abc import Iterator, Sequence

from events.explain.cause import Cause
from events.explain.explanation import Explanation
from events.explain.verdict import Verdict, Weighed
from events.explain.verdict_text import ExplainContext, behind, called, verdict
from events.fleet.assignments import Assignment, AssignmentStatus
from events.log.keys import name
from events.number_text import utc_text

_NAMED_MAX = 3


def answer(explanation: Explanation, context: ExplainContext, *, deployment_id: str = "") -> str:
    """Returns the explanation as one sentence; `deployment_id` limits it to one deployment."""
    return "; ".join(_parts(explanation, context, deployment_id))


def _parts(explanation: Explanation, context: ExplainContext, deployment_id: str) -> Iterator[str]:
    document, effective, blocked = explanation.document, explanation.effective, explanation.blocked
    if document.retired:
        yield f"{explanation.device_id} was retired{_author(explanation.retirement)}: it has no twin, and no deployment targets it"
    elif effective is None:
        yield f"{explanation.device_id} was registered{_author(explanation.registration)}, and {behind(context.standpoint)}"
        yield from (verdict(each, context) for each in explanation.weighed if each.id == deployment_id)
    else:
        yield from of_device(explanation.weighed, context, since=effective.at, deployment_id=deployment_id)
    if not document.enabled and not document.retired:
        yield "it is disabled, so it cannot fetch a configuration"
    if blocked is not None:
        yield (
            f"its partition {name(context.standpoint.number)} is stopped at {name(blocked.stream)}:{blocked.position}, "
            "and its assignments do not change until an operator resolves the error"
        )


def _author(cause: Cause | None) -> str:
    return "" if cause is None else f" by {cause.by} on {utc_text(cause.at)} ({cause.stream}:{cause.position})"


def of_device(
    weighed: Sequence[Weighed], context: ExplainContext, *, since: int, deployment_id: str = ""
) -> Iterator[str]:
    """Yields what a device runs, since when (milliseconds), and why other deployments that target it are not applied."""
    yield f"{context.device_id} {runs(context.standpoint.assignment, since=since)}"
    applied = [called(each.id) for each in weighed if each.verdict is Verdict.APPLIES]
    if applied:
        yield f"its twins get the properties of {', '.join(dict.fromkeys(applied))}"
    if deployment_id:
        yield from (verdict(each, context) for each in weighed if each.id == deployment_id)
        return
    not_applied = [each for each in weighed if each.verdict in {Verdict.NOT_APPLIED, Verdict.UNDECIDED}]
    yield from (verdict(each, context) for each in not_applied[:_NAMED_MAX])
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
