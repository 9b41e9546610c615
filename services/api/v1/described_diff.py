"""What `/v1/diff` answers, for the description of the API."""

from typing import Any, Literal

from pydantic import Field

from services.api.http.openapi import Answered


class DiffChange(Answered):
    """One property, removals first; `before` and `after` are `null` where there is none. Secrets show as `***`."""

    section: str
    path: str
    how: Literal["removed", "changed", "added"]
    before: Any
    after: Any


class DiffDevices(Answered):
    """How many devices, and the first hundred of them."""

    count: int
    devices: list[str]


class DiffSides(Answered):
    """Who went, and who came."""

    lost: DiffDevices
    gained: DiffDevices


class DiffStanding(Answered):
    """How devices stood, and what they ran."""

    standing: str
    layers: list[str]


class DiffAssignment(Answered):
    """Devices that went from one assignment to another."""

    before: DiffStanding
    after: DiffStanding
    count: int
    devices: list[str]


class DiffDeployments(Answered):
    """Deployments that were deleted, edited and created."""

    removed: list[str]
    changed: list[str]
    added: list[str]


class DiffFact(Answered):
    """A fact or an outcome in between: where it stands, when (milliseconds), who, what, and its cause."""

    position: str
    at: int
    by: str
    type: str
    subject: str
    cause: str


class Diff(Answered):
    """What changed; a device has no `devices`, the fleet no `changes`, and it alone `deployments` and `assignments`.

    `fromTime` and `toTime` are in milliseconds. `devices` has `target` and `actual` of a deployment, and who is `registered`
    of the fleet. `facts` are the newest thousand of `factCount`, `by` counts all of them by their author.
    """

    from_: str = Field(alias="from")
    from_time: int
    to: str
    to_time: int
    of: Literal["device", "deployment", "fleet"]
    id: str | None
    changes: list[DiffChange]
    devices: dict[str, DiffSides]
    deployments: DiffDeployments | None
    assignments: list[DiffAssignment]
    facts: list[DiffFact]
    fact_count: int
    by: dict[str, int]
