"""The decider of deployments: it turns a command into an event, or refuses it."""

import datetime as dt
import re
import zoneinfo
from collections.abc import Iterator
from typing import Any, assert_never, get_args

from msgspec import UNSET
from msgspec.structs import replace

from events.decider import CommandAuthor, Decider, Documents, SubjectChange
from events.deployment import state
from events.deployment.commands import (
    ChangeAdmission,
    CreateDeployment,
    DeleteDeployment,
    DeploymentCommand,
    ScheduleDeployment,
    UpdateDeployment,
    Validation,
)
from events.deployment.errors import (
    AdmissionInvalid,
    DeploymentEtagMismatch,
    DeploymentExists,
    DeploymentIdInvalid,
    DeploymentNotFound,
    LabelsInvalid,
    MetricsInvalid,
    PriorityInvalid,
    ScheduleForbidden,
    ScheduleInvalid,
    SchemaVersionInvalid,
)
from events.deployment.events import (
    Admission,
    AdmissionChanged,
    Admitted,
    DeploymentCreated,
    DeploymentDeleted,
    DeploymentEvent,
    DeploymentScheduled,
    DeploymentUpdated,
    Ended,
    Everyone,
    NotStarted,
    Schedule,
)
from events.deployment.state import DeploymentDocument, etag_of
from events.device.errors import DeviceIdInvalid
from events.device.identifiers import check_device_id
from events.manifest.document import ContentKind, kind_of
from events.manifest.errors import ManifestInvalid
from events.manifest.hub_rules import content_problems
from events.manifest.validate import validate
from events.query.condition import parse_condition
from events.query.errors import ConditionInvalid, QueryInvalid
from events.query.module_condition import is_module_condition, parse_module_condition
from events.query.parse import parse as parse_query

# contract/hub.md §1.3
_ID = re.compile(r"[a-z0-9\-+%_*!']{1,128}")
PRIORITY_MAX = 2**31 - 1
METRICS_MAX = 5  # contract/hub.md §6
TIME_MAX = 253_402_214_399_999
"""The end of 30 December 9999, in milliseconds: in every time zone, its year has four digits."""


def check(command: DeploymentCommand) -> None:
    """Refuse a command that is invalid in every state.

    Raises:
        DeploymentIdInvalid, PriorityInvalid, LabelsInvalid, MetricsInvalid, SchemaVersionInvalid, AdmissionInvalid,
        ScheduleInvalid, ConditionInvalid, ManifestInvalid.
    """
    name: Any = command.deployment_id
    check_id(name)
    if isinstance(command, CreateDeployment | UpdateDeployment):
        for value, rule in (
            (command.priority, _check_priority),
            (command.labels, _check_labels),
            (command.metrics, _check_metrics),
            (command.target_condition, _check_condition),
        ):
            # In an update, None keeps a part. A created deployment with null would stop every reader of the log.
            if value is not None or isinstance(command, CreateDeployment):
                rule(name, value)
    if isinstance(command, CreateDeployment | ChangeAdmission) and isinstance(command.admission, Admitted):
        for device_id in command.admission.device_ids:
            try:
                check_device_id(device_id)
            except DeviceIdInvalid as error:
                raise AdmissionInvalid(name, device_id) from error
    if isinstance(command, CreateDeployment | ScheduleDeployment) and command.schedule is not None:
        _check_schedule(name, command.schedule)
    if isinstance(command, CreateDeployment):
        if command.schedule is not None and command.schedule.start_at and command.admission != Everyone():
            raise ScheduleInvalid(name, "start_at", "cannot be combined with `admission`, which applies from the start")
        if not _is_text(command.schema_version):
            raise SchemaVersionInvalid(name, command.schema_version)
        if command.validation is Validation.FULL:
            validate(command.content)
        elif content_faults := content_problems(command.content):
            raise ManifestInvalid(content_faults)
        # Last, because only a valid content has a kind.
        check_condition(command.target_condition, kind_of(command.content))


def check_id(deployment_id: object) -> None:
    """Refuse an invalid deployment id.

    Raises:
        DeploymentIdInvalid: names the rule.
    """
    if not isinstance(deployment_id, str) or not _ID.fullmatch(deployment_id):
        raise DeploymentIdInvalid(deployment_id)


def check_condition(text: str, kind: ContentKind) -> None:
    """Refuse a condition that a deployment of a kind cannot have. Any can have blank text, which targets no device.

    Raises:
        ConditionInvalid: it is invalid, or a condition for another kind.
    """
    if kind is ContentKind.MODULE and text.strip():
        parse_module_condition(text)
    elif is_module_condition(text):
        reason = "a condition FROM devices.modules is only for configurations with moduleContent"
        raise ConditionInvalid(text, column=1, reason=reason)
    else:
        parse_condition(text)


def check_any_condition(text: str) -> None:
    """Refuse a text that is not a condition for any kind.

    Raises:
        ConditionInvalid: with the reason.
    """
    check_condition(text, ContentKind.MODULE if is_module_condition(text) else ContentKind.EDGE)


def decide(
    command: DeploymentCommand, document: DeploymentDocument | None, *, scope: str | None = None
) -> DeploymentEvent | None:
    """Return the event for a checked command; `None` if it changes nothing.

    With a `scope`, deployments of other scopes do not exist. An ended deployment can be admitted again, because only update
    deployments are canceled for good (DESIGN §9).

    Raises:
        DeploymentExists, DeploymentNotFound, DeploymentEtagMismatch, ScheduleForbidden: the current state forbids the command.
        ConditionInvalid: the new condition is for another kind of content.
    """
    name = command.deployment_id
    if isinstance(command, CreateDeployment):
        if document is not None:
            raise DeploymentExists(name)
        waits = command.schedule is not None and command.schedule.start_at
        return DeploymentCreated(
            command.content,
            command.target_condition,
            command.priority,
            command.labels,
            command.metrics,
            command.schema_version,
            NotStarted() if waits else _in_order(command.admission),
            UNSET if scope is None else scope,
            UNSET if command.schedule is None else command.schedule,
        )
    # A deployment of another scope is not found, rather than forbidden (docs/decisions/0018-scopes.md).
    if document is None or scope not in {None, document.scope}:
        raise DeploymentNotFound(name)
    match command:
        case UpdateDeployment(_, condition, if_match=if_match):
            _check_etag(name, if_match, document)
            if condition is not None:
                check_condition(condition, document.kind)
            before = DeploymentUpdated(*(getattr(document, part) for part in DeploymentUpdated.__struct_fields__))
            changes = {part: getattr(command, part) for part in DeploymentUpdated.__struct_fields__}
            # The event has all four parts, so that replaying it needs no earlier event.
            after = replace(before, **{part: value for part, value in changes.items() if value is not None})
            return None if after == before else after
        case ChangeAdmission(_, admission, due_at, late_ms):
            # The scheduler decided with an older state: by now the time may have changed, or an operator was first.
            if due_at is not None and due_at != (document.end_at if admission == Ended() else document.start_at):
                raise ScheduleForbidden(name, "its time was changed, or has already passed")
            if _in_order(admission) == document.admission:
                return None
            return AdmissionChanged(_in_order(admission), UNSET if late_ms is None else late_ms)
        case ScheduleDeployment(_, schedule):
            previous_schedule = Schedule() if document.schedule is UNSET else document.schedule
            if isinstance(document.admission, Ended):
                raise ScheduleForbidden(name, "it has ended; its times can no longer change")
            if not isinstance(document.admission, NotStarted) and schedule.start_at != previous_schedule.start_at:
                raise ScheduleForbidden(name, "it has started; only its end can change")
            return None if schedule == previous_schedule else DeploymentScheduled(schedule)
        case DeleteDeployment():
            _check_etag(name, command.if_match, document)
            return DeploymentDeleted()
        case _:
            assert_never(command)


def _check_schedule(name: str, schedule: Schedule) -> None:
    for element, time in (("start_at", schedule.start_at), ("end_at", schedule.end_at)):
        if not 0 <= time <= TIME_MAX:
            raise ScheduleInvalid(name, element, "must be a time from 1970 to the year 9999, in milliseconds")
    try:
        zone = zoneinfo.ZoneInfo(schedule.zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ScheduleInvalid(name, "zone", "must be a time zone of the IANA database, such as Europe/Berlin") from None
    if schedule.end_at and schedule.end_at <= schedule.start_at:
        start = dt.datetime.fromtimestamp(schedule.start_at / 1000, zone)
        rule = f"must be after `schedule.start_at` ({start:%Y-%m-%d %H:%M} {schedule.zone})"
        raise ScheduleInvalid(name, "end_at", rule)


def _in_order(admission: Admission) -> Admission:
    # Sorted, so that a repeated command with another order changes nothing.
    return Admitted(tuple(sorted(set(admission.device_ids)))) if isinstance(admission, Admitted) else admission


def _check_priority(name: str, priority: object) -> None:
    # bool is an int in Python, and true is no priority.
    if isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority <= PRIORITY_MAX:
        raise PriorityInvalid(name, priority)


def _check_labels(name: str, labels: object) -> None:
    if not isinstance(labels, dict):
        raise LabelsInvalid(name, labels)
    for label, value in labels.items():
        if not (_is_text(label) and _is_text(value)):
            raise LabelsInvalid(name, label)


def _check_metrics(name: str, metrics: object) -> None:
    if not isinstance(metrics, dict):
        raise MetricsInvalid(name, "must be an object of queries by name")
    if len(metrics) > METRICS_MAX:
        raise MetricsInvalid(name, f"must have at most {METRICS_MAX} queries, not {len(metrics)}")
    for metric, query in metrics.items():
        if not (_is_text(metric) and _is_text(query)):
            raise MetricsInvalid(name, f"{str(metric)[:140]!r} must be a text, and its query too")
        try:
            parse_query(query)
        except QueryInvalid as error:
            raise MetricsInvalid(name, f"{metric[:140]!r}: {error}") from error


def _check_condition(name: str, condition: object) -> None:
    if not isinstance(condition, str):
        raise ConditionInvalid(str(condition)[:140], column=1, reason=f"the condition of {name} must be a text")
    check_any_condition(condition)


def _is_text(value: object) -> bool:
    # Half a surrogate pair cannot be stored as UTF-8.
    return isinstance(value, str) and value.encode(errors="replace").decode() == value


def _check_etag(name: str, if_match: str | None, document: DeploymentDocument) -> None:
    if if_match is None:
        return
    # Clients send the etag with and without quotes (contract/hub.md, clients).
    plain = if_match[1:-1] if if_match.startswith('"') and if_match.endswith('"') else if_match
    if plain not in {"*", etag_of(document)}:
        raise DeploymentEtagMismatch(name, expected=if_match, actual=etag_of(document))


def _decide(command: DeploymentCommand, documents: Documents, author: CommandAuthor) -> Iterator[SubjectChange]:
    name = command.deployment_id
    event = decide(command, documents[name], scope=None if author.scope is None else author.scope.text)
    if event is not None:
        yield SubjectChange(name, event)


DECIDER = Decider(
    get_args(DeploymentCommand),
    get_args(DeploymentEvent),
    subjects=lambda command: (command.deployment_id,),
    check=check,
    decide=_decide,
    evolve=lambda document, event, version, at, _: state.evolve(document, event, version=version, at=at),
    decode=lambda _, data: state.decode(data),
    prefixes=("",),
    is_scoped=True,
    names_texts=True,
)
