"""The bodies of the hub's requests, as far as they mean anything here; whatever else clients send is let pass."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from events.update.commands import PRIORITY_DEFAULT

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


class Body(BaseModel):
    """Members that a client sends and we do not know do no harm (contract/hub.md §0 item 7)."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True, strict=True)


def _example(value: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [value]})


class Capabilities(Body):
    """What a device is capable of."""

    iot_edge: bool = Field(default=False, alias="iotEdge")


class AuthenticationBody(Body):
    """How an identity proves itself, as clients send it."""

    type: str | None = None
    symmetric_key: dict[str, str | None] | None = Field(default=None, alias="symmetricKey")
    x509_thumbprint: dict[str, str | None] | None = Field(default=None, alias="x509Thumbprint")


class DeviceBody(Body):
    """An identity as clients send it."""

    model_config = _example({"deviceId": "edge-1", "status": "enabled", "capabilities": {"iotEdge": True}})

    status: str = Field(default="enabled", json_schema_extra={"enum": ["enabled", "disabled"]})
    status_reason: str | None = Field(default=None, alias="statusReason")
    capabilities: Capabilities | None = None
    authentication: AuthenticationBody | None = None


class ModuleBody(Body):
    """A module identity as clients send it."""

    model_config = _example({"deviceId": "edge-1", "moduleId": "sensor", "managedBy": None})

    managed_by: str | None = Field(default=None, alias="managedBy")
    authentication: AuthenticationBody | None = None


class BulkBody(Body):
    """One line of a bulk change of the registry (contract/hub.md §1.2, ExportImportDevice)."""

    id: str
    module_id: str | None = Field(default=None, alias="moduleId")
    etag: str | None = Field(default=None, alias="eTag")
    import_mode: str = Field(default="create", alias="importMode")
    status: str = "enabled"
    status_reason: str | None = Field(default=None, alias="statusReason")
    authentication: AuthenticationBody | None = None
    twin_etag: str | None = Field(default=None, alias="twinETag")
    tags: dict[str, Any] | None = None
    properties: "PropertiesBody | None" = None
    capabilities: Capabilities | None = None
    managed_by: str | None = Field(default=None, alias="managedBy")


class PropertiesBody(Body):
    """The part of a twin's properties that a service may write."""

    desired: dict[str, Any] | None = None


class TwinBody(Body):
    """A twin as clients send it back; only tags and desired properties are read."""

    model_config = _example({"tags": {"site": "north", "old": None}, "properties": {"desired": {"rate": 5}}})

    tags: dict[str, Any] | None = None
    properties: PropertiesBody | None = None

    @property
    def desired(self) -> dict[str, Any] | None:
        """Desired properties, where any were sent."""
        return None if self.properties is None else self.properties.desired


class MetricsBody(Body):
    """Custom metrics: queries by name."""

    queries: dict[str, str] = {}


class ConfigurationBody(Body):
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


class ContentBody(Body):
    """A content to set on one device by hand."""

    model_config = _example(_CONTENT)

    modules_content: dict[str, Any] | None = Field(default=None, alias="modulesContent")
    device_content: dict[str, Any] | None = Field(default=None, alias="deviceContent")
    module_content: dict[str, Any] | None = Field(default=None, alias="moduleContent")


class QueryBody(Body):
    """A query to run."""

    model_config = _example({"query": "SELECT deviceId, tags.site FROM devices WHERE tags.site = 'north'"})

    query: str


class TestQueriesBody(Body):
    """A condition and queries to try."""

    model_config = _example({"targetCondition": "tags.site = 'north'", "customMetricQueries": {}})

    target_condition: str | None = Field(default=None, alias="targetCondition")
    custom_metric_queries: dict[str, str] | None = Field(default=None, alias="customMetricQueries")


class ReportBody(Body):
    """A merge patch to the reported properties of a device, or of one of its modules."""

    model_config = _example({"patch": {"model": "x-200"}})

    patch: dict[str, Any]
    module_id: str | None = Field(default=None, alias="moduleId")


class UpdateBody(Body):
    """What changes of a deployment."""

    model_config = _example({"priority": 20, "targetCondition": "tags.site = 'south'"})

    content: dict[str, Any] | None = None
    target_condition: str | None = Field(default=None, alias="targetCondition")
    priority: int | None = None
    labels: dict[str, str] | None = None
    metrics: dict[str, str] | None = None


class CreateBody(Body):
    """A deployment as `/v1` takes it, validated in full."""

    model_config = _example(
        {"content": _CONTENT, "targetCondition": "tags.site = 'south'", "priority": 10, "labels": {"team": "x"}}
    )

    content: dict[str, Any]
    target_condition: str = Field(default="", alias="targetCondition")
    priority: int = 0
    labels: dict[str, str] = {}
    metrics: dict[str, str] = {}


class UpdateImportBody(Body):
    """An update to import; `compatibility` has properties with their values, or a target condition as `condition`."""

    model_config = _example({"content": _CONTENT, "compatibility": [{"model": "x-200"}], "description": "the first"})

    content: dict[str, Any]
    compatibility: list[dict[str, str]] = []
    description: str = ""
    friendly_name: str = Field(default="", alias="friendlyName")


class GroupBody(Body):
    """Who is in a group; an empty condition is the tag. Its updates are deployed with the priority."""

    model_config = _example({"condition": "tags.site = 'north'"})

    condition: str = ""
    priority: int = PRIORITY_DEFAULT


class PolicyBody(Body):
    """When a group goes back: both thresholds are reached, once so many devices have answered."""

    update: str
    percent: float
    count: int = 1
    answered_min: int = Field(default=0, alias="answeredMin")


class DeployBody(Body):
    """An update to deploy, as provider/name/version; `startAt` in milliseconds. `plan` is that of a rollout."""

    model_config = _example({"update": "contoso/camera/1.0"})

    update: str
    start_at: int = Field(default=0, alias="startAt")
    policy: PolicyBody | None = None
    plan: dict[str, Any] | None = None


class CancelBody(Body):
    """Why a deployment is canceled."""

    model_config = _example({"reason": "the wrong one"})

    reason: str = ""
