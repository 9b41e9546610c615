"""What answers of the hub's paths look like, for OpenAPI: handlers write JSON themselves, and tests hold it against this."""

from typing import Any, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from services.api.http.json_answer import AnswerBody
from services.api.http.openapi import Answered

Status = Literal["enabled", "disabled"]
Kept = dict[str, dict[str, Any]]


class HubErrorAnswer(AnswerBody):
    """An error of the hub's paths (contract/hub.md §1.10); the header `iothub-errorcode` has the code alone."""

    message: str = msgspec.field(name="Message")
    exception_message: str = msgspec.field(name="ExceptionMessage")
    error_code: int | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="errorCode")


class Capabilities(Answered):
    """What a device is capable of."""

    iot_edge: bool


class Keys(Answered):
    """Two keys, so that one can be changed while the other is in use; `null` where there are none."""

    primary_key: str | None
    secondary_key: str | None


class Thumbprints(Answered):
    """Two thumbprints of certificates."""

    primary_thumbprint: str | None
    secondary_thumbprint: str | None


class Authentication(BaseModel):
    """How an identity proves itself."""

    model_config = ConfigDict(extra="forbid")

    symmetric_key: Keys = Field(alias="symmetricKey")
    x509_thumbprint: Thumbprints = Field(alias="x509Thumbprint")
    type: str


class DeviceIdentity(Answered):
    """A device's identity (contract/hub.md §1.3)."""

    device_id: str
    generation_id: str
    etag: str
    connection_state: str
    status: Status
    status_reason: str | None
    connection_state_updated_time: str
    status_updated_time: str
    last_activity_time: str
    cloud_to_device_message_count: int
    authentication: Authentication
    capabilities: Capabilities
    device_scope: str = ""
    parent_scopes: list[str]


class ModuleIdentity(Answered):
    """A module's identity."""

    device_id: str
    module_id: str
    managed_by: str | None
    generation_id: str
    etag: str
    connection_state: str
    connection_state_updated_time: str
    last_activity_time: str
    cloud_to_device_message_count: int
    authentication: Authentication


class DeviceScopeResult(Answered):
    """Identities that a gateway authenticates, and how to go on; `null` at the end."""

    devices: list[DeviceIdentity]
    modules: list[ModuleIdentity]
    continuation_link: str | None


class BulkError(AnswerBody):
    """A line that was refused."""

    device_id: str
    module_id: str | None
    error_code: str
    error_status: str
    operation: str


class BulkResult(AnswerBody):
    """What became of a bulk change (contract/hub.md §1.2)."""

    is_successful: bool
    errors: list[BulkError]
    warnings: list[str]


class MethodResult(Answered):
    """What a direct method of a device answered."""

    status: int
    payload: Any


class ServiceStatistics(Answered):
    """How many devices are connected."""

    connected_device_count: int


class DeviceStatistics(Answered):
    """How many devices there are."""

    total_device_count: int
    enabled_device_count: int
    disabled_device_count: int


class Properties(Answered):
    """Desired and reported properties, each with its `$version`."""

    desired: dict[str, Any]
    reported: dict[str, Any]


class ConfigurationStatus(Answered):
    """What a deployment that targets the device is to its twin: part of what it shows, or passed over."""

    status: Literal["Applied", "Targeted"]


class AnyTwin(Answered):
    """What a device's twin and a module's both have (contract/hub.md §1.6); tags are left out where there are none."""

    device_id: str
    etag: str
    device_etag: str
    status: Status
    status_update_time: str
    connection_state: str
    last_activity_time: str
    cloud_to_device_message_count: int
    authentication_type: str
    x509_thumbprint: Thumbprints
    model_id: str
    version: int
    tags: dict[str, Any] = Field(default={})
    properties: Properties
    configurations: dict[str, ConfigurationStatus] = Field(default={})


class Twin(AnyTwin):
    """A device's twin."""

    status_reason: str | None
    capabilities: Capabilities
    device_scope: str = ""
    parent_scopes: list[str] = Field(default=[])


class ModuleTwin(AnyTwin):
    """A module's twin."""

    module_id: str


class Results(Answered):
    """Counts by query, and the queries they stand for."""

    results: dict[str, int]
    queries: dict[str, str]


class Configuration(Answered):
    """A deployment in the hub's shape (contract/hub.md §1.5); secrets in the content show as references."""

    id: str
    schema_version: str
    labels: dict[str, str] | None
    content: Kept
    content_type: str
    target_condition: str
    created_time_utc: str
    last_updated_time_utc: str
    priority: int
    system_metrics: Results
    metrics: Results
    etag: str


class QueriesTried(Answered):
    """What is wrong with a condition and with queries; `null` and nothing where all is well."""

    target_condition_error: str | None
    custom_metric_query_errors: dict[str, str]
