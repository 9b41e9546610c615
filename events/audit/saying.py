"""Facts in sentences: who did what to whom. No value of a property and no secret is in any of them."""

from collections.abc import Callable, Mapping
from typing import Any

from events.canonical import JsonObject
from events.log.keys import name
from events.log.kinds import OUTCOME, UNREADABLE
from events.wording import counted

NAMES_SHOWN = 5
_TEXT_MAX = 200

Say = Callable[[str, JsonObject], str]


def sentence(kind: str, *, subject: str, by: str, data: JsonObject) -> str:
    """What happened, without the time: `user:ada changed tags of edge1: site`. `data` is as it is shown, secrets masked."""
    if kind == UNREADABLE:
        return "an entry that this version cannot read"
    if kind == OUTCOME:
        return _outcome(subject, data)
    say = SENTENCES.get(kind)
    return f"{by} " + (f"wrote {kind} of {subject}" if say is None else say(_bare(subject), data))


def _bare(subject: str) -> str:
    """`rollout:prod` -> `prod`; devices and deployments are called as they are."""
    for prefix in ("rollout:", "policy:", "token:", "waiver:", "webhook:", "update:", "group:"):
        if subject.startswith(prefix):
            return subject.removeprefix(prefix)
    return subject


def _twin(subject: str, data: JsonObject) -> str:
    parts = [
        f"{what} of {subject}: {_members(data[part])}"
        for part, what in (("tags", "tags"), ("desired", "desired properties"))
        if data.get(part) is not None
    ]
    return "changed " + (" and ".join(parts) or f"nothing of {subject}")


def _created(subject: str, data: JsonObject) -> str:
    condition = data.get("target_condition") or "nobody"
    return f"created deployment {subject} for {_cut(condition)}, priority {data.get('priority', 0)}"


def _updated(subject: str, data: JsonObject) -> str:
    condition = data.get("target_condition") or "nobody"
    return f"changed deployment {subject}: for {_cut(condition)}, priority {data.get('priority')}"


def _admission(subject: str, data: JsonObject) -> str:
    tag = data.get("admission", {}).get("type", "")
    said = {
        "NotStarted": f"kept deployment {subject} from starting",
        "Everyone": f"opened deployment {subject} to all it targets",
        "Admitted": f"opened deployment {subject} to {_named(data)}",
        "Ended": f"ended deployment {subject}",
        "Kept": f"closed deployment {subject} to all but who has it",
    }
    return said.get(tag, f"changed who may receive deployment {subject}")


def _named(data: JsonObject) -> str:
    return counted(len(data.get("admission", {}).get("device_ids", ())), "named device")


def _rollback_ended(subject: str, data: JsonObject) -> str:
    return _because("finished the rollback of {}" if data.get("succeeded") else "gave up the rollback of {}")(
        subject, data
    )


def _token(_subject: str, data: JsonObject) -> str:
    within = f" within {_cut(data['scope'])}" if data.get("scope") else ""
    return f"issued a token to {data.get('name')} as {data.get('role')}{within}"


def _secrets_read(_subject: str, data: JsonObject) -> str:
    some = list(data.get("subjects", ()))
    more = data.get("count", len(some)) - len(some[:NAMES_SHOWN])
    named = ", ".join(some[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return f"read {data.get('what')} of {named} by {data.get('through')}"


def _outcome(subject: str, data: JsonObject) -> str:
    moves = data.get("moves", ())
    count = sum(move["count"] for move in moves)
    said = []
    for move in moves[:NAMES_SHOWN]:
        before, after = _stack(move["before"]), _stack(move["after"])
        if before == after:
            said.append(f"{move['count']} another version or reason of {after}")
        else:
            said.append(f"{move['count']} from {before} to {after}")
    more = f", and {len(moves) - NAMES_SHOWN} more changes" if len(moves) > NAMES_SHOWN else ""
    return f"{subject}: {counted(count, 'device')} {'was' if count == 1 else 'were'} assigned anew: {'; '.join(said)}{more}"


def _stack(row: JsonObject) -> str:
    layers = row.get("layers") or ()
    return " + ".join(layers) if layers else str(row.get("standing", "nothing"))


def _because(verb: str) -> Say:
    def say(subject: str, data: JsonObject) -> str:
        reason = data.get("reason") or data.get("why")
        return f"{verb.format(subject)}{f': {_cut(str(reason))}' if reason else ''}"

    return say


def _blocked(verb: str) -> Say:
    def say(_subject: str, data: JsonObject) -> str:
        return f"{verb} {name(data['stream'])}:{data['position']}: {_cut(data.get('reason', ''))}"

    return say


def _phase(verb: str) -> Say:
    def say(subject: str, data: JsonObject) -> str:
        reason = f": {_cut(str(data['reason']))}" if data.get("reason") else ""
        return f"{verb} phase {data.get('phase', 0) + 1} of the rollout of {subject}{reason}"

    return say


def _parent(data: JsonObject) -> str:
    return f", with the parent {_cut(str(data['parent_scope']))}" if data.get("parent_scope") else ""


def _module(verb: str) -> Say:
    return lambda subject, data: f"{verb} module {data.get('module_id')} of {subject}"


def _of_update(verb: str) -> Say:
    def say(subject: str, data: JsonObject) -> str:
        reason = f": {_cut(str(data['reason']))}" if data.get("reason") else ""
        return f"{verb} deployment {data.get('deployment')} of group {subject}{reason}"

    return say


SENTENCES: Mapping[str, Say] = {
    "DeviceRegistered": lambda subject, data: (
        f"registered {'edge ' if data.get('edge', True) else ''}device {subject}"
        f"{'' if data.get('enabled', True) else ', disabled'}{_parent(data)}"
    ),
    "DeviceUpdated": lambda subject, data: (
        f"changed the identity of {subject}: {'enabled' if data.get('enabled') else 'disabled'}{_parent(data)}"
    ),
    "DeviceRetired": _because("retired device {}"),
    "ModuleCreated": _module("created"),
    "ModuleUpdated": _module("changed the identity of"),
    "ModuleDeleted": _module("deleted"),
    "TwinPatched": _twin,
    "TwinReplaced": lambda subject, _data: f"replaced tags and desired properties of {subject}",
    "ConfigurationSet": _because("set a configuration on {} by hand"),
    "DesiredDelivered": lambda subject, data: f"acknowledged of {subject}: {_members(data.get('versions'))}",
    "PropertiesReported": lambda subject, data: f"reported of {subject}: {_members(data.get('patch'))}",
    "DeploymentCreated": _created,
    "DeploymentUpdated": _updated,
    "AdmissionChanged": _admission,
    "DeploymentScheduled": _because("changed the times of deployment {}"),
    "DeploymentDeleted": _because("deleted deployment {}"),
    "RolloutCreated": lambda subject, data: (
        f"planned a rollout of {subject} in {counted(len(data.get('plan', {}).get('phases', ())), 'phase')}"
    ),
    "RolloutStarted": _because("started the rollout of {}"),
    "RolloutPaused": _because("paused the rollout of {}"),
    "RolloutResumed": _because("resumed the rollout of {}"),
    "PhaseApproved": _phase("approved"),
    "PhaseOpened": _phase("opened"),
    "PhasePassed": _phase("passed"),
    "DevicesAdmitted": lambda subject, data: f"admitted {counted(data.get('count', 0), 'device')} to {subject}",
    "SoakBegan": _because("began to watch the open phase of {}: its gate holds"),
    "SoakBroken": _because("began to wait again in the open phase of {}: its gate no longer holds"),
    "RetryAsked": _because("asked failed devices of {} to try again"),
    "DevicesRetried": lambda subject, data: f"had {counted(data.get('count', 0), 'device')} of {subject} try again",
    "RollbackAsked": _because("asked for {} to be rolled back"),
    "ResultsRecorded": _because("recorded how the devices stood with {}"),
    "RollbackBegan": _because("began to roll {} back"),
    "RollbackEnded": _rollback_ended,
    "RolloutAborted": _because("aborted the rollout of {}"),
    "RolloutDeleted": _because("deleted the rollout of {}"),
    "RolloutCompleted": _because("completed the rollout of {}"),
    "UpdateImported": _because("imported update {}"),
    "UpdateDeleted": _because("deleted update {}"),
    "GroupDefined": lambda subject, data: (
        f"said who is in group {subject}: {_cut(data.get('condition') or 'whoever is tagged so')}"
    ),
    "GroupRemoved": _because("removed group {}"),
    "UpdateDeployed": _of_update("made"),
    "UpdateDeploymentCanceled": _of_update("canceled"),
    "UpdateDeploymentRetried": _of_update("had failed devices retry"),
    "UpdateDeploymentDeleted": _of_update("deleted"),
    "PolicyDefined": lambda subject, data: f"gave policy {subject} keys and {', '.join(data.get('rights', ()))}",
    "PolicyDeleted": _because("deleted policy {}"),
    "TokenIssued": _token,
    "TokenRevoked": _because("revoked token {}"),
    "SecretsRead": _secrets_read,
    "WaiverGranted": _because("waived findings by {}"),
    "WaiverWithdrawn": _because("withdrew waiver {}"),
    "WebhookDefined": lambda subject, data: f"pointed webhook {subject} at {_cut(data.get('url', ''))}",
    "WebhookPaused": _because("paused webhook {}"),
    "WebhookResumed": _because("resumed webhook {}"),
    "WebhookDeleted": _because("deleted webhook {}"),
    "LogInitialised": lambda _subject, data: f"made the log, with {data.get('partitions')} partitions",
    "BlockResolved": _blocked("decided to go on without"),
    "SecretsErased": lambda _subject, data: (
        f"destroyed {counted(len(data.get('ids', ())), 'secret')} of {data.get('of')}: {_cut(data.get('reason', ''))}"
    ),
    "BlockRetried": _blocked("had another try at"),
}
"""By the type of a fact: what its author did."""


def _members(value: Any) -> str:
    names = sorted(value) if isinstance(value, dict) else []
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return _cut(", ".join(names[:NAMES_SHOWN]) + more) or "nothing"


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_MAX else f"{text[: _TEXT_MAX - 1]}…"
