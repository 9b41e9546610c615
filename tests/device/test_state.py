"""Versions and etags after each event (contract/hub.md §1.6)."""

from typing import Any

import msgspec
import pytest

from events import canonical
from events.canonical import JsonObject
from events.device.events import (
    DeviceEvent,
    DeviceRegistered,
    DeviceRetired,
    DeviceUpdated,
    ModuleCreated,
    ModuleDeleted,
    PropertiesReported,
    TwinPatched,
    TwinReplaced,
)
from events.device.state import (
    NEVER,
    DeviceDocument,
    ModuleDocument,
    ModuleIdentity,
    begun_module,
    current_module,
    decode_device,
    decode_module,
    evolve_twin,
    matches,
    section,
    twin_etag,
)
from events.device.times import time_text
from events.device.twin import Configured, PropertyAuthor, device_twin, module_twin
from tests.device.given import device, module

JOINED = DeviceRegistered()


def test_a_new_twin_has_version_2_and_its_sections_version_1() -> None:
    twin = device_twin("edge-1", device(JOINED))
    assert (twin["version"], twin["etag"], twin["deviceEtag"]) == (2, "AAAAAAAAAAE=", "AAAAAAAAAAE=")
    born = {"$lastUpdated": "1970-01-01T00:00:01.000Z"}
    assert twin["properties"] == {
        "desired": {"$metadata": {**born, "$lastUpdatedVersion": 1}, "$version": 1},
        "reported": {"$metadata": born, "$version": 1},
    }
    assert not {"tags", "configurations"} & twin.keys()
    assert (twin["authenticationType"], twin["modelId"]) == ("sas", "")
    assert twin["deviceScope"] == "ms-azure-iot-edge://edge-1-621355968010000001"
    assert (twin["status"], twin["statusReason"], twin["capabilities"]) == ("enabled", None, {"iotEdge": True})


@pytest.mark.parametrize(
    ("event", "twin_version", "etag", "desired", "reported", "identity"),
    [
        (TwinPatched({"a": 1}), 3, 2, 1, 1, 1),
        (TwinPatched(None, {"a": 1}), 3, 2, 2, 1, 1),
        (TwinReplaced({}, {}), 3, 2, 2, 1, 1),
        (PropertiesReported({"a": 1}), 3, 1, 1, 2, 1),
        (DeviceUpdated(edge=True, enabled=False), 2, 1, 1, 1, 2),
        (ModuleCreated("m"), 2, 1, 1, 1, 1),
    ],
)
def test_each_event_moves_the_counters_that_it_concerns(  # noqa: PLR0917 - a row of the table
    event: DeviceEvent, twin_version: int, etag: int, desired: int, reported: int, identity: int
) -> None:
    document = device(JOINED, event)
    assert (document.twin_version, document.twin_etag, document.identity_etag) == (twin_version, etag, identity)
    assert (document.desired_version, document.reported_version) == (desired, reported)
    assert document.version == 2


def test_a_report_does_not_move_the_etag_that_writers_compare() -> None:
    before, after = device(JOINED, TwinPatched({"a": 1})), device(JOINED, TwinPatched({"a": 1}), PropertiesReported({}))
    assert twin_etag(before.twin_etag) == twin_etag(after.twin_etag)


def test_registered_again_is_a_new_generation_that_begins_empty_while_version_and_etags_go_on() -> None:
    once = device(JOINED, TwinPatched({"a": 1}, {"b": 2}), PropertiesReported({"c": 3}), ModuleCreated("m"))
    again = device(
        *(JOINED, TwinPatched({"a": 1}, {"b": 2}), PropertiesReported({"c": 3}), ModuleCreated("m")),
        *(DeviceRetired(), JOINED),
    )
    assert (again.generation, again.version, again.retired) == (2, 6, False)
    assert (section(again.tags), section(again.desired), section(again.reported), again.modules) == ({}, {}, {}, {})
    assert (again.twin_version, again.desired_version, again.reported_version) == (2, 1, 1)
    assert again.twin_etag > once.twin_etag
    assert again.identity_etag > once.identity_etag


def test_a_module_of_a_former_registration_begins_anew_with_another_etag() -> None:
    former = module(TwinPatched(None, {"a": 1}), of=device(JOINED))
    assert former is not None
    again = device(JOINED, DeviceRetired(), JOINED)
    anew = evolve_twin(current_module(former, again), PropertiesReported({"b": 2}), version=2, at=5000)
    assert (anew.generation, section(anew.desired), section(anew.reported)) == (2, {}, {"b": 2})
    assert (anew.version, anew.twin_etag > former.twin_etag) == (2, True)


def test_the_status_time_moves_with_the_status_alone() -> None:
    assert device(JOINED).status_updated_at == NEVER
    off = DeviceUpdated(edge=True, enabled=False)
    assert device(JOINED, off, DeviceUpdated(edge=False, enabled=False)).status_updated_at == 2000


def test_null_deletes_and_objects_merge() -> None:
    document = device(
        JOINED, TwinPatched({"a": {"b": 1, "c": 2}, "d": 3}), TwinPatched({"a": {"b": None}, "d": {"e": None, "f": 4}})
    )
    assert section(document.tags) == {"a": {"c": 2}, "d": {"f": 4}}
    replaced = device(JOINED, TwinPatched({"a": 1}, {"b": 2}), TwinReplaced({"c": 3}, {}))
    assert (section(replaced.tags), section(replaced.desired)) == ({"c": 3}, {})


def test_a_module_twin_lies_under_the_section_of_the_configuration() -> None:
    own = module(TwinPatched(None, {"rate": 1, "mine": True}), PropertiesReported({"seen": 1}))
    twin = module_twin("edge-1", "m", own, Configured())
    assert plain(twin["properties"]["desired"]) == {"rate": 1, "mine": True, "$version": 2}
    assert (twin["deviceId"], twin["moduleId"], twin["version"]) == ("edge-1", "m", 4)
    empty = module_twin("edge-1", "m", begun_module(device(JOINED)), Configured())
    assert {name: plain(part) for name, part in empty["properties"].items()} == {
        "desired": {"$version": 1},
        "reported": {"$version": 1},
    }
    given = Configured(
        {"rate": 5, "deep": {"x": 1}}, 3, 9000, lambda path: PropertyAuthor("layer", 0) if path == ("rate",) else None
    )
    both = module_twin("edge-1", "m", own, given)["properties"]["desired"]
    assert plain(both) == {"rate": 5, "mine": True, "deep": {"x": 1}, "$version": 4}
    at_nine = {"$lastUpdated": "1970-01-01T00:00:09.000Z", "$lastUpdatedVersion": 4}
    author = {"$lastUpdatedBy": "layer", "$lastUpdatedByDigest": "621355968000000000"}
    assert both["$metadata"] == {
        **at_nine,
        "mine": {"$lastUpdated": "1970-01-01T00:00:01.000Z", "$lastUpdatedVersion": 2},
        "rate": {**at_nine, **author},
        "deep": {**at_nine, "x": at_nine},
    }


def stamped(at: int, version: int) -> JsonObject:
    return {"$lastUpdated": f"1970-01-01T00:00:0{at}.000Z", "$lastUpdatedVersion": version}


def test_a_property_keeps_the_time_of_its_own_change() -> None:
    document = device(
        JOINED,
        TwinPatched(None, {"a": 1}),
        TwinPatched(None, {"b": 2}),
        PropertiesReported({"c": 3}),
        PropertiesReported({"d": 4}),
    )
    properties = device_twin("edge-1", document)["properties"]
    assert properties["desired"]["$metadata"] == {**stamped(3, 3), "a": stamped(2, 2), "b": stamped(3, 3)}
    reported = properties["reported"]["$metadata"]
    assert (reported["c"]["$lastUpdated"], reported["d"]["$lastUpdated"]) == (time_text(4000), time_text(5000))


def test_what_configurations_give_an_object_lies_over_the_stamps_of_what_is_in_it() -> None:
    document = device(JOINED, TwinPatched(None, {"deep": {"a": 1}}), TwinPatched(None, {"deep": {"b": 2}}))
    given = Configured({"deep": {"x": 5}}, 2, 9000)
    twin = device_twin("edge-1", document, given)
    assert twin["properties"]["desired"]["$metadata"] == {
        **stamped(9, 4),
        "deep": {**stamped(9, 4), "a": stamped(2, 2), "b": stamped(3, 3), "x": stamped(9, 4)},
    }


def plain(section: JsonObject) -> JsonObject:
    return {name: value for name, value in section.items() if name != "$metadata"}


def test_documents_are_kept_and_read_back() -> None:
    full = device(JOINED, TwinPatched({"a": {"b": [1, None]}}, {"c": 1.5}), ModuleCreated("m", "IotEdge"))
    assert canonical.encode(decode_device(canonical.encode(full))) == canonical.encode(full)
    own = module(TwinPatched(None, {"ä": "ö"}))
    assert own is not None
    assert canonical.encode(decode_module(canonical.encode(own))) == canonical.encode(own)


def test_deleting_a_module_takes_its_identity_away() -> None:
    assert device(JOINED, ModuleCreated("m"), ModuleDeleted("m")).modules == {}


@pytest.mark.parametrize(
    ("if_match", "holds"),
    [
        (None, True),
        ("*", True),
        ('"*"', True),
        (twin_etag(7), True),
        (f'"{twin_etag(7)}"', True),
        (twin_etag(8), False),
    ],
)
def test_a_condition_is_none_the_wildcard_or_the_etag_with_quotes_or_without(
    if_match: str | None,
    holds: bool,  # noqa: FBT001 - a column of the table
) -> None:
    assert matches(if_match, 7) is holds


def test_times_are_written_as_the_hub_does() -> None:
    assert time_text(NEVER) == "0001-01-01T00:00:00Z"
    assert time_text(0) == "1970-01-01T00:00:00.000Z"
    assert time_text(1_767_225_600_123) == "2026-01-01T00:00:00.123Z"


def test_stored_documents_keep_the_order_of_their_members() -> None:
    # Documents that an earlier version stored are compared by their bytes with what a replay gives.
    sections = {name: msgspec.Raw(b'{"a":1}') for name in ("tags", "desired", "reported")}
    stamps = {name: msgspec.Raw(b'{"a":{}}') for name in ("desired_stamps", "reported_stamps")}
    counters = {"twin_etag": 5, "twin_version": 6, "desired_version": 7, "reported_version": 8, "desired_at": 9}
    twin: dict[str, Any] = {"version": 3, "generation": 4, "reported_at": 10, **counters, **sections, **stamps}
    device = DeviceDocument(
        **twin,
        retired=True,
        edge=False,
        enabled=False,
        status_reason="r",
        identity_etag=2,
        registered_at=11,
        status_updated_at=12,
        modules={"m": ModuleIdentity(1)},
        modules_deleted=1,
        authentication={},
        parent_scope="s",
    )
    assert list(msgspec.json.decode(canonical.encode(device))) == [
        *("version", "generation", "retired", "edge", "enabled", "status_reason", "identity_etag", "twin_etag"),
        *("twin_version", "desired_version", "reported_version", "registered_at", "status_updated_at", "desired_at"),
        *("reported_at", "tags", "desired", "reported", "desired_stamps", "reported_stamps", "modules"),
        *("modules_deleted", "authentication", "parent_scope"),
    ]
    assert list(msgspec.json.decode(canonical.encode(ModuleDocument(**twin)))) == [
        *("version", "generation", "twin_etag", "twin_version", "desired_version", "reported_version", "desired_at"),
        *("reported_at", "tags", "desired", "reported", "desired_stamps", "reported_stamps"),
    ]
