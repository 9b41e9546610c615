"""What answers under `/v1` look like, for OpenAPI: handlers write JSON themselves, and tests hold it against this."""

from typing import Any, Literal

from services.api.http.openapi import Answered

Status = Literal["enabled", "disabled"]
Severity = Literal["error", "warning", "info"]
Kept = dict[str, dict[str, Any]]


class Me(Answered):
    """The caller. `role` is null unless a token was shown, `scope` where the caller is not limited to one.

    `expires_at` is when the token ends (milliseconds since 1970), null where it does not.
    """

    principal: str
    role: str | None
    rights: list[str]
    scope: str | None
    expires_at: int | None


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


class PersonalTags(Answered):
    """The personal tags of a device in plain, by path; `erased` are the paths whose values were destroyed."""

    device_id: str
    tags: dict[str, str]
    erased: list[str]


class Stopped(Answered):
    """A place that partitions are stopped at, since a time in milliseconds, and how many facts each has behind it.

    One that is not `decidable` waits for facts that are missing, and goes on by itself when they are back.
    """

    place: str
    error: str
    since: int
    decidable: bool
    waiting: dict[str, int]


class StoppedEntry(Answered):
    """A stored entry; `data` is JSON without secrets, or a text about what is none. `why` it is no fact, else empty."""

    type: str
    subject: str
    version: str
    at: int
    by: str
    cause: str
    data: Any
    why: str


class Choice(Answered):
    """What can be done, and what follows; `decision` is what to post, `null` where it is done elsewhere."""

    decision: Literal["leaveOut", "retry"] | None
    what: str
    follows: str


class StoppedDetails(Stopped):
    """A stop with its entry, the first devices with facts behind it, and how many devices get no new decisions."""

    entry: StoppedEntry | None
    subjects: list[str]
    subjects_total: int
    devices: int
    choices: list[Choice]


class Webhook(Answered):
    """A webhook, and how it fares. Times are in milliseconds, `null` where there is none.

    `secret` is in plain in the answer of the PUT that made it, and nowhere else. `lag` has the facts and outcomes that were not
    looked at for it yet. In the past `lag`, `failures` and what follows are `null`: deliveries are not part of the log.
    """

    id: str
    url: str
    secret: str
    kinds: list[str]
    deployments: list[str]
    devices: list[str]
    paused: str | None
    changed_at: int
    lag: int | None
    failures: int | None
    failing_since: int | None
    next_attempt_at: int | None
    error: str | None


class Delivery(Answered):
    """One attempt to deliver an event; `result` is the class of the status, or the error where there was none."""

    event: str
    at: int
    result: str
    status: int | None
    attempt: int
    milliseconds: int


class DeliveryList(Answered):
    """The last ones of a webhook, newest first."""

    id: str
    deliveries: list[Delivery]


class Tested(Answered):
    """What became of a test event."""

    id: str
    delivered: bool
    result: str
    status: int | None
    milliseconds: int


class Refused(Answered):
    """A line that was refused, counted from 1."""

    line: int
    error: str


class Written(Answered):
    """What became of some lines."""

    written: int
    refused: list[Refused]
