"""What explanations look like, for the description of the API."""

from typing import Any, Literal

from pydantic import Field

from events.explain.verdict import Reason, Verdict
from events.rollout.state import State
from services.api.http.openapi import Answered
from services.api.v1.described import AsOf, ModuleStatus


class FactLine(Answered):
    """A fact that led here: where it stands, when it came (milliseconds), who is behind it, and in words what it did."""

    stream: str
    position: int
    at: int
    by: str
    act: str
    cause: str | None
    says: str


class Blocked(Answered):
    """Where a partition is stopped, since when (milliseconds) and why."""

    at: str
    since: int
    error: str | None


class Taken(Answered):
    """How far the views are that the answer is from, and how far the log is."""

    stream: str
    partition: int
    fleet: int
    heads: AsOf
    is_behind: bool
    blocked: Blocked | None


class Running(Answered):
    """What the device has, what it had before, and the facts that the change came with; `since` in milliseconds."""

    standing: str
    reason: str | None
    layers: list[str]
    wanted: list[str]
    before: list[str]
    since: int
    outcome: int
    cause: str
    led_by: list[FactLine]


class Side(Answered):
    """A deployment that sets a property, and to what."""

    deployment: str
    value: Any


class ContestLine(Answered):
    """A property that several deployments set to different values: the winner's counts."""

    module: str
    path: str
    winner: Side
    losers: list[Side]


class HubAnswer(Answered):
    """What `$edgeHub` answered last, and the version that it should have."""

    version: int | None
    wanted_version: int
    code: int | None


class AgentReport(Answered):
    """What the agent reported last; `standing` is what the views make of all answers for what the device should have.

    `hub` is `null` where `$edgeHub` has nothing to answer for. `undelivered` are the modules that do not have what they are told
    yet, and `stale` says that the states of modules were reported before the agent's answer.
    """

    says: str
    at: int
    version: int | None
    wanted_version: int
    code: int | None
    description: str | None
    standing: Literal["healthy", "unhealthy", "unknown", "pending"]
    hub: HubAnswer | None
    undelivered: list[str]
    stale: bool
    modules: dict[str, ModuleStatus]


class ObstacleLine(Answered):
    """What stands in a deployment's way, and the deployment that does, if one does."""

    reason: Literal[tuple(one.value for one in Reason)]  # type: ignore[valid-type]
    by: str | None


class TurnLine(Answered):
    """Where a rollout stands for a device that it has not admitted; phases count from 1."""

    state: Literal[tuple(one.value for one in State)]  # type: ignore[valid-type]
    phase: int
    phases: int
    admitted: int
    comes_with: int | None
    place: int | None
    of: int | None
    waits: str


class Term(Answered):
    """A term of a condition with its truth on the device's twin, or the module's.

    One that joins others has `and`, `or` or `not`; a comparison has the property, what was wanted, and what was found: `missing` or the
    value with its type. `comparable` is false where that is not the type of what was wanted: the comparison is then unknown.
    """

    text: str
    truth: Literal["true", "false", "unknown"]
    and_: list["Term"] | None = Field(default=None, alias="and")
    or_: list["Term"] | None = Field(default=None, alias="or")
    not_: "Term | None" = Field(default=None, alias="not")
    property: str | None = None
    operator: str | None = None
    wanted: Any = None
    found: Literal["missing", "text", "number", "boolean", "object", "list"] | None = None
    value: Any = None
    comparable: bool | None = None


class VerdictLine(Answered):
    """One deployment against the device, or against one of its modules.

    `ifTargeted` is what else would stand in its way if its condition were true. `appliedCount` is whether the contract's count of
    that name has the device, and `facts` are those that made the properties and the deployment what they are.
    """

    id: str
    group: str | None
    module: str | None
    kind: Literal["edge", "device", "module"]
    layered: bool
    priority: int
    verdict: Literal[tuple(one.value for one in Verdict)]  # type: ignore[valid-type]
    says: str
    because: str | None
    layer: int | None
    obstacle: ObstacleLine | None
    if_targeted: ObstacleLine | None
    targeted: bool
    applied_count: bool
    notes: list[str]
    turn: TurnLine | None
    target_condition: str
    condition: Term | None
    scope: Term | None
    facts: list[FactLine]


class Explanation(Answered):
    """Why a device has what it has, and does not get what it does not.

    `says` has the answer in a sentence. `state` is `registered` as long as the views do not know the device. `facts` made the device what
    it is beside its twin, `undecided` are those that workers have not come to; before `lookedBackTo` nobody looked for any.
    """

    device_id: str
    says: str
    state: Literal["known", "registered", "retired"]
    edge_capable: bool
    enabled: bool
    runs: Running | None
    as_of: Taken
    contests: list[ContestLine]
    reported: AgentReport | None
    facts: list[FactLine]
    undecided: list[FactLine]
    looked_back_to: int
    deployments: list[VerdictLine]
