"""The bodies of requests to the hub's paths, which let unknown members pass."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.api.http.body_examples import CONTENT, example
from services.api.http.enumerations import AuthenticationType, IdentityStatus, ImportMode


class HubBody(BaseModel):
    """A body of the hub's paths; members that a client sends and we do not know do no harm (contract/hub.md §0 item 7)."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True, strict=True)


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

    model_config = example({"deviceId": "edge-1", "status": "enabled", "capabilities": {"iotEdge": True}})

    status: IdentityStatus = "enabled"
    status_reason: str | None = Field(default=None, alias="statusReason")
    capabilities: Capabilities | None = None
    device_scope: str | None = Field(default=None, alias="deviceScope")
    parent_scopes: list[str] | None = Field(default=None, alias="parentScopes")
    authentication: AuthenticationBody | None = None


class ModuleBody(HubBody):
    """A module identity as clients send it."""

    model_config = example({"deviceId": "edge-1", "moduleId": "sensor", "managedBy": None})

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

    model_config = example({"tags": {"site": "north", "old": None}, "properties": {"desired": {"rate": 5}}})

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

    model_config = example(
        {
            "id": "north",
            "content": CONTENT,
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

    model_config = example(CONTENT)

    modules_content: dict[str, Any] | None = Field(default=None, alias="modulesContent")
    device_content: dict[str, Any] | None = Field(default=None, alias="deviceContent")
    module_content: dict[str, Any] | None = Field(default=None, alias="moduleContent")


class TargetScopeBody(HubBody):
    """Whose scope edgeHub asks for, and which page of it."""

    model_config = example({"pageSize": 100, "continuationLink": None, "authChain": "edge-1"})

    page_size: Annotated[int, Field(alias="pageSize", ge=0, le=1000)] = 100
    continuation_link: str | None = Field(default=None, alias="continuationLink")
    auth_chain: str = Field(alias="authChain")


class IdentityOnBehalfBody(HubBody):
    """Which identity edgeHub asks for."""

    model_config = example({"targetDeviceId": "edge-1", "targetModuleId": None, "authChain": "edge-1"})

    target_device_id: str = Field(alias="targetDeviceId")
    target_module_id: str | None = Field(default=None, alias="targetModuleId")


class MethodBody(HubBody):
    """A direct method to call; times in seconds, within the hub's limits."""

    model_config = example({"methodName": "reboot", "responseTimeoutInSeconds": 30, "payload": {"delay": 3}})

    method_name: Annotated[str, Field(alias="methodName", min_length=1)]
    payload: Any = None
    response_timeout_seconds: Annotated[int | None, Field(alias="responseTimeoutInSeconds", ge=5, le=300)] = None
    connect_timeout_seconds: Annotated[int | None, Field(alias="connectTimeoutInSeconds", ge=0, le=300)] = None


class QueryBody(HubBody):
    """A query to run."""

    model_config = example({"query": "SELECT deviceId, tags.site FROM devices WHERE tags.site = 'north'"})

    query: str


class TestQueriesBody(HubBody):
    """A condition and queries to try."""

    model_config = example({"targetCondition": "tags.site = 'north'", "customMetricQueries": {}})

    target_condition: str | None = Field(default=None, alias="targetCondition")
    custom_metric_queries: dict[str, str] | None = Field(default=None, alias="customMetricQueries")
