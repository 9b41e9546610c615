"""The bodies of requests to the hub's paths, which let unknown members pass."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from services.api.http.body_examples import example
from services.api.http.enumerations import AuthenticationType, IdentityStatus, ImportMode


class HubBody(BaseModel):
    """A body of the hub's paths; members that a client sends and we do not know do no harm (contract/hub.md §0 item 7)."""

    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", populate_by_name=True, strict=True)


class CapabilitiesBody(HubBody):
    """What a device is capable of."""

    iot_edge: bool = False


class AuthenticationBody(HubBody):
    """How an identity proves itself, as clients send it."""

    type: AuthenticationType | None = None
    symmetric_key: dict[str, str | None] | None = None
    x509_thumbprint: dict[str, str | None] | None = None


class DeviceBody(HubBody):
    """An identity as clients send it."""

    model_config = example({"deviceId": "edge-1", "status": "enabled", "capabilities": {"iotEdge": True}})

    status: IdentityStatus = "enabled"
    status_reason: str | None = None
    capabilities: CapabilitiesBody | None = None
    device_scope: str | None = None
    parent_scopes: list[str] | None = None
    authentication: AuthenticationBody | None = None


class ModuleBody(HubBody):
    """A module identity as clients send it."""

    model_config = example({"deviceId": "edge-1", "moduleId": "sensor", "managedBy": None})

    managed_by: str | None = None
    authentication: AuthenticationBody | None = None


class BulkBody(HubBody):
    """One line of a bulk change of the registry (contract/hub.md §1.2, ExportImportDevice)."""

    id: str
    module_id: str | None = None
    etag: str | None = Field(default=None, alias="eTag")
    import_mode: ImportMode = "create"
    status: IdentityStatus = "enabled"
    status_reason: str | None = None
    authentication: AuthenticationBody | None = None
    twin_etag: str | None = Field(default=None, alias="twinETag")
    tags: dict[str, Any] | None = None
    properties: "PropertiesBody | None" = None
    capabilities: CapabilitiesBody | None = None
    device_scope: str | None = None
    parent_scopes: list[str] | None = None
    managed_by: str | None = None


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
