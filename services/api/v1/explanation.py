"""An explanation as JSON; secrets show as `***`."""

from typing import Any, get_args

from events.canonical import JsonObject
from events.log.keys import name as stream_name
from events.rollout.facts import RolloutFact
from events.rollout.turn import Turn
from events.secrets.references import mask
from events.targeting.judged import Judged
from events.targeting.tree import And, Comparison, Everyone, IsDefined, Nobody, Not, Or, printed, printed_path
from events.update.names import carried, is_carrier
from events.view_store.explaining import Explanation
from events.view_store.fleet_view import Effective
from events.view_store.port import Blocked
from events.views import telling
from events.views.explained import Contest, Led, Obstacle, Weighed

OF_ROLLOUTS = frozenset(kind.__name__ for kind in get_args(RolloutFact))
"""Acts that tell how a rollout goes, and with it of devices."""


def device_shape(found: Explanation, context: telling.Context, weighed: tuple[Weighed, ...], asked: str) -> JsonObject:
    """What is said of the device itself."""
    at, effective, document = found.standpoint, found.effective, found.document
    return {
        "deviceId": found.device_id,
        "says": _says(found, context, weighed, asked),
        "state": "retired" if document.retired else "registered" if effective is None else "known",
        "edgeCapable": document.edge,
        "enabled": document.enabled,
        "runs": None if effective is None else _runs(found, effective, context),
        "asOf": {
            "stream": stream_name(at.number),
            "partition": at.vector.partition,
            "fleet": at.vector.fleet,
            "heads": {"partition": at.head.partition, "fleet": at.head.fleet},
            "isBehind": at.is_behind,
            "blocked": None if found.blocked is None else _blocked(found.blocked, context),
        },
        "contests": [_contest(one) for one in found.contests],
        "reported": None if found.reported.at < 0 else _reported(found),
        "facts": [_fact(one) for one in found.led_to_device()],
        "undecided": [_fact(one) for one in found.undecided()],
        "lookedBackTo": found.traced.back_to,
    }


def _says(found: Explanation, context: telling.Context, weighed: tuple[Weighed, ...], asked: str) -> str:
    said = []
    if found.document.retired:
        said.append(telling.retired(found.device_id, found.retired))
    elif found.effective is None:
        said.append(telling.unknown(context, found.registered))
        said += [telling.verdict(one, context) for one in weighed if one.id == asked]
    else:
        said.append(telling.answer(weighed, context, since=found.effective.since, asked=asked))
    if not found.document.enabled and not found.document.retired:
        said.append("it is disabled, so that it cannot fetch anything")
    if found.blocked is not None:
        said.append(telling.blocked(found.standpoint, stream_name(found.blocked.stream), found.blocked.position))
    return "; ".join(said)


def _runs(found: Explanation, effective: Effective, context: telling.Context) -> JsonObject:
    row, change = effective.row, found.change

    def tells(name: str, act: str) -> bool:
        return act not in OF_ROLLOUTS or context.tells_rollout(name)

    return {
        "standing": row.standing.value,
        "reason": row.reason or None,
        "layers": [layer.id for layer in row.stack],
        "wanted": [layer.id for layer in row.wanted],
        "before": [layer.id for layer in change.was.stack],
        "since": effective.since,
        "outcome": effective.outcome,
        "cause": effective.cause,
        "ledBy": [_fact(one) for one in found.led_to_change(tells)],
    }


def _blocked(one: Blocked, context: telling.Context) -> JsonObject:
    # What stops a partition can be about a device that whoever is scoped does not reach.
    error = None if context.is_scoped else one.error
    return {"at": f"{stream_name(one.stream)}:{one.position}", "since": one.at, "error": error}


def _reported(found: Explanation) -> JsonObject:
    one = found.reported
    names = sorted({**one.desired, **one.modules})
    return {
        "says": telling.reported(one),
        "at": one.at,
        "version": one.version,
        "wantedVersion": one.wanted,
        "code": one.code,
        "description": one.description or None,
        "standing": one.standing,
        "hub": None
        if one.hub is None
        else {"version": one.hub.version, "wantedVersion": one.hub.wanted, "code": one.hub.code},
        "undelivered": list(one.undelivered),
        "stale": one.is_stale,
        "modules": {name: {"desired": one.desired.get(name), "runtimeStatus": one.modules.get(name)} for name in names},
    }


def line_shape(one: Weighed, context: telling.Context, led: tuple[Led, ...]) -> JsonObject:
    """One verdict, with the facts that led to it."""
    known, turn_ = context.deployments[one.id], context.turns.get(one.id)
    group = carried(one.id) if is_carrier(one.id) else None
    why = "" if one.obstacle is None else telling.because(one, context)
    return {
        "id": one.id,
        "group": None if group is None else group[0],
        "module": one.module or None,
        "kind": one.kind.name.lower(),
        "layered": one.layered,
        "priority": one.priority,
        "verdict": one.verdict.value,
        "says": telling.verdict(one, context, why=why),
        "because": why or None,
        "layer": one.place or None,
        "obstacle": _obstacle(one.obstacle),
        "ifTargeted": _obstacle(one.then),
        "targeted": one.targeted,
        "appliedCount": telling.is_counted(one, known),
        "notes": list(telling.notes(one, known)),
        "turn": None if turn_ is None else _turn(turn_),
        "targetCondition": known.document.target_condition,
        "condition": None if one.condition is None else _tree(one.condition),
        "scope": None if one.scope is None or isinstance(one.scope.term, Everyone) else _tree(one.scope),
        "facts": [_fact(fact) for fact in led],
    }


def _turn(one: Turn) -> JsonObject:
    return {
        "state": one.state,
        "phase": one.phase,
        "phases": one.phases,
        "admitted": one.admitted,
        "comesWith": one.comes_with or None,
        "place": None if one.order is None else one.order.place,
        "of": None if one.order is None else one.order.of,
        "waits": one.waits,
    }


def _obstacle(one: Obstacle | None) -> JsonObject | None:
    return None if one is None else {"reason": one.reason.value, "by": one.by or None}


def _fact(one: Led) -> JsonObject:
    return {
        "stream": one.stream,
        "position": one.position,
        "at": one.at,
        "by": one.by,
        "act": one.act,
        "cause": one.cause or None,
        "says": one.says,
    }


_TRUTHS = {True: "true", False: "false", None: "unknown"}


def _tree(judged: Judged) -> JsonObject:
    term = judged.term
    shown: JsonObject = {"text": printed(term) or "(nobody)", "truth": _TRUTHS[judged.truth]}
    match term:
        case And() | Or():
            joined = "and" if isinstance(term, And) else "or"
            return {**shown, joined: [_tree(one) for one in judged.terms]}
        case Not():
            return {**shown, "not": _tree(judged.terms[0])}
        case Comparison(path, op, literal):
            return {**shown, "property": printed_path(path), "operator": op.value, "wanted": literal, **_found(judged)}
        case IsDefined(path):
            return {**shown, "property": printed_path(path), "operator": "is_defined", **_found(judged)}
        case Everyone() | Nobody():
            return shown


def _found(judged: Judged) -> JsonObject:
    value: Any = judged.value
    return {"found": judged.found, "value": mask(value), "comparable": judged.comparable}


def _contest(one: Contest) -> JsonObject:
    winner, *losers = ({"deployment": side.deployment, "value": mask(side.value)} for side in (one.winner, *one.losers))
    return {"module": one.module, "path": one.path, "winner": winner, "losers": losers}
