"""Sentences about events: who did what to which subject. No sentence has the value of a property or a secret."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from events.canonical import JsonObject
from events.envelope import Envelope
from events.log.keys import name as name_of
from events.log.port import ASSIGNMENT_CHANGE, UNREADABLE
from events.number_text import counted

NAMES_SHOWN = 5
_TEXT_MAX = 200

_UNSHOWN = frozenset({"content", "devices", "evidence", "failed", "not_back", "pool", "results", "vectors"})
"""Members that no sentence uses: manifests and sets of devices, which would be converted for nothing."""


def text_of(envelope: Envelope[Any]) -> str:
    """The sentence about an event, without its time."""
    event = envelope.event
    data = {
        member: msgspec.to_builtins(value)
        for member in event.__struct_fields__
        if member not in _UNSHOWN and (value := getattr(event, member)) is not UNSET
    }
    return event_text(type(event).__name__, subject=envelope.subject, by=str(envelope.by), data=data)


def event_text(kind: str, *, subject: str, by: str, data: JsonObject) -> str:
    """The sentence about an entry, without its time: `user:ada changed tags of edge1: site`. `data` has its secrets masked."""
    if kind == UNREADABLE:
        return "an entry that this version cannot read"
    if kind == ASSIGNMENT_CHANGE:
        return _assignment_change(subject, data)
    form = EVENT_TEXTS.get(kind, f"wrote {kind} of {{subject}}")
    subject = _without_prefix(subject)
    return f"{by} {_filled(form, subject, data) if isinstance(form, str) else form(subject, data)}"


def _without_prefix(subject: str) -> str:
    """`rollout:prod` -> `prod`; the id of a device or deployment as it is."""
    for prefix in ("rollout:", "policy:", "token:", "waiver:", "webhook:", "update:", "group:"):
        if subject.startswith(prefix):
            return subject.removeprefix(prefix)
    return subject


def _filled(form: str, subject: str, data: JsonObject) -> str:
    """A text whose placeholders are members of the event, followed by the event's reason."""
    members = {name: _cut(value) if isinstance(value, str) else value for name, value in data.items()}
    members |= {
        "subject": subject,
        "count": counted(data.get("count", 0), "device"),
        "phase": data.get("phase", 0) + 1,
        "condition": _cut(data.get("target_condition") or "no device"),
        "location": f"{name_of(data['stream'])}:{data['position']}" if "stream" in data else "",
    }
    text = form.format_map(defaultdict(lambda: None, members))
    reason = data.get("reason") or data.get("why")
    return f"{text}: {_cut(str(reason))}" if reason else text


# -- texts that depend on more than placeholders


def _registered(subject: str, data: JsonObject) -> str:
    kind = "edge device" if data.get("edge", True) else "device"
    return f"registered {kind} {subject}{'' if data.get('enabled', True) else ', disabled'}{_parent(data)}"


def _identity(subject: str, data: JsonObject) -> str:
    return f"changed the identity of {subject}: {'enabled' if data.get('enabled') else 'disabled'}{_parent(data)}"


def _parent(data: JsonObject) -> str:
    return f", with the parent {_cut(str(data['parent_scope']))}" if data.get("parent_scope") else ""


def _twin(subject: str, data: JsonObject) -> str:
    parts = [
        f"{what} of {subject}: {_members(data[part])}"
        for part, what in (("tags", "tags"), ("desired", "desired properties"))
        if data.get(part) is not None
    ]
    return "changed " + (" and ".join(parts) or f"nothing of {subject}")


def _members(value: Any) -> str:
    names = sorted(value) if isinstance(value, dict) else []
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return _cut(", ".join(names[:NAMES_SHOWN]) + more) or "nothing"


def _admission(subject: str, data: JsonObject) -> str:
    admission = data.get("admission", {})
    text = {
        "NotStarted": f"kept deployment {subject} from starting",
        "Everyone": f"opened deployment {subject} to all it targets",
        "Admitted": f"opened deployment {subject} to {counted(len(admission.get('device_ids', ())), 'named device')}",
        "Ended": f"ended deployment {subject}",
        "Kept": f"closed deployment {subject} to devices that do not have it",
    }
    return text.get(admission.get("type", ""), f"changed which devices may receive deployment {subject}")


def _token(_subject: str, data: JsonObject) -> str:
    within = f" within {_cut(data['scope'])}" if data.get("scope") else ""
    return f"issued a token to {data.get('name')} as {data.get('role')}{within}"


def _secrets_read(_subject: str, data: JsonObject) -> str:
    subjects = list(data.get("subjects", ()))
    more = data.get("count", len(subjects)) - len(subjects[:NAMES_SHOWN])
    named = ", ".join(subjects[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return f"read {data.get('what')} of {named} by {data.get('through')}"


def _assignment_change(subject: str, data: JsonObject) -> str:
    moves = data.get("moves", ())
    count = sum(move["count"] for move in moves)
    texts = []
    for move in moves[:NAMES_SHOWN]:
        before, after = _stack(move["before"]), _stack(move["after"])
        if before == after:
            texts.append(f"{move['count']} another version or reason of {after}")
        else:
            texts.append(f"{move['count']} from {before} to {after}")
    more = f", and {len(moves) - NAMES_SHOWN} more changes" if len(moves) > NAMES_SHOWN else ""
    were = "was" if count == 1 else "were"
    return f"{subject}: {counted(count, 'device')} {were} assigned anew: {'; '.join(texts)}{more}"


def _stack(assignment: JsonObject) -> str:
    layers = assignment.get("layers") or ()
    return " + ".join(layers) if layers else str(assignment.get("status", "nothing"))


EVENT_TEXTS: Mapping[str, str | Callable[[str, JsonObject], str]] = {
    "DeviceRegistered": _registered,
    "DeviceUpdated": _identity,
    "DeviceRetired": "retired device {subject}",
    "ModuleCreated": "created module {module_id} of {subject}",
    "ModuleUpdated": "changed the identity of module {module_id} of {subject}",
    "ModuleDeleted": "deleted module {module_id} of {subject}",
    "TwinPatched": _twin,
    "TwinReplaced": "replaced tags and desired properties of {subject}",
    "ConfigurationSet": "set a configuration on {subject} by hand",
    "DesiredDelivered": lambda subject, data: f"acknowledged sections of {subject}: {_members(data.get('versions'))}",
    "PropertiesReported": lambda subject, data: f"reported properties of {subject}: {_members(data.get('patch'))}",
    "DeploymentCreated": "created deployment {subject} for {condition}, priority {priority}",
    "DeploymentUpdated": "changed deployment {subject}: for {condition}, priority {priority}",
    "AdmissionChanged": _admission,
    "DeploymentScheduled": "changed the times of deployment {subject}",
    "DeploymentDeleted": "deleted deployment {subject}",
    "RolloutCreated": lambda subject, data: (
        f"planned a rollout of {subject} in {counted(len(data.get('plan', {}).get('phases', ())), 'phase')}"
    ),
    "RolloutStarted": "started the rollout of {subject}",
    "RolloutPaused": "paused the rollout of {subject}",
    "RolloutResumed": "resumed the rollout of {subject}",
    "PhaseApproved": "approved phase {phase} of the rollout of {subject}",
    "PhaseOpened": "opened phase {phase} of the rollout of {subject}",
    "PhasePassed": "passed phase {phase} of the rollout of {subject}",
    "DevicesAdmitted": "admitted {count} in phase {phase} of the rollout of {subject}",
    "SoakBegan": "began to watch the open phase of {subject}: its gate holds",
    "SoakBroken": "began to wait again in the open phase of {subject}: its gate no longer holds",
    "RetryAsked": "asked failed devices of {subject} to retry",
    "DevicesRetried": "had {count} of {subject} retry",
    "RollbackAsked": "asked for {subject} to be rolled back",
    "ResultsRecorded": "recorded the results of {subject}",
    "RollbackBegan": "began to roll {subject} back",
    "RollbackEnded": lambda subject, data: _filled(
        f"{'finished' if data.get('succeeded') else 'gave up'} the rollback of {{subject}}", subject, data
    ),
    "RolloutAborted": "aborted the rollout of {subject}",
    "RolloutDeleted": "deleted the rollout of {subject}",
    "RolloutCompleted": "completed the rollout of {subject}",
    "UpdateImported": "imported update {subject}",
    "UpdateDeleted": "deleted update {subject}",
    "GroupDefined": lambda subject, data: (
        f"defined group {subject}: {_cut(data.get('condition') or 'the devices that are tagged with it')}"
    ),
    "GroupRemoved": "removed group {subject}",
    "UpdateDeployed": "made deployment {deployment} of group {subject}",
    "UpdateDeploymentCanceled": "canceled deployment {deployment} of group {subject}",
    "UpdateDeploymentRetried": "had failed devices retry deployment {deployment} of group {subject}",
    "UpdateDeploymentDeleted": "deleted deployment {deployment} of group {subject}",
    "PolicyDefined": lambda subject, data: f"gave policy {subject} keys and {', '.join(data.get('permissions', ()))}",
    "PolicyDeleted": "deleted policy {subject}",
    "TokenIssued": _token,
    "TokenRevoked": "revoked token {subject}",
    "SecretsRead": _secrets_read,
    "WaiverGranted": "waived findings by {subject}",
    "WaiverWithdrawn": "withdrew waiver {subject}",
    "WebhookDefined": "pointed webhook {subject} at {url}",
    "WebhookPaused": "paused webhook {subject}",
    "WebhookResumed": "resumed webhook {subject}",
    "WebhookDeleted": "deleted webhook {subject}",
    "LogInitialised": "made the log, with {partitions} partitions",
    "BlockResolved": "skipped {location}",
    "BlockRetried": "retried {location}",
    "SecretsErased": lambda _subject, data: (
        f"destroyed {counted(len(data.get('ids', ())), 'secret')} of {data.get('of')}: {_cut(data.get('reason', ''))}"
    ),
}
"""What the author of an event did, by the event's type. A text with placeholders is followed by the event's reason."""


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_MAX else f"{text[: _TEXT_MAX - 1]}…"
