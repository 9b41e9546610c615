"""The bodies of requests under `/v1`."""

from typing import Annotated, Any, Literal

from pydantic import Field

from events.rollout.rules import PHASES_MAX, REASON_CHARACTERS_MAX
from events.update.commands import PRIORITY_DEFAULT
from services.api.http.body_examples import CONTENT, example
from services.api.v1.plan_body import PlanBody
from services.api.v1.v1_body import V1Body


class ReportBody(V1Body):
    """A merge patch to the reported properties of a device, or of the module `moduleId`."""

    model_config = example({"patch": {"model": "x-200"}})

    patch: dict[str, Any]
    module_id: str | None = None


class DecisionBody(V1Body):
    """The decision about an event that partitions are stopped at, and its reason."""

    model_config = example({"decision": "skip", "reason": "written by a faulty script"})

    decision: Literal["skip", "retry"]
    reason: str


class WebhookBody(V1Body):
    """A webhook: where to deliver, and which events. Without `secret`, a new one is made, or the present one is kept.

    An empty list selects all kinds, all deployments or all devices.
    """

    model_config = example(
        {
            "url": "https://hooks.example/twinfold",
            "kinds": ["DeploymentCreated", "AssignmentChange"],
            "deployments": ["north"],
        }
    )

    url: str
    secret: str | None = None
    kinds: tuple[str, ...] = Field(default=(), strict=False)
    deployments: tuple[str, ...] = Field(default=(), strict=False)
    devices: tuple[str, ...] = Field(default=(), strict=False)


class PauseBody(V1Body):
    """The reason for a pause."""

    model_config = example({"why": "the receiver moves"})

    why: str


class UpdateBody(V1Body):
    """The members of a deployment that change."""

    model_config = example({"priority": 20, "targetCondition": "tags.site = 'south'"})

    content: dict[str, Any] | None = None
    target_condition: str | None = None
    priority: int | None = None
    labels: dict[str, str] | None = None
    metrics: dict[str, str] | None = None


class ScheduleBody(V1Body):
    """When a deployment starts and ends, as RFC 3339. A time without an offset is read in `zone`.

    A time that is left out stays as it is. `null` removes a time.
    """

    model_config = example({"end": "2099-01-01T08:00:00", "zone": "Europe/Berlin"})

    start: str | None = None
    end: str | None = None
    zone: str | None = None


class ActBody(V1Body):
    """The reason for a command, and its phase, counted from 1.

    The default is the next phase without approval for `approve`, and the open phase for `skip`.
    """

    model_config = example({"reason": "the first site looks well"})

    reason: Annotated[str, Field(max_length=REASON_CHARACTERS_MAX)] = ""
    phase: Annotated[int, Field(ge=1, le=PHASES_MAX)] | None = None


class CreateBody(V1Body):
    """A deployment to create.

    With `hold` it waits until an operator starts it. With a `rollout` it reaches its devices in phases, from the rollout's
    start or its scheduled time on.
    """

    model_config = example(
        {"content": CONTENT, "targetCondition": "tags.site = 'south'", "priority": 10, "labels": {"team": "x"}}
    )

    content: dict[str, Any]
    target_condition: str = ""
    priority: int = 0
    labels: dict[str, str] = Field(default={})
    metrics: dict[str, str] = Field(default={})
    hold: bool = False
    schedule: ScheduleBody | None = None
    rollout: PlanBody | None = None


class WaiverBody(V1Body):
    """A decision to accept the findings of a rule up to and including the day `until` (UTC).

    `null` as `module` or `deployment` means every one.
    """

    model_config = example(
        {
            "rule": "privileged",
            "module": "driver",
            "reason": "the driver of the press needs it until its next release",
            "until": "2027-03-31",
        }
    )

    rule: str
    reason: str
    until: str = Field(json_schema_extra={"format": "date"})
    module: str | None = None
    deployment: str | None = None


class UpdateImportBody(V1Body):
    """An update to import. `compatibility` has properties with their values, or a target condition as `condition`."""

    model_config = example({"content": CONTENT, "compatibility": [{"model": "x-200"}], "description": "the first"})

    content: dict[str, Any]
    compatibility: list[dict[str, str]] = Field(default=[])
    description: str = ""
    friendly_name: str = ""


class GroupBody(V1Body):
    """A group. Its devices are those of the condition; an empty condition means the tag `ADUGroup`.

    Updates are deployed to it with the priority.
    """

    model_config = example({"condition": "tags.site = 'north'"})

    condition: str = ""
    priority: int = PRIORITY_DEFAULT


class PolicyBody(V1Body):
    """When a group is rolled back: both thresholds are reached, and at least `answeredMin` devices have answered.

    Without an update, each device returns to its last healthy configuration.
    """

    update: str | None = None
    percent: float
    count: int = 1
    answered_min: int = 0


class DeployBody(V1Body):
    """An update to deploy, as provider/name/version. `startAt` and `endAt` are in milliseconds, `plan` is a rollout's plan."""

    model_config = example({"update": "contoso/camera/1.0"})

    update: str
    start_at: int = 0
    end_at: int = 0
    policy: PolicyBody | None = None
    plan: PlanBody | None = None


class CancelBody(V1Body):
    """The reason to cancel a deployment."""

    model_config = example({"reason": "the wrong one"})

    reason: str = ""
