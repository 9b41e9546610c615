"""The exact limits of devices and twins, and what each decision is held against."""

from typing import Any

import pytest

from events.device.commands import (
    AcknowledgeDesired,
    PatchTags,
    PatchTwin,
    RegisterDevice,
    ReplaceTwin,
    ReportProperties,
    SetConfiguration,
    UpdateDevice,
    UpdateModule,
    subject_of,
)
from events.device.decider import SECTIONS_MAX, VERSION_MAX, check, decide
from events.device.errors import (
    DeliveryInvalid,
    DeviceScopeInvalid,
    EtagMismatch,
    IdentityTextInvalid,
    ModuleIdInvalid,
    NotEdgeCapable,
    TwinLimitExceeded,
)
from events.device.events import ConfigurationSet, DeviceRegistered, ModuleCreated, PropertiesReported, TwinPatched
from events.device.hierarchy import SCOPE_CHARACTERS_MAX
from events.device.state import matches, twin_etag
from events.device.tags import personal_paths
from events.properties import LimitProblem
from tests.device.given import DEVICE, device, given
from tests.manifest.contents import content

LONG = "x" * 3000
EDGE = DeviceRegistered()


@pytest.mark.parametrize("character", ["\ud7ff", "\ue000", "\U0001f600"])
def test_whole_characters_are_text(character: str) -> None:
    check(RegisterDevice(DEVICE, status_reason=character))


@pytest.mark.parametrize("character", ["\ud800", chr(0xDFFF)])
def test_half_a_pair_is_none(character: str) -> None:
    with pytest.raises(IdentityTextInvalid):
        check(RegisterDevice(DEVICE, status_reason=character))


def test_of_a_patch_each_part_that_is_there_is_checked_and_of_a_whole_twin_both() -> None:
    wrong = {"a": 2**60}
    for command in (
        PatchTwin(DEVICE, tags=wrong),
        PatchTwin(DEVICE, desired=wrong),
        ReplaceTwin(DEVICE, tags=wrong),
        ReplaceTwin(DEVICE, desired=wrong),
    ):
        with pytest.raises(TwinLimitExceeded):
            check(command)
    check(PatchTwin(DEVICE, tags={"a": 1}))
    check(PatchTwin(DEVICE, desired={"a": 1}))


def test_a_command_is_about_the_device_or_about_the_twin_of_its_module() -> None:
    assert subject_of(PatchTags(DEVICE, {})) == DEVICE
    assert subject_of(PatchTwin(DEVICE, tags={})) == DEVICE
    assert subject_of(PatchTwin(DEVICE, tags={}, module_id="m")) != DEVICE
    assert subject_of(ReportProperties(DEVICE, {}, module_id="m")) == subject_of(
        PatchTwin(DEVICE, tags={}, module_id="m")
    )
    assert subject_of(UpdateModule(DEVICE, "m")) == DEVICE


def test_only_an_edge_device_is_given_a_configuration() -> None:
    given(EDGE).when(SetConfiguration(DEVICE, content())).then(ConfigurationSet(content()))
    given(DeviceRegistered(edge=False)).when(SetConfiguration(DEVICE, content())).refused(NotEdgeCapable)


@pytest.mark.parametrize("part", ["tags", "desired"])
def test_a_patch_is_held_to_the_limits_together_with_what_its_own_twin_has(part: str) -> None:
    """Half of the device's and half of the module's own are within the limit, and two halves of one are not."""
    half = {f"a{number}": LONG for number in range(2 if part == "tags" else 7)}
    more = {f"b{number}": LONG for number in range(2 if part == "tags" else 7)}
    of_device = given(DeviceRegistered(), ModuleCreated("m", ""), TwinPatched(**{part: half}))
    of_device.when(PatchTwin(DEVICE, **{part: more})).refused(TwinLimitExceeded)
    of_device.when(PatchTwin(DEVICE, module_id="m", **{part: more})).then(TwinPatched(**{part: more}))
    of_module = given(DeviceRegistered(), ModuleCreated("m", "")).with_module(TwinPatched(**{part: half}))
    of_module.when(PatchTwin(DEVICE, module_id="m", **{part: more})).refused(TwinLimitExceeded)
    of_module.when(PatchTwin(DEVICE, **{part: more})).then(TwinPatched(**{part: more}))


def test_a_report_is_held_to_the_limits_together_with_what_its_own_twin_reported() -> None:
    half = {f"a{number}": LONG for number in range(7)}
    more = {f"b{number}": LONG for number in range(7)}
    of_device = given(EDGE, PropertiesReported(half))
    of_device.when(ReportProperties(DEVICE, more)).refused(TwinLimitExceeded)
    of_device.when(ReportProperties(DEVICE, more, module_id="m")).then(PropertiesReported(more))
    of_module = given(EDGE).with_module(PropertiesReported(half))
    of_module.when(ReportProperties(DEVICE, more, module_id="m")).refused(TwinLimitExceeded)
    of_module.when(ReportProperties(DEVICE, more)).then(PropertiesReported(more))


def test_tags_alone_hold_references_to_personal_values() -> None:
    reference: Any = {"owner": {"$secret": "0"}}
    assert decide(PatchTags(DEVICE, reference), device(EDGE), None) == TwinPatched(reference)
    with pytest.raises(TwinLimitExceeded):
        decide(ReportProperties(DEVICE, reference), device(EDGE), None)


@pytest.mark.parametrize(
    "command",
    [
        PatchTags(DEVICE, {"a": [{"b": None}]}),
        PatchTwin(DEVICE, desired={"a": [1, {"b": {"c": None}}]}),
        ReplaceTwin(DEVICE, tags={"a": [{"b": None}]}),
        ReportProperties(DEVICE, {"a": {"b": [{"c": None}]}}),
    ],
)
def test_a_null_in_an_array_is_no_value_although_a_patch_that_removes_a_member_has_one(command: Any) -> None:
    check(command)
    with pytest.raises(TwinLimitExceeded, match="null removes a property"):
        decide(command, device(EDGE), None)


@pytest.mark.parametrize("member", ["device_scope", "parent_scopes"])
def test_a_scope_is_held_to_its_length(member: str) -> None:
    def register(length: int) -> RegisterDevice:
        scope: Any = "x" * length
        return RegisterDevice(DEVICE, edge=False, **{member: scope if member == "device_scope" else (scope,)})

    check(register(SCOPE_CHARACTERS_MAX))
    with pytest.raises(DeviceScopeInvalid, match="256 characters"):
        check(register(SCOPE_CHARACTERS_MAX + 1))


def versions_of(count: int) -> dict[str, int]:
    return {f"m{number}": 1 for number in range(count)}


@pytest.mark.parametrize(
    "versions", [{"cam": 1}, {"cam": VERSION_MAX}, {"$device": 2}, versions_of(1), versions_of(SECTIONS_MAX)]
)
def test_what_a_device_can_have_is_acknowledged(versions: dict[str, int]) -> None:
    check(AcknowledgeDesired(DEVICE, versions))


@pytest.mark.parametrize(
    ("versions", "rule"),
    [
        ({}, "names 1 to 200 modules"),
        (versions_of(SECTIONS_MAX + 1), "names 1 to 200 modules"),
        ({"$edgeAgent": 1}, "lastDesiredVersion"),
        ({"$edgeHub": 1}, "lastDesiredVersion"),
        ({"cam": 0}, "has a version from 1 to 2147483647, not 0"),
        ({"cam": VERSION_MAX + 1}, "has a version from 1 to 2147483647"),
        ({"cam": True}, "not True"),
        ({"cam": 1.0}, "not 1.0"),
        ({"cam": "1"}, "not '1'"),
    ],
)
def test_what_no_device_can_have_is_refused(versions: Any, rule: str) -> None:
    with pytest.raises(DeliveryInvalid) as caught:
        check(AcknowledgeDesired(DEVICE, versions))
    assert rule in str(caught.value)


def test_what_is_acknowledged_has_the_name_of_a_module() -> None:
    with pytest.raises(ModuleIdInvalid):
        check(AcknowledgeDesired(DEVICE, {"a/b": 1}))


def test_an_etag_that_does_not_match_is_told_beside_the_one_that_would() -> None:
    when = given(DeviceRegistered()).when(UpdateDevice(DEVICE, enabled=False, if_match="other"))
    assert "not other;" in str(when.refused(EtagMismatch))
    when = given(DeviceRegistered()).when(PatchTwin(DEVICE, tags={"a": 1}, if_match="other"))
    assert "not other;" in str(when.refused(EtagMismatch))
    module = given(DeviceRegistered(), ModuleCreated("m", "")).when(UpdateModule(DEVICE, "m", if_match="other"))
    assert "not other;" in str(module.refused(EtagMismatch))


@pytest.mark.parametrize("quoted", ['"', '""', "", '"*', '*"', '"other"'])
def test_quotes_that_are_not_around_an_etag_match_nothing(quoted: str) -> None:
    assert not matches(quoted, 1)
    assert not matches(f'"{twin_etag(1)}x', 1)
    assert not matches(f'x{twin_etag(1)}"', 1)
    assert matches(f'"{twin_etag(1)}"', 1)
    assert matches('"*"', 1)


@pytest.mark.parametrize(("count", "end"), [(20, "p19"), (21, "; and 1 more")])
def test_of_many_problems_twenty_are_told(count: int, end: str) -> None:
    problems = tuple(LimitProblem("a", "size", 1, 2, f"p{number}") for number in range(count))
    assert str(TwinLimitExceeded("d", problems)).endswith(end)


def test_personal_tags_are_paths() -> None:
    assert personal_paths(" owner, contact.mail ,,owner") == (("contact", "mail"), ("owner",))
    assert personal_paths("") == ()
    with pytest.raises(ValueError, match="a personal tag is a path such as owner"):
        personal_paths("owner,contact..mail")
