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


class AsOf(Answered):
    """The positions of the device's partition and of the fleet that an answer was folded to."""

    partition: int
    fleet: int


class ModuleStatus(Answered):
    """What a module should be and what it is; `null` where nobody says."""

    desired: str | None
    runtime_status: str | None


class Conflict(Answered):
    """A property that deployments disagree on."""

    module: str
    path: str
    winner: str
    losers: list[str]


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
