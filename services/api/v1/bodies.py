"""The bodies of requests under `/v1`."""

from typing import Annotated, Any, Literal

from pydantic import Field

from events.rollout.rules import PHASES_MAX, REASON_CHARACTERS_MAX
from events.update.commands import PRIORITY_DEFAULT
from services.api.http.body_examples import CONTENT, example
from services.api.v1.plan_body import PlanBody
from services.api.v1.v1_body import V1Body


class ReportBody(V1Body):
    """A merge patch to the reported properties of a device, or of one of its modules."""

    model_config = example({"patch": {"model": "x-200"}})

    patch: dict[str, Any]
    module_id: str | None = None


class DecisionBody(V1Body):
    """What is to be done about an event that partitions are stopped at, and why."""

    model_config = example({"decision": "skip", "reason": "written by a faulty script"})

    decision: Literal["skip", "retry"]
    reason: str


class WebhookBody(V1Body):
    """Whom to tell of what. No secret makes one, or keeps the one that stands; no names are any."""

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
    """Why nothing is to be delivered."""

    model_config = example({"why": "the receiver moves"})

    why: str


class UpdateBody(V1Body):
    """What changes of a deployment."""

    model_config = example({"priority": 20, "targetCondition": "tags.site = 'south'"})

    content: dict[str, Any] | None = None
    target_condition: str | None = None
    priority: int | None = None
    labels: dict[str, str] | None = None
    metrics: dict[str, str] | None = None


class ScheduleBody(V1Body):
    """When a deployment starts and ends, as RFC 3339; a time without an offset is read in `zone`.

    What is left out stays as it is, or unset; `null` takes a time away.
    """

    model_config = example({"end": "2099-01-01T08:00:00", "zone": "Europe/Berlin"})

    start: str | None = None
    end: str | None = None
    zone: str | None = None


class ActBody(V1Body):
    """Why, and on which phase, counted from 1: the next one to approve of, the open one to skip, if none is named."""

    model_config = example({"reason": "the first site looks well"})

    reason: Annotated[str, Field(max_length=REASON_CHARACTERS_MAX)] = ""
    phase: Annotated[int, Field(ge=1, le=PHASES_MAX)] | None = None


class CreateBody(V1Body):
    """A deployment as `/v1` takes it, validated in full.

    `hold`: it waits until somebody starts it. With a `rollout` it reaches its devices in phases, once that is started or its
    time has come.
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
    """A decision that findings of a rule may stand, up to and including a day (UTC); `null` stands for any."""

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
    """An update to import; `compatibility` has properties with their values, or a target condition as `condition`."""

    model_config = example({"content": CONTENT, "compatibility": [{"model": "x-200"}], "description": "the first"})

    content: dict[str, Any]
    compatibility: list[dict[str, str]] = Field(default=[])
    description: str = ""
    friendly_name: str = ""


class GroupBody(V1Body):
    """Who is in a group; an empty condition is the tag. Its updates are deployed with the priority."""

    model_config = example({"condition": "tags.site = 'north'"})

    condition: str = ""
    priority: int = PRIORITY_DEFAULT


class PolicyBody(V1Body):
    """When a group goes back: both thresholds are reached, once so many devices have answered.

    Without an update each device goes back to what it had, and was well with, before.
    """

    update: str | None = None
    percent: float
    count: int = 1
    answered_min: int = 0


class DeployBody(V1Body):
    """An update to deploy, as provider/name/version; `startAt` and `endAt` in milliseconds. `plan` is that of a rollout."""

    model_config = example({"update": "contoso/camera/1.0"})

    update: str
    start_at: int = 0
    end_at: int = 0
    policy: PolicyBody | None = None
    plan: PlanBody | None = None


class CancelBody(V1Body):
    """Why a deployment is canceled."""

    model_config = example({"reason": "the wrong one"})

    reason: str = ""
