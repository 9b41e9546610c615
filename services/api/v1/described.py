"""What answers under `/v1` look like, for OpenAPI: handlers write JSON themselves, and tests hold it against this."""

from typing import Any, Literal

from services.api.http.openapi import Answered

Status = Literal["enabled", "disabled"]
Severity = Literal["error", "warning", "info"]
Kept = dict[str, dict[str, Any]]


class DevicePage(Answered):
    """Device ids, and where the next page begins; `null` after the last."""

    devices: list[str]
    continuation: str | None


class Runs(Answered):
    """What a device has now: the deployments of its configuration, the base first; none where it is by hand or restored."""

    standing: Literal["managed", "unmanaged", "held back", "by hand", "restored", "nothing"]
    deployments: list[str]
    configuration: str


class RolloutDevice(Answered):
    """How a device stands with a rollout, and why; `not_back` says why a rollback did not bring it back, if it did not."""

    device_id: str
    state: Literal["healthy", "already", "failed", "silent", "pending", "outranked", "notApplied", "notAdmitted"]
    reason: str
    not_back: str | None
    runs: Runs


class RolloutDevicesPage(Answered):
    """Devices of a rollout, and where the next page begins; `null` after the last."""

    devices: list[RolloutDevice]
    continuation: str | None


class Times(Answered):
    """When a deployment starts and ends: in milliseconds, and as RFC 3339 in its time zone; `null` is not set."""

    start_at: int | None
    end_at: int | None
    start: str | None
    end: str | None
    zone: str


Admission = Literal["NotStarted", "Everyone", "Admitted", "Phased", "Ended"]


class DeploymentLine(Answered):
    """A deployment in a list. `rollout` is the state of its rollout, and `says` who may receive it as of now."""

    id: str
    priority: int
    layered: bool
    kind: Literal["edge", "device", "module"]
    target_condition: str
    scope: str | None
    labels: dict[str, str]
    counts: dict[str, int]
    admission: Admission
    schedule: Times | None
    rollout: str | None
    says: str


class Tallied(Answered):
    """Whom a rollout was judged on (docs/guides/rollouts.md); each number is that of a list."""

    target: int
    admitted: int
    counted: int
    healthy: int
    already: int
    failed: int
    timed_out: int
    silent: int
    pending: int
    outranked: int
    not_applied: int


class RolloutLine(Answered):
    """A rollout in a list; `phase` counts from 1.

    `counts` of one whose deployment has ended are those of its end; they are `null` where it is over and its devices keep it.
    """

    id: str
    state: str
    phase: int
    phases: int
    counts: Tallied | None
    says: str


class Standalone(DeploymentLine):
    """A deployment by itself; times in milliseconds."""

    rolled_out: RolloutLine | None
    created_at: int
    updated_at: int
    etag: str


class PlanText(Answered):
    """What a rollout does by itself, a sentence each: when it proceeds, when it stops, and what happens then."""

    proceeds: str
    stops: str
    then: str


class RolloutPhase(Answered):
    """A phase: whom it is for, its gate, and what became of it, with the reason.

    `passed` is one that did; one that was open when the rollout ended says how that ended. `counts` are those that it passed or
    ended with, or as they are now.
    """

    number: int
    name: str
    admits: str
    gate: dict[str, float]
    approval: bool
    approved: bool
    state: Literal["waiting", "open", "passed", "not opened", "aborted", "rolling back", "rolled back", "halted"]
    reason: str | None
    counts: Tallied | None


class Act(Answered):
    """Something that happened to a rollout; `at` is in milliseconds, `position` one of the fleet's stream."""

    position: int
    at: int
    by: str
    act: str
    reason: str | None
    phase: int | None
    count: int | None
    counts: Tallied | None


class Cited(Answered):
    """What the last act was taken on that was judged: counts, and the positions of all partitions as they were read."""

    act: str
    at: int
    counts: Tallied
    as_of: "list[AsOf]"


class RolloutAnswer(Answered):
    """A rollout. `rollback` is the deployment that it goes back to, made for that; times in milliseconds, 0 for not yet.

    Once its deployment has ended, `counts` and the numbers of devices by reason are those of that moment; `not_back` are the
    devices that a rollback did not bring back.
    """

    id: str
    state: str
    says: str
    plan_text: PlanText
    author: str
    phase: int
    phases: list[RolloutPhase]
    counts: Tallied
    plan: dict[str, Any]
    created_at: int
    started_at: int
    changed_at: int
    reason: str
    rollback: str | None
    back_to: str | None
    failed_by: dict[str, int]
    not_applied_by: dict[str, int]
    not_back: dict[str, int]
    evidence: Cited | None
    history: list[Act]


class AsOf(Answered):
    """The positions of the device's partition and of the fleet that an answer was folded to."""

    partition: int
    fleet: int


class OwnLine(Answered):
    """The configurations that give the device's own twin something, ascending, and how often that changed, from 1."""

    version: int
    layers: list[str]


class ModuleLine(OwnLine):
    """The same of one module, and why it is not what they should give, if so."""

    reason: str | None


class OwnPart(OwnLine):
    """What they give, and why it is not what they should give, if so."""

    desired: dict[str, Any]
    reason: str | None


class EffectiveConfiguration(Answered):
    """What a device should run. `versions` has each module's `$version`; `since` is in milliseconds, `cause` a position.

    `device` is for its own twin, and left out where no configuration ever gave that anything; `byModule` has what is given
    by configurations of single modules, which is part of `modules` and `versions`.
    """

    device_id: str
    managed: bool
    standing: Literal["managed", "unmanaged", "held back", "by hand", "restored"]
    reason: str | None
    layers: list[str]
    versions: dict[str, int]
    configuration: str
    modules: Kept
    device: OwnPart | None = None
    by_module: dict[str, ModuleLine] | None = None
    outcome: int
    since: int
    cause: str
    as_of: AsOf


class PassedOver(Answered):
    """A deployment that targets a device in vain."""

    deployment: str
    why: str
    by: str | None


class PassedOverList(Answered):
    """All of a device's."""

    device_id: str
    passed_over: list[PassedOver]


class Change(Answered):
    """A change of a device's assignment."""

    outcome: int
    at: int
    standing: str
    layers: list[str]
    configuration: str
    versions: dict[str, int]
    device: OwnLine | None = None
    by_module: dict[str, ModuleLine] | None = None


class ChangeList(Answered):
    """All of a device's, oldest first."""

    device_id: str
    outcomes: list[Change]


class Section(Answered):
    """A module's desired properties and their version."""

    desired: dict[str, Any]
    version: int


class Desired(Answered):
    """What a device should run, and each change since the version it asked with."""

    device_id: str
    version: str
    changes: list[Change]
    modules: dict[str, Section]
    device: OwnPart | None = None
    by_module: dict[str, ModuleLine] | None = None


class ModuleStatus(Answered):
    """What a module should be and what it is; `null` where nobody says."""

    desired: str | None
    runtime_status: str | None


class ModuleStatuses(Answered):
    """All of a device's."""

    device_id: str
    modules: dict[str, ModuleStatus]


class Conflict(Answered):
    """A property that deployments disagree on."""

    module: str
    path: str
    winner: str
    losers: list[str]


class ConflictList(Answered):
    """All of a device's."""

    device_id: str
    conflicts: list[Conflict]


class Advice(Answered):
    """What an author should know; `about` names another deployment, or is empty."""

    rule: str
    message: str
    about: str


class Finding(Answered):
    """Something that a rule of readiness stopped at; `pointer` leads to it in the document, or in the merge of several."""

    rule: str
    severity: Severity
    module: str
    document: str
    pointer: str
    message: str
    fingerprint: str
    fixable: bool


class WaiverLine(Answered):
    """A waiver. `until` is its last day (UTC), `who` granted it last, at `grantedAt` (milliseconds)."""

    id: str
    rule: str
    module: str | None
    deployment: str | None
    reason: str
    until: str
    who: str
    granted_at: int
    expired: bool


class WaivedFinding(Answered):
    """A finding that may stand, and the decision."""

    finding: Finding
    waiver: WaiverLine


class Readiness(Answered):
    """What a check found, the worst first; `expired` waivers do not count any more, `unknownLabels` say nothing known."""

    profile: str
    findings: list[Finding]
    waived: list[WaivedFinding]
    expired: list[WaiverLine]
    unknown_labels: list[str]


class DeviceReadiness(Readiness):
    """Of one device. `document` is the deployment that wrote the element, or the device where that is not known."""

    device_id: str


class RuleLine(Answered):
    """How many devices a rule stops at, and what share of the fleet (0 to 1); some findings of `waived` ones may stand."""

    rule: str
    title: str
    severity: Severity
    devices: int
    share: float
    waived: int


class Score(Answered):
    """The fleet by rule, the worst first; `devices` are all there are."""

    profile: str
    devices: int
    rules: list[RuleLine]
    expired: list[WaiverLine]


class Created(Answered):
    """A deployment stands; `readiness` is that of its content by itself, left out where nothing was created.

    `targeted` is how many devices (of a configuration of modules: modules) it targets now; null where workers are behind.
    `plan_text` is there where it was created together with a rollout.
    """

    id: str
    targeted: int | None
    advice: list[Advice]
    readiness: Readiness | None = None
    plan_text: PlanText | None = None


class Counts(Answered):
    """How many devices are in each status."""

    id: str
    counts: dict[str, int]


class Sample(Answered):
    """Counts by status and rows by custom metric at a time, in milliseconds."""

    at: int
    counts: dict[str, int]
    metrics: dict[str, int]


class Series(Answered):
    """The course of a deployment, oldest first."""

    id: str
    samples: list[Sample]
