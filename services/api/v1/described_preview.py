"""What previews look like, for the description of the API."""

from typing import Any, Literal

from pydantic import Field

from services.api.http.openapi import Answered
from services.api.v1.described import Advice, AsOf, Conflict, Readiness


class Listed(Answered):
    """How many devices, the first of them, and the name under which `?list=` has them all."""

    name: str = Field(alias="list")
    devices: int
    examples: list[str]


class PreviewedDeployment(Answered):
    """Who would come to have a deployment's part, or have it no more; and whom it would target, or target no more."""

    id: str
    gained: Listed
    lost: Listed
    targeted: Listed
    untargeted: Listed


class Difference(Answered):
    """A property of a module below its desired properties, before and after; secrets show as `***`."""

    module: str
    path: str
    how: Literal["removed", "changed", "added"]
    before: Any
    after: Any


class PreviewedChange(Listed):
    """One configuration in place of another; `module` is `null` for what an edge device runs. Removals come first."""

    module: str | None
    before: str
    after: str
    differences: list[Difference]
    more_differences: int


class OverLimit(Listed):
    """A limit that some would be over, and therefore keep what they have."""

    reason: str


class ReadinessOfNew(Readiness):
    """What the rules find in the content of a new deployment."""

    deployment: str


class RefusedLine(Answered):
    """A line that would be refused."""

    line: int
    error: str


class FirstAdmitted(Answered):
    """Whom a rollout would admit first, if all is as it is now."""

    deployment: str
    says: str
    admitted: Listed


class Preview(Answered):
    """What commands would do. `affected` are those who change, and those whom deployments come to target or leave."""

    says: list[str]
    changes_nothing: bool
    facts: int
    affected: Listed
    changed: Listed
    reconfigured: Listed
    unmanaged: Listed
    managed: Listed
    held_back: Listed
    again: Listed
    registered: Listed
    retired: Listed
    deployments: list[PreviewedDeployment]
    changes: list[PreviewedChange]
    more_changes: int
    reasons: list[OverLimit]
    rollouts: list[FirstAdmitted]
    conflicts: list[Conflict]
    readiness: list[ReadinessOfNew]
    advice: list[Advice]
    refused: list[RefusedLine]
    as_of: dict[str, AsOf]
    token: str
    token_until: str
