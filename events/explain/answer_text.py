"""An explanation in one sentence: what the device runs, and why not what was asked for."""

from collections.abc import Iterator, Sequence

from events.explain.cause import Cause
from events.explain.explanation import Explanation
from events.explain.verdict import Verdict, Weighed
from events.explain.verdict_text import ExplainContext, behind, called, verdict
from events.fleet.assignments import Assignment, AssignmentStatus
from events.log.keys import name
from events.number_text import utc_text
from events.projection_store.port import Blocked

_NAMED_MAX = 3


def answer(explanation: Explanation, context: ExplainContext, *, asked: str = "") -> str:
    """The whole in one sentence; `asked` names the one deployment that the caller asks for."""
    return "; ".join(_parts(explanation, context, asked))


def _parts(explanation: Explanation, context: ExplainContext, asked: str) -> Iterator[str]:
    document, effective, blocked = explanation.document, explanation.effective, explanation.blocked
    if document.retired:
        how = _by_whom(explanation.retirement)
        yield f"{explanation.device_id} was retired{how}: it has no twin, and nothing targets it"
    elif effective is None:
        how = _by_whom(explanation.registration)
        yield f"{explanation.device_id} was registered{how}, and {behind(context.standpoint)}"
        yield from (verdict(each, context) for each in explanation.weighed if each.id == asked)
    else:
        yield from of_device(explanation.weighed, context, since=effective.since, asked=asked)
    if not document.enabled and not document.retired:
        yield "it is disabled, so that it cannot fetch anything"
    if blocked is not None:
        yield _of_blocked(blocked, context.standpoint.number)


def _by_whom(cause: Cause | None) -> str:
    return "" if cause is None else f" by {cause.by} on {utc_text(cause.at)} ({cause.stream}:{cause.position})"


def _of_blocked(blocked: Blocked, partition: int) -> str:
    return (
        f"its partition {name(partition)} is stopped at {name(blocked.stream)}:{blocked.position}, "
        "and nothing is decided there until somebody resolves that"
    )


def of_device(weighed: Sequence[Weighed], context: ExplainContext, *, since: int, asked: str = "") -> Iterator[str]:
    """What a device runs since a time (milliseconds), and why not what was asked for, or what targets it in vain."""
    yield f"{context.device_id} {runs(context.standpoint.assignment, since=since)}"
    applied = [called(each.id) for each in weighed if each.verdict is Verdict.APPLIES]
    if applied:
        yield f"its twins get what {', '.join(dict.fromkeys(applied))} give{'s' * (len(set(applied)) == 1)}"
    if asked:
        yield from (verdict(each, context) for each in weighed if each.id == asked)
        return
    in_vain = [each for each in weighed if each.verdict in {Verdict.NOT_APPLIED, Verdict.UNDECIDED}]
    yield from (verdict(each, context) for each in in_vain[:_NAMED_MAX])
    if len(in_vain) > _NAMED_MAX:
        yield f"{len(in_vain) - _NAMED_MAX} more target it in vain"
    not_targeting = sum(each.verdict is Verdict.NOT_TARGETED for each in weighed)
    if not_targeting:
        yield f"{not_targeting} other deployment{'s do' if not_targeting > 1 else ' does'} not target it"


def runs(assignment: Assignment, *, since: int = 0) -> str:
    """What a device runs, in words without a subject."""
    when = f" since {utc_text(since)}" if since else ""
    stack = " + ".join(called(layer.id) for layer in assignment.stack)
    match assignment.status:
        case AssignmentStatus.MANAGED:
            return f"runs {stack}{when}"
        case AssignmentStatus.OVER_LIMIT:
            wanted = " + ".join(called(layer.id) for layer in assignment.wanted)
            keeps = f"keeps {stack}" if stack else "keeps what it had"
            return f"{keeps}{when}, as {wanted} does not fit: {assignment.reason}"
        case AssignmentStatus.BY_HAND:
            return f"runs what somebody set on it by hand{when}"
        case AssignmentStatus.RESTORED:
            return f"runs what a rollback brought it back to{when}"
        case _ if stack:
            return f"is unmanaged{when}: nothing targets it any more, and it keeps what {stack} gave it"
        case _ if assignment.was_assigned:
            return f"is unmanaged{when}: nothing targets it any more, and it keeps what it had"
        case _:
            return "runs nothing: no base targets it"
