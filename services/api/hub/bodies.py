"""The bodies of requests to the hub's paths. Unknown members are ignored."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from events.device.authentication import MODULE_TYPES
from services.api.http.body_examples import example

IMPORT_MODES = (
    "create",
    "update",
    "updateIfMatchETag",
    "delete",
    "deleteIfMatchETag",
    "updateTwin",
    "updateTwinIfMatchETag",
)


def _in_any_case(*names: str) -> BeforeValidator:
    """Reads one of these names in any case as that name. Any other value stays as it is."""
    # The Java and Node clients write `Enabled` and `Create` (decision 0039). An unknown value passes, because the refusal
    # that follows quotes it as it was sent.
    by_lower_case = {name.lower(): name for name in names}

    def read(value: Any) -> Any:
        return by_lower_case.get(value.lower(), value) if isinstance(value, str) else value

    return BeforeValidator(read)


_STATUSES = ("enabled", "disabled")
IdentityStatus = Annotated[str, _in_any_case(*_STATUSES), Field(json_schema_extra={"enum": [*_STATUSES]})]
ImportMode = Annotated[str, _in_any_case(*IMPORT_MODES)]
AuthenticationType = Annotated[str, _in_any_case(*MODULE_TYPES)]


class HubBody(BaseModel):
    """A body of a request to the hub's paths."""

    # Clients send whole documents back, with members that only the hub writes (contract/hub.md §0 item 7).
    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", populate_by_name=True, strict=True)


class CapabilitiesBody(HubBody):
    """What a device is capable of."""

    iot_edge: bool = False


class AuthenticationBody(HubBody):
    """How an identity authenticates: by keys, by certificate thumbprints or by a certificate authority."""

    type: AuthenticationType | None = None
    symmetric_key: dict[str, str | None] | None = None
    x509_thumbprint: dict[str, str | None] | None = None


class DeviceBody(HubBody):
    """A device identity to write."""

    model_config = example({"deviceId": "edge-1", "status": "enabled", "capabilities": {"iotEdge": True}})

    status: IdentityStatus = "enabled"
    status_reason: str | None = None
    capabilities: CapabilitiesBody | None = None
    device_scope: str | None = None
    parent_scopes: list[str] | None = None
    authentication: AuthenticationBody | None = None


class ModuleBody(HubBody):
    """A module identity to write."""

    model_config = example({"deviceId": "edge-1", "moduleId": "sensor", "managedBy": None})

    managed_by: str | None = None
    authentication: AuthenticationBody | None = None


class PropertiesBody(HubBody):
    """The properties of a twin that a service may write: the desired ones."""

    desired: dict[str, Any] | None = None


class TwinBody(HubBody):
    """A twin. Only its tags and desired properties are read. In a patch, `null` removes all tags or all desired properties."""

    model_config = example({"tags": {"site": "north", "old": None}, "properties": {"desired": {"rate": 5}}})

    tags: dict[str, Any] | None = None
    properties: PropertiesBody | None = None

    @property
    def desired(self) -> dict[str, Any] | None:
        """The desired properties of the body, `None` if it has none."""
        return None if self.properties is None else self.properties.desired


BULK_EXAMPLE: dict[str, Any] = {
    "id": "edge-3",
    "importMode": "create",
    "capabilities": {"iotEdge": True},
    "tags": {"site": "north"},
}


class BulkBody(DeviceBody):
    """One line of a bulk change of the registry: `ExportImportDevice` of contract/hub.md §1.2."""

    model_config = example(BULK_EXAMPLE)

    id: str
    module_id: str | None = None
    etag: str | None = Field(default=None, alias="eTag")
    import_mode: ImportMode = "create"
    twin_etag: str | None = Field(default=None, alias="twinETag")
    tags: dict[str, Any] | None = None
    properties: PropertiesBody | None = None
    managed_by: str | None = None
