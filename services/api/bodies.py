"""The bodies of the hub's requests, as far as they mean anything here; whatever else clients send is let pass."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Body(BaseModel):
    """Members that a client sends and we do not know do no harm (contract/hub.md §0 item 7)."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True, strict=True)


class Capabilities(Body):
    """What a device is capable of."""

    iot_edge: bool = Field(default=False, alias="iotEdge")


class DeviceBody(Body):
    """An identity as clients send it."""

    status: str = "enabled"
    status_reason: str | None = Field(default=None, alias="statusReason")
    capabilities: Capabilities = Capabilities()


class ModuleBody(Body):
    """A module identity as clients send it."""

    managed_by: str | None = Field(default=None, alias="managedBy")


class PropertiesBody(Body):
    """The part of a twin's properties that a service may write."""

    desired: dict[str, Any] | None = None


class TwinBody(Body):
    """A twin as clients send it back; only tags and desired properties are read."""

    tags: dict[str, Any] | None = None
    properties: PropertiesBody = PropertiesBody()


class MetricsBody(Body):
    """Custom metrics: queries by name."""

    queries: dict[str, str] = {}


class ConfigurationBody(Body):
    """A deployment as clients send it."""

    schema_version: str = Field(default="1.0", alias="schemaVersion")
    content: dict[str, Any] | None = None
    target_condition: str | None = Field(default=None, alias="targetCondition")
    priority: int = 0
    labels: dict[str, str] | None = None
    metrics: MetricsBody | None = None


class TestQueriesBody(Body):
    """A condition and queries to try."""

    target_condition: str | None = Field(default=None, alias="targetCondition")
    custom_metric_queries: dict[str, str] | None = Field(default=None, alias="customMetricQueries")


class ReportBody(Body):
    """A merge patch to the reported properties of a device, or of one of its modules."""

    patch: dict[str, Any]
    module_id: str | None = Field(default=None, alias="moduleId")


class CreateBody(Body):
    """A deployment as `/v1` takes it, validated in full."""

    content: dict[str, Any]
    target_condition: str = Field(default="", alias="targetCondition")
    priority: int = 0
    labels: dict[str, str] = {}
    metrics: dict[str, str] = {}
