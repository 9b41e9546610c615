"""An explanation in sentences: the answer first, then one sentence for each deployment."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import msgspec

from events.deployment.facts import Admitted, Kept, NotStarted
from events.fleet.configuration import AGENT
from events.fleet.rows import Row, Standing
from events.manifest.document import Kind, by_module
from events.manifest.merge import contributes
from events.rollout import turn
from events.rollout.state import State
from events.rollout.turn import Turn
from events.rollout.words import standing as admission
from events.targeting.telling import why_not
from events.update.names import carried, is_carrier
from events.views.explained import Known, Led, Obstacle, Reason, Reported, Standpoint, Subject, Verdict, Weighed

_OTHERS_MAX = 3


class Context(msgspec.Struct, frozen=True):
    """What sentences are made of beside a verdict; `now` in milliseconds, `turns` by deployment."""

    device_id: str
    subject: Subject
    standpoint: Standpoint
    deployments: Mapping[str, Known]
    now: int
    turns: Mapping[str, Turn] = {}
    hidden: frozenset[str] = frozenset()
    """Deployments of whose rollouts nothing is to be said, as they tell of other devices."""
    is_scoped: bool = False
    """Whether whoever asks is kept to some devices: nothing of others is to be said, wherever it comes from."""

    def tells_rollout(self, deployment_id: str) -> bool:
        """Whether it may be said how a deployment is rolled out; of one that is gone nobody knows whose it was."""
        return not self.is_scoped or (deployment_id in self.deployments and deployment_id not in self.hidden)


@lru_cache(10_000)
def moment(at: int) -> str:
    """Milliseconds as `2026-11-21 14:03:22 UTC`."""
    return dt.datetime.fromtimestamp(at // 1000, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def stream(number: int) -> str:
    """`p03`."""
    return f"p{number:02d}"


def called(name: str) -> str:
    """A deployment's id; of one that carries an update, whose it is."""
    found = carried(name) if is_carrier(name) else None
    return name if found is None else f"{name} (deployment {found[1]} of the group {found[0]})"


def verdict(one: Weighed, context: Context, *, why: str = "") -> str:
    """What a deployment is to the device, and why; `why` is what `because` says, where somebody asked that before."""
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
    return said if one.is_settled else f"{said}; what decides has changed since, and {_behind(context.standpoint)}"


def because(one: Weighed, context: Context) -> str:
    """Why a deployment does not apply; what else would stand in the way comes last."""
    assert one.obstacle is not None
    said = _obstacle(one, one.obstacle, context)
    if one.verdict is Verdict.NOT_TARGETED and one.then is not None:
        said += f"; and if it did target the device: {_obstacle(one, one.then, context)}"
    if one.verdict is Verdict.PASSED_OVER and not one.is_settled:
        said += f"; what decides has changed since, and {_behind(context.standpoint)}"
    return said


def _obstacle(one: Weighed, obstacle: Obstacle, context: Context) -> str:
    known, row = context.deployments[one.id], context.standpoint.row
    of_rollout = {Reason.NOT_STARTED, Reason.ENDED, Reason.NOT_ADMITTED}
    if known.rollout is not None and one.id in context.hidden and obstacle.reason in of_rollout:
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
            return f"its condition is true, and {_behind(context.standpoint)}"
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


def _contest(one: Weighed, by: str, context: Context) -> str:
    other = _priority(by, context)
    if other == one.priority:
        return f"which has the same priority {one.priority} and was created later"
    return f"with priority {other} over {one.priority}"


def _priority(name: str, context: Context) -> object:
    known = context.deployments.get(name)
    return "its own" if known is None else known.document.priority


def _not_admitted(one: Weighed, known: Known, context: Context) -> str:
    enabled, found = context.subject.enabled, context.turns.get(one.id)
    if known.rollout is not None and found is not None and known.rollout.admits:
        return turn.told(found, known.rollout, enabled=enabled)
    match known.document.admission:
        case Admitted(devices):
            return f"it is for {len(devices)} named devices, and this is none of them"
        case Kept():
            return "it was canceled: whoever had it then keeps it, and nobody else gets it"
        case _ if known.rollout is not None:
            return f"its rollout is {admission(known.document, known.rollout, context.now)}"
        case _:
            return "the device is not among those admitted"


def _behind(at: Standpoint) -> str:
    if not at.is_behind:
        return "the views have not taken that in"
    places = [
        f"{name} at {done} of {head}"
        for name, done, head in (
            (stream(at.number), at.vector.partition, at.head.partition),
            ("fleet", at.vector.fleet, at.head.fleet),
        )
        if done < head
    ]
    return f"the workers have not come to that yet ({', '.join(places)})"


# -- the answer


def runs(row: Row, *, since: int = 0) -> str:
    """What a device runs, in words without a subject."""
    when = f" since {moment(since)}" if since else ""
    stack = " + ".join(called(layer.id) for layer in row.stack)
    match row.standing:
        case Standing.MANAGED:
            return f"runs {stack}{when}"
        case Standing.HELD_BACK:
            wanted = " + ".join(called(layer.id) for layer in row.wanted)
            keeps = f"keeps {stack}" if stack else "keeps what it had"
            return f"{keeps}{when}, as {wanted} does not fit: {row.reason}"
        case Standing.BY_HAND:
            return f"runs what somebody set on it by hand{when}"
        case Standing.RESTORED:
            return f"runs what a rollback brought it back to{when}"
        case _ if stack:
            return f"is unmanaged{when}: nothing targets it any more, and it keeps what {stack} gave it"
        case _ if row.was_assigned:
            return f"is unmanaged{when}: nothing targets it any more, and it keeps what it had"
        case _:
            return "runs nothing: no base targets it"


def retired(device_id: str, led: Led | None) -> str:
    """Of a device that left the fleet."""
    how = "" if led is None else f" by {led.by} on {moment(led.at)} ({led.stream}:{led.position})"
    return f"{device_id} was retired{how}: it has no twin, and nothing targets it"


def unknown(context: Context, led: Led | None) -> str:
    """Of a device that is in the log, and not in the views."""
    how = "" if led is None else f" by {led.by} on {moment(led.at)} ({led.stream}:{led.position})"
    return f"{context.device_id} was registered{how}, and {_behind(context.standpoint)}"


def blocked(at: Standpoint, stopped: str, position: int) -> str:
    """Of a device whose partition is stopped."""
    return (
        f"its partition {stream(at.number)} is stopped at {stopped}:{position}, "
        "and nothing is decided there until somebody resolves that"
    )


def reported(one: Reported) -> str:
    """What the device answered last, and what that is to what it should run."""
    return "; ".join((_of_agent(one), *_of_others(one)))


def _of_agent(one: Reported) -> str:
    code = "nothing" if one.code is None else f"code {one.code}"
    what = f" ({one.description})" if one.description else ""
    when = moment(one.at)
    if one.version is None or one.code is None:
        return f"its agent reported on {when}, and answered for no version"
    if one.version < one.wanted:
        return f"its agent answered {code}{what} on {when}, for version {one.version}; it should have {one.wanted}"
    wrong = [
        f"{name} is {one.modules.get(name, 'not there')} and should be {status}"
        for name, status in sorted(one.desired.items())
        if one.modules.get(name) != status
    ]
    if one.is_stale:
        modules = "; the states of its modules were reported before that answer"
    else:
        modules = f"; {', '.join(wrong)}" if wrong else "; all modules are as desired" if one.desired else ""
    which = "which it should have" if one.version == one.wanted else f"and should have {one.wanted}"
    return f"its agent answered {code}{what} for version {one.version}, {which}, on {when}: {one.standing}{modules}"


def _of_others(one: Reported) -> Iterator[str]:
    """What is missing, or has failed, of the answers of all but the agent."""
    hub = one.hub
    if hub is not None and (hub.version is None or hub.code is None or hub.version < hub.wanted):
        known = "never answered" if hub.version is None else f"answered for version {hub.version} last"
        yield f"its $edgeHub {known}; it should have {hub.wanted}"
    elif hub is not None and hub.code not in {200, 406}:
        yield f"its $edgeHub answered code {hub.code} for version {hub.version}, which it should have"
    if one.undelivered:
        lacks = (
            "do not have what they are told yet" if len(one.undelivered) > 1 else "does not have what it is told yet"
        )
        yield f"{', '.join(one.undelivered)} {lacks}"


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


def answer(weighed: Sequence[Weighed], context: Context, *, since: int, asked: str = "") -> str:
    """The whole in one sentence: what the device runs, and why not what was asked for, or what targets it in vain."""
    said = [f"{context.device_id} {runs(context.standpoint.row, since=since)}"]
    given = [one.id for one in weighed if one.verdict is Verdict.APPLIES]
    if given:
        said.append(
            f"its twins get what {', '.join(dict.fromkeys(map(called, given)))} give{'s' * (len(set(given)) == 1)}"
        )
    if asked:
        said += [verdict(one, context) for one in weighed if one.id == asked]
        return "; ".join(said)
    vain = [one for one in weighed if one.verdict in {Verdict.PASSED_OVER, Verdict.UNDECIDED}]
    said += [verdict(one, context) for one in vain[:_OTHERS_MAX]]
    if len(vain) > _OTHERS_MAX:
        said.append(f"{len(vain) - _OTHERS_MAX} more target it in vain")
    others = sum(one.verdict is Verdict.NOT_TARGETED for one in weighed)
    if others:
        said.append(f"{others} other deployment{'s do' if others > 1 else ' does'} not target it")
    return "; ".join(said)
