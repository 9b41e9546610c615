"""The bodies of requests: those of the hub's paths, which let unknown members pass, and those of `/v1`, which refuse them."""

from typing import Annotated, Any, Literal

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from events.rollout.decide import PHASES_MAX, REASON_CHARACTERS_MAX
from events.rollout.plan import Plan
from events.rollout.words import DurationUnreadable, read_duration
from events.update.commands import PRIORITY_DEFAULT
from services.api.enumerations import AuthenticationType, IdentityStatus, ImportMode
from services.api.members import messages_of

_EXAMPLE_IMAGE = "example.com/sensor:1.0"
_MODULE = {
    "type": "docker",
    "status": "running",
    "restartPolicy": "always",
    "settings": {"image": _EXAMPLE_IMAGE},
}
_CONTENT = {
    "modulesContent": {
        "$edgeAgent": {
            "properties.desired": {
                "schemaVersion": "1.1",
                "runtime": {"type": "docker", "settings": {}},
                "systemModules": {
                    "edgeAgent": {"type": "docker", "settings": {"image": "example.com/edge-agent:1.5"}},
                    "edgeHub": {**_MODULE, "settings": {"image": "example.com/edge-hub:1.5"}},
                },
                "modules": {"camera": _MODULE},
            }
        },
        "$edgeHub": {
            "properties.desired": {
                "schemaVersion": "1.1",
                "routes": {"up": "FROM /messages/* INTO $upstream"},
                "storeAndForwardConfiguration": {"timeToLiveSecs": 7200},
            }
        },
    }
}


class HubBody(BaseModel):
    """A body of the hub's paths; members that a client sends and we do not know do no harm (contract/hub.md §0 item 7)."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True, strict=True)


class V1Body(BaseModel):
    """A body under `/v1`, or a part of one. A member that is not known is refused: a limit with a slip in its name would be none."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _know_members(cls, given: Any) -> Any:
        if isinstance(given, dict) and not given.keys() <= cls.model_fields.keys():
            known = [field.alias or name for name, field in cls.model_fields.items()]
            named = [member for member in given if member not in cls.model_fields]
            if message := messages_of(dict.fromkeys(named), known):
                raise PydanticCustomError("unknown_member", "{message}", {"message": message})
        return given


def _example(value: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [value]})


class Capabilities(HubBody):
    """What a device is capable of."""

    iot_edge: bool = Field(default=False, alias="iotEdge")


class AuthenticationBody(HubBody):
    """How an identity proves itself, as clients send it."""

    type: AuthenticationType | None = None
    symmetric_key: dict[str, str | None] | None = Field(default=None, alias="symmetricKey")
    x509_thumbprint: dict[str, str | None] | None = Field(default=None, alias="x509Thumbprint")


class DeviceBody(HubBody):
    """An identity as clients send it."""

    model_config = _example({"deviceId": "edge-1", "status": "enabled", "capabilities": {"iotEdge": True}})

    status: IdentityStatus = "enabled"
    status_reason: str | None = Field(default=None, alias="statusReason")
    capabilities: Capabilities | None = None
    device_scope: str | None = Field(default=None, alias="deviceScope")
    parent_scopes: list[str] | None = Field(default=None, alias="parentScopes")
    authentication: AuthenticationBody | None = None


class ModuleBody(HubBody):
    """A module identity as clients send it."""

    model_config = _example({"deviceId": "edge-1", "moduleId": "sensor", "managedBy": None})

    managed_by: str | None = Field(default=None, alias="managedBy")
    authentication: AuthenticationBody | None = None


class BulkBody(HubBody):
    """One line of a bulk change of the registry (contract/hub.md §1.2, ExportImportDevice)."""

    id: str
    module_id: str | None = Field(default=None, alias="moduleId")
    etag: str | None = Field(default=None, alias="eTag")
    import_mode: ImportMode = Field(default="create", alias="importMode")
    status: IdentityStatus = "enabled"
    status_reason: str | None = Field(default=None, alias="statusReason")
    authentication: AuthenticationBody | None = None
    twin_etag: str | None = Field(default=None, alias="twinETag")
    tags: dict[str, Any] | None = None
    properties: "PropertiesBody | None" = None
    capabilities: Capabilities | None = None
    device_scope: str | None = Field(default=None, alias="deviceScope")
    parent_scopes: list[str] | None = Field(default=None, alias="parentScopes")
    managed_by: str | None = Field(default=None, alias="managedBy")


class PropertiesBody(HubBody):
    """The part of a twin's properties that a service may write."""

    desired: dict[str, Any] | None = None


class TwinBody(HubBody):
    """A twin as clients send it back; only tags and desired properties are read. In a patch, `null` removes all of either."""

    model_config = _example({"tags": {"site": "north", "old": None}, "properties": {"desired": {"rate": 5}}})

    tags: dict[str, Any] | None = None
    properties: PropertiesBody | None = None

    @property
    def desired(self) -> dict[str, Any] | None:
        """Desired properties, where any were sent."""
        return None if self.properties is None else self.properties.desired

    @property
    def cleared(self) -> tuple[Literal["tags", "desired"], ...]:
        """The parts that a patch removes as a whole."""
        found: list[Literal["tags", "desired"]] = []
        if self.tags is None and "tags" in self.model_fields_set:
            found.append("tags")
        if self.properties is not None and self.desired is None and "desired" in self.properties.model_fields_set:
            found.append("desired")
        return tuple(found)


class MetricsBody(HubBody):
    """Custom metrics: queries by name."""

    queries: dict[str, str] = {}


class ConfigurationBody(HubBody):
    """A deployment as clients send it."""

    model_config = _example(
        {
            "id": "north",
            "content": _CONTENT,
            "targetCondition": "tags.site = 'north'",
            "priority": 10,
            "labels": {"team": "x"},
        }
    )

    schema_version: str = Field(default="1.0", alias="schemaVersion")
    content: dict[str, Any] | None = None
    target_condition: str | None = Field(default=None, alias="targetCondition")
    priority: int = 0
    labels: dict[str, str] | None = None
    metrics: MetricsBody | None = None


class ContentBody(HubBody):
    """A content to set on one device by hand."""

    model_config = _example(_CONTENT)

    modules_content: dict[str, Any] | None = Field(default=None, alias="modulesContent")
    device_content: dict[str, Any] | None = Field(default=None, alias="deviceContent")
    module_content: dict[str, Any] | None = Field(default=None, alias="moduleContent")


class TargetScopeBody(HubBody):
    """Whose scope edgeHub asks for, and which page of it."""

    model_config = _example({"pageSize": 100, "continuationLink": None, "authChain": "edge-1"})

    page_size: Annotated[int, Field(alias="pageSize", ge=0, le=1000)] = 100
    continuation_link: str | None = Field(default=None, alias="continuationLink")
    auth_chain: str = Field(alias="authChain")


class IdentityOnBehalfBody(HubBody):
    """Which identity edgeHub asks for."""

    model_config = _example({"targetDeviceId": "edge-1", "targetModuleId": None, "authChain": "edge-1"})

    target_device_id: str = Field(alias="targetDeviceId")
    target_module_id: str | None = Field(default=None, alias="targetModuleId")


class MethodBody(HubBody):
    """A direct method to call; times in seconds, within the hub's limits."""

    model_config = _example({"methodName": "reboot", "responseTimeoutInSeconds": 30, "payload": {"delay": 3}})

    method_name: Annotated[str, Field(alias="methodName", min_length=1)]
    payload: Any = None
    response_timeout_seconds: Annotated[int | None, Field(alias="responseTimeoutInSeconds", ge=5, le=300)] = None
    connect_timeout_seconds: Annotated[int | None, Field(alias="connectTimeoutInSeconds", ge=0, le=300)] = None


class QueryBody(HubBody):
    """A query to run."""

    model_config = _example({"query": "SELECT deviceId, tags.site FROM devices WHERE tags.site = 'north'"})

    query: str


class TestQueriesBody(HubBody):
    """A condition and queries to try."""

    model_config = _example({"targetCondition": "tags.site = 'north'", "customMetricQueries": {}})

    target_condition: str | None = Field(default=None, alias="targetCondition")
    custom_metric_queries: dict[str, str] | None = Field(default=None, alias="customMetricQueries")


class ReportBody(V1Body):
    """A merge patch to the reported properties of a device, or of one of its modules."""

    model_config = _example({"patch": {"model": "x-200"}})

    patch: dict[str, Any]
    module_id: str | None = Field(default=None, alias="moduleId")


class DecisionBody(V1Body):
    """What is to be done about a fact that partitions are stopped at, and why."""

    model_config = _example({"decision": "leaveOut", "reason": "written by a faulty script"})

    decision: Literal["leaveOut", "retry"]
    reason: str


class WebhookBody(V1Body):
    """Whom to tell of what. No secret makes one, or keeps the one that stands; no names are any."""

    model_config = _example(
        {"url": "https://hooks.example/twinfold", "kinds": ["DeploymentCreated", "Outcome"], "deployments": ["north"]}
    )

    url: str
    secret: str | None = None
    kinds: tuple[str, ...] = Field(default=(), strict=False)
    deployments: tuple[str, ...] = Field(default=(), strict=False)
    devices: tuple[str, ...] = Field(default=(), strict=False)


class PauseBody(V1Body):
    """Why nothing is to be delivered."""

    model_config = _example({"why": "the receiver moves"})

    why: str


class UpdateBody(V1Body):
    """What changes of a deployment."""

    model_config = _example({"priority": 20, "targetCondition": "tags.site = 'south'"})

    content: dict[str, Any] | None = None
    target_condition: str | None = Field(default=None, alias="targetCondition")
    priority: int | None = None
    labels: dict[str, str] | None = None
    metrics: dict[str, str] | None = None


class ScheduleBody(V1Body):
    """When a deployment starts and ends, as RFC 3339; a time without an offset is read in `zone`.

    What is left out stays as it is, or unset; `null` takes a time away.
    """

    model_config = _example({"end": "2099-01-01T08:00:00", "zone": "Europe/Berlin"})

    start: str | None = None
    end: str | None = None
    zone: str | None = None


class _PlanPart(V1Body):
    """A part of a plan."""

    model_config = ConfigDict(alias_generator=to_camel)


def _seconds(given: Any) -> Any:
    try:
        return read_duration(given) if isinstance(given, str) else given
    except DurationUnreadable as error:
        raise ValueError(str(error)) from error


Seconds = Annotated[int, BeforeValidator(_seconds, json_schema_input_type=int | str)]
"""Seconds as a number, or a duration as text: 90s, 15m, 2h, 1d."""


def _phase(given: Any) -> Any:
    """`10%` is a percentage, and `50` a number of devices."""
    if not isinstance(given, str):
        return {"count": given} if isinstance(given, int) else given
    number, percent, rest = given.strip().partition("%")
    try:
        if not rest:
            return {"percent": float(number)} if percent else {"count": int(number)}
    except ValueError:
        pass
    raise ValueError("a phase is a percentage as 10%, a number of devices as 50, or an object")


class GateBody(_PlanPart):
    """What must hold before the next phase (events/rollout/plan.py)."""

    success_percent: float | None = None
    answered_min: int = 0
    soak_seconds: Seconds = 0
    device_timeout_seconds: Seconds = 0
    phase_timeout_seconds: Seconds = 0


class PhaseBody(_PlanPart):
    """Who is admitted up to here: one of `percent`, `count` and `condition`."""

    percent: float | None = None
    count: int | None = None
    condition: str | None = None
    gate: GateBody = GateBody()
    approval: bool = False
    name: str = ""


class FailureBody(_PlanPart):
    """When a rollout has failed (every threshold that is given is reached), and what it does then."""

    percent: float | None = None
    count: int | None = None
    answered_min: int = 0
    then: Literal["pause", "roll back"] = "pause"


class SpreadBody(_PlanPart):
    """At most so many devices of one value of a tag at once."""

    tag: str
    at_most: int = 1


class RateBody(_PlanPart):
    """How many devices a minute."""

    per_minute: float
    growth_percent: float = 0.0


class WindowBody(_PlanPart):
    """When devices may be admitted."""

    cron: str
    zone: str = "UTC"
    minutes: int = 60


_PLAN: dict[str, Any] = {
    "phases": ["5%", {"percent": 100, "approval": True, "gate": {"successPercent": 95, "soakSeconds": "30m"}}],
    "failure": {"percent": 5, "count": 3, "then": "roll back"},
    "windows": [{"cron": "0 22 * * *", "zone": "Europe/Berlin", "minutes": 240}],
}


class PlanBody(_PlanPart):
    """How a deployment reaches its devices (docs/rollouts.md). A phase may be written `10%` or `50`."""

    model_config = _example(_PLAN)

    phases: list[Annotated[PhaseBody, BeforeValidator(_phase, json_schema_input_type=PhaseBody | int | str)]]
    failure: FailureBody = FailureBody()
    rollback_to: str = ""
    restore: bool = False
    offline: Literal["wait", "exclude", "unknown"] = "wait"
    offline_seconds: Seconds = 3600
    joiners: Literal["cohort", "end"] = "cohort"
    spread: SpreadBody | None = None
    rate: RateBody | None = None
    windows: list[WindowBody] = []
    approval_by_another: bool = False

    @property
    def plan(self) -> Plan:
        """As the log has it."""
        return msgspec.convert(self.model_dump(), Plan)


class ActBody(V1Body):
    """Why, and on which phase, counted from 1: the next one to approve of, the open one to skip, if none is named."""

    model_config = _example({"reason": "the first site looks well"})

    reason: Annotated[str, Field(max_length=REASON_CHARACTERS_MAX)] = ""
    phase: Annotated[int, Field(ge=1, le=PHASES_MAX)] | None = None


class CreateBody(V1Body):
    """A deployment as `/v1` takes it, validated in full.

    `hold`: it waits until somebody starts it. With a `rollout` it reaches its devices in phases, once that is started or its
    time has come.
    """

    model_config = _example(
        {"content": _CONTENT, "targetCondition": "tags.site = 'south'", "priority": 10, "labels": {"team": "x"}}
    )

    content: dict[str, Any]
    target_condition: str = Field(default="", alias="targetCondition")
    priority: int = 0
    labels: dict[str, str] = {}
    metrics: dict[str, str] = {}
    hold: bool = False
    schedule: ScheduleBody | None = None
    rollout: PlanBody | None = None


class WaiverBody(V1Body):
    """A decision that findings of a rule may stand, up to and including a day (UTC); `null` stands for any."""

    model_config = _example(
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

    model_config = _example({"content": _CONTENT, "compatibility": [{"model": "x-200"}], "description": "the first"})

    content: dict[str, Any]
    compatibility: list[dict[str, str]] = []
    description: str = ""
    friendly_name: str = Field(default="", alias="friendlyName")


class GroupBody(V1Body):
    """Who is in a group; an empty condition is the tag. Its updates are deployed with the priority."""

    model_config = _example({"condition": "tags.site = 'north'"})

    condition: str = ""
    priority: int = PRIORITY_DEFAULT


class PolicyBody(V1Body):
    """When a group goes back: both thresholds are reached, once so many devices have answered.

    Without an update each device goes back to what it had, and was well with, before.
    """

    update: str | None = None
    percent: float
    count: int = 1
    answered_min: int = Field(default=0, alias="answeredMin")


class DeployBody(V1Body):
    """An update to deploy, as provider/name/version; `startAt` and `endAt` in milliseconds. `plan` is that of a rollout."""

    model_config = _example({"update": "contoso/camera/1.0"})

    update: str
    start_at: int = Field(default=0, alias="startAt")
    end_at: int = Field(default=0, alias="endAt")
    policy: PolicyBody | None = None
    plan: PlanBody | None = None


class CancelBody(V1Body):
    """Why a deployment is canceled."""

    model_config = _example({"reason": "the wrong one"})

    reason: str = ""
