from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from events import canonical
from events.device.commands import (
    CreateModule,
    DeleteModule,
    DeviceCommand,
    PatchTags,
    PatchTwin,
    RegisterDevice,
    ReplaceTwin,
    ReportProperties,
    RetireDevice,
    UpdateDevice,
    subject_of,
)
from events.device.decider import check, decide
from events.device.errors import (
    DeviceError,
    DeviceExists,
    DeviceIdInvalid,
    DeviceNotFound,
    EtagMismatch,
    IdentityTextInvalid,
    ModuleExists,
    ModuleIdInvalid,
    ModuleNotFound,
    SystemModuleReserved,
    TwinLimitExceeded,
)
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
from events.device.state import begun_module, twin_etag
from tests.device.given import DEVICE, device, given, module
from tests.manifest.values import anything

JOINED = DeviceRegistered()
ETAGS = ["AAAAAAAAAAE=", '"AAAAAAAAAAE="', "*", '"*"', None]


def test_registering_records_what_the_device_is() -> None:
    given().when(RegisterDevice(DEVICE)).then(DeviceRegistered())
    given().when(RegisterDevice(DEVICE, edge=False, enabled=False, status_reason="spare")).then(
        DeviceRegistered(edge=False, enabled=False, status_reason="spare")
    )


def test_a_device_is_registered_once_and_again_after_it_retired() -> None:
    given(JOINED).when(RegisterDevice(DEVICE)).refused(DeviceExists, DEVICE)
    given(JOINED, DeviceRetired()).when(RegisterDevice(DEVICE)).then(DeviceRegistered())


def test_an_update_changes_what_it_names_and_leaves_the_rest() -> None:
    stands = given(DeviceRegistered(enabled=False, status_reason="stolen"))
    stands.when(UpdateDevice(DEVICE, enabled=True)).then(DeviceUpdated(True, True, "stolen"))  # noqa: FBT003 - the event
    stands.when(UpdateDevice(DEVICE, edge=False, status_reason="found")).then(
        DeviceUpdated(edge=False, enabled=False, status_reason="found")
    )


@pytest.mark.parametrize(
    "command",
    [
        UpdateDevice(DEVICE),
        RetireDevice(DEVICE),
        CreateModule(DEVICE, "m"),
        DeleteModule(DEVICE, "m"),
        PatchTags(DEVICE, {}),
        PatchTwin(DEVICE),
        ReplaceTwin(DEVICE),
        ReportProperties(DEVICE, {}),
        ReportProperties(DEVICE, {}, module_id="$edgeAgent"),
    ],
    ids=repr,
)
def test_nothing_happens_to_a_device_that_is_not_there(command: DeviceCommand) -> None:
    given().when(command).refused(DeviceNotFound, DEVICE)
    given(JOINED, DeviceRetired()).when(command).refused(DeviceNotFound, DEVICE)


def test_patches_and_replacements_become_events() -> None:
    there = given(JOINED)
    there.when(RetireDevice(DEVICE)).then(DeviceRetired())
    given(JOINED, TwinPatched({"a": 1})).when(PatchTags(DEVICE, {"a": None})).then(TwinPatched({"a": None}))
    there.when(PatchTwin(DEVICE, tags={"a": 1}, desired={"b": 2})).then(TwinPatched({"a": 1}, {"b": 2}))
    there.when(PatchTwin(DEVICE, module_id="m", desired={"b": 2})).then(TwinPatched(None, {"b": 2}))
    there.when(ReportProperties(DEVICE, {"a": {"b": None}})).then(PropertiesReported({"a": {"b": None}}))


def test_a_replacement_holds_no_nulls() -> None:
    given(JOINED).when(ReplaceTwin(DEVICE, tags={"a": None, "b": {"c": None}}, desired={"d": 1})).then(
        TwinReplaced({"b": {}}, {"d": 1})
    )


TAGGED = (JOINED, TwinPatched({"a": 1, "b": {"c": True}}, {"d": 2}))


@pytest.mark.parametrize(
    "command",
    [
        PatchTags(DEVICE, {}),
        PatchTags(DEVICE, {"a": 1, "z": None, "b": {"c": True, "z": None}}),
        PatchTwin(DEVICE),
        PatchTwin(DEVICE, tags={"a": 1}, desired={"d": 2}, if_match="*"),
        PatchTwin(DEVICE, module_id="m", tags={}, desired={}, clear=("tags", "desired")),
        ReplaceTwin(DEVICE, tags={"b": {"c": True}, "a": 1}, desired={"d": 2}),
        ReplaceTwin(DEVICE, module_id="m"),
        UpdateDevice(DEVICE),
        UpdateDevice(DEVICE, edge=True, enabled=True, if_match="*"),
    ],
)
def test_a_write_that_changes_nothing_is_no_event(command: DeviceCommand) -> None:
    given(*TAGGED).when(command).changes_nothing()


@pytest.mark.parametrize("value", [1.0, True, "1", [1], {"x": 1}])
def test_a_value_of_another_type_is_a_change_although_python_may_call_it_equal(value: Any) -> None:
    given(*TAGGED).when(PatchTags(DEVICE, {"a": value})).then(TwinPatched({"a": value}))


def test_a_part_that_does_not_change_keeps_its_version() -> None:
    there = given(*TAGGED)
    there.when(PatchTwin(DEVICE, tags={"a": 2}, desired={"d": 2})).then(TwinPatched({"a": 2}))
    there.when(PatchTwin(DEVICE, tags={"a": 1}, desired={"d": 3})).then(TwinPatched(None, {"d": 3}))
    tags_only = ReplaceTwin(DEVICE, tags={"b": {"e": 1}, "f": 2}, desired={"d": 2})
    there.when(tags_only).then(TwinPatched({"a": None, "b": {"c": None, "e": 1}, "f": 2}))
    desired_only = ReplaceTwin(DEVICE, tags={"a": 1, "b": {"c": True}}, desired={"d": 3})
    there.when(desired_only).then(TwinReplaced({"a": 1, "b": {"c": True}}, {"d": 3}))


def test_a_part_can_lose_all_that_it_has() -> None:
    there = given(*TAGGED)
    there.when(PatchTwin(DEVICE, clear=("tags",))).then(TwinPatched({"a": None, "b": None}))
    there.when(PatchTwin(DEVICE, tags={"a": 3}, clear=("tags", "desired"))).then(
        TwinPatched({"a": 3, "b": None}, {"d": None})
    )
    there.when(PatchTwin(DEVICE, "$edgeAgent", clear=("desired",))).refused(SystemModuleReserved)


def test_a_report_is_an_event_although_it_changes_nothing_as_the_hub_counts_each() -> None:
    given(JOINED, PropertiesReported({"a": 1})).when(ReportProperties(DEVICE, {"a": 1})).then(
        PropertiesReported({"a": 1})
    )


def test_modules_made_by_hand_are_part_of_the_device() -> None:
    given(JOINED).when(CreateModule(DEVICE, "m", "IotEdge")).then(ModuleCreated("m", "IotEdge"))
    there = given(JOINED, ModuleCreated("m"))
    there.when(CreateModule(DEVICE, "m")).refused(ModuleExists, "m")
    there.when(DeleteModule(DEVICE, "m")).then(ModuleDeleted("m"))
    given(JOINED).when(DeleteModule(DEVICE, "m")).refused(ModuleNotFound, "m")
    given(JOINED, ModuleCreated("m"), DeviceRetired(), JOINED).when(CreateModule(DEVICE, "m")).then(ModuleCreated("m"))


@pytest.mark.parametrize("module_id", ["$edgeAgent", "$edgeHub"])
def test_what_system_modules_should_run_comes_from_deployments_alone(module_id: str) -> None:
    there = given(JOINED)
    there.when(PatchTwin(DEVICE, module_id=module_id, desired={"a": 1})).refused(SystemModuleReserved, module_id)
    there.when(ReplaceTwin(DEVICE, module_id=module_id, desired={})).refused(SystemModuleReserved, module_id)
    there.when(CreateModule(DEVICE, module_id)).refused(ModuleIdInvalid, module_id)
    there.when(DeleteModule(DEVICE, module_id)).refused(ModuleIdInvalid, module_id)
    there.when(ReportProperties(DEVICE, {"a": 1}, module_id=module_id)).then(PropertiesReported({"a": 1}))


@pytest.mark.parametrize("etag", ETAGS)
def test_a_condition_that_holds_lets_a_change_through(etag: str | None) -> None:
    given(JOINED).when(PatchTwin(DEVICE, tags={"a": 1}, if_match=etag)).then(TwinPatched({"a": 1}))
    replace = ReplaceTwin(DEVICE, module_id="m", desired={"a": 1}, if_match=etag)
    given(JOINED).when(replace).then(TwinReplaced({}, {"a": 1}))


def test_a_condition_that_does_not_hold_is_refused_with_the_etag_that_stands() -> None:
    moved = given(JOINED, TwinPatched({"a": 1}))
    for etag in ("AAAAAAAAAAE=", "", '"', "nonsense"):
        moved.when(PatchTwin(DEVICE, tags={}, if_match=etag)).refused(EtagMismatch, "AAAAAAAAAAI=")
        moved.when(ReplaceTwin(DEVICE, if_match=etag)).refused(EtagMismatch, "AAAAAAAAAAI=")
    given(JOINED).with_module(PropertiesReported({}), TwinPatched(None, {})).when(
        PatchTwin(DEVICE, module_id="m", desired={}, if_match="AAAAAAAAAAE=")
    ).refused(EtagMismatch, f"{DEVICE}/m", "AAAAAAAAAAI=")


@pytest.mark.parametrize(
    "between",
    [
        (ModuleDeleted("m"), ModuleCreated("m")),
        (DeviceRetired(), JOINED, ModuleCreated("m")),
        (ModuleDeleted("m"), DeviceRetired(), JOINED, ModuleCreated("m")),
    ],
)
@pytest.mark.parametrize("changes", [(), (TwinPatched({"a": 1}),), (TwinPatched({"a": 1}), TwinPatched({"a": 2}))])
def test_an_etag_of_a_modules_twin_never_fits_the_next_twin_of_its_id(
    between: tuple[DeviceEvent, ...], changes: tuple[DeviceEvent, ...]
) -> None:
    before = device(JOINED, ModuleCreated("m"))
    former = module(*changes, of=before) or begun_module(before)
    now = given(JOINED, ModuleCreated("m"), *between)
    stale = PatchTwin(DEVICE, module_id="m", tags={}, if_match=twin_etag(former.twin_etag))
    now.when(stale).refused(EtagMismatch, f"{DEVICE}/m")
    now.with_module(*changes).when(stale).refused(EtagMismatch, f"{DEVICE}/m")


def test_etags_of_two_registrations_of_a_device_are_never_the_same() -> None:
    once = device(JOINED, TwinPatched({"a": 1}))
    again = given(JOINED, TwinPatched({"a": 1}), DeviceRetired(), JOINED)
    again.when(RetireDevice(DEVICE, twin_etag(once.identity_etag))).refused(EtagMismatch)
    again.when(PatchTwin(DEVICE, tags={}, if_match=twin_etag(once.twin_etag))).refused(EtagMismatch)


@pytest.mark.parametrize("device_id", ["", "a" * 129, "a b", "a/b", "ä", "a\n", 'a"', "\ud800", None, 7, ["a"]])
def test_what_no_hub_takes_as_an_id_is_refused(device_id: Any) -> None:
    given().when(RegisterDevice(device_id)).refused(DeviceIdInvalid, "1 to 128")
    given(JOINED).when(CreateModule(DEVICE, device_id)).refused(ModuleIdInvalid)


@pytest.mark.parametrize("name", [".", ".."])
def test_a_name_that_clients_take_for_a_step_of_a_path_is_refused(name: str) -> None:
    given().when(RegisterDevice(name)).refused(DeviceIdInvalid, "add another character")
    given(JOINED).when(CreateModule(DEVICE, name)).refused(ModuleIdInvalid, "add another character")
    given().when(RegisterDevice(f"{name}a")).then(DeviceRegistered())


def test_every_character_a_hub_takes_is_taken() -> None:
    given().when(RegisterDevice("Aa0-:.+%_#*?!(),=@;$'")).then(DeviceRegistered())
    given().when(RegisterDevice("a" * 128)).then(DeviceRegistered())
    given(JOINED).when(CreateModule(DEVICE, "$own")).refused(ModuleIdInvalid, "$")


@pytest.mark.parametrize(
    ("text", "said"), [("x" * 129, "at most 128"), ("\ud800", "surrogate"), (7, "not int")], ids=["long", "half", "int"]
)
def test_a_reason_is_a_text_of_some_length(text: Any, said: str) -> None:
    given().when(RegisterDevice(DEVICE, status_reason=text)).refused(IdentityTextInvalid, "statusReason", said)
    given(JOINED).when(UpdateDevice(DEVICE, status_reason=text)).refused(IdentityTextInvalid, said)
    given(JOINED).when(CreateModule(DEVICE, "m", text)).refused(IdentityTextInvalid, "managedBy", said)
    given().when(RegisterDevice(DEVICE, status_reason="x" * 128)).then(DeviceRegistered(status_reason="x" * 128))


def test_a_twin_is_held_to_its_limits_as_it_would_be_and_not_only_the_patch() -> None:
    full = {f"k{number}": "x" * 4000 for number in range(2)}
    there = given(JOINED, TwinPatched(full))
    error = there.when(PatchTags(DEVICE, {"more": "x" * 200})).refused(TwinLimitExceeded, DEVICE, "tags", 8192)
    (problem,) = error.problems
    assert (problem.path, problem.rule, problem.limit, problem.actual) == ("tags", "size", 8192, 8208)
    there.when(PatchTags(DEVICE, {"more": "x" * 200, "k0": None})).then(TwinPatched({"more": "x" * 200, "k0": None}))


@pytest.mark.parametrize(
    ("command", "root", "limit"),
    [
        (lambda patch: PatchTags(DEVICE, patch), "tags", 8192),
        (lambda patch: PatchTwin(DEVICE, desired=patch), "properties.desired", 32768),
        (lambda patch: PatchTwin(DEVICE, module_id="m", desired=patch), "properties.desired", 32768),
        (lambda patch: ReplaceTwin(DEVICE, desired=patch), "properties.desired", 32768),
        (lambda patch: ReportProperties(DEVICE, patch), "properties.reported", 32768),
        (lambda patch: ReportProperties(DEVICE, patch, module_id="m"), "properties.reported", 32768),
    ],
    ids=["tags", "desired", "module-desired", "replaced", "reported", "module-reported"],
)
def test_each_section_has_its_limit_to_the_byte(command: Any, root: str, limit: int) -> None:
    fits = {f"k{number:02}": "x" * 4093 for number in range(limit // 4096)}
    subject = command(fits)
    check(subject)
    decide(subject, device(JOINED), None)
    fits["k00"] += "x"
    error = given(JOINED).when(command(fits)).refused(TwinLimitExceeded, root)
    assert (error.problems[0].limit, error.problems[0].actual) == (limit, limit + 1)


ids = st.sampled_from([DEVICE, "", "a/b", "$edgeAgent", "m", "\ud800"]) | st.text(max_size=5)
deep: Any = {}
for _ in range(50_000):
    deep = {"a": deep}
values = anything | st.just(deep) | st.just({"a": [[[None]]]}) | st.just({"a": 10**6000}) | st.just({1: 2})
commands: st.SearchStrategy[DeviceCommand] = st.one_of(
    st.builds(RegisterDevice, ids),
    st.builds(PatchTags, ids, values),
    st.builds(PatchTwin, ids, module_id=st.none() | ids, tags=values, desired=values, if_match=st.none() | st.text()),
    st.builds(ReplaceTwin, ids, module_id=st.none() | ids, tags=values, desired=values),
    st.builds(ReportProperties, ids, values, module_id=st.none() | ids),
    st.builds(CreateModule, ids, ids),
    st.builds(DeleteModule, ids, ids),
)


@settings(derandomize=True, deadline=None, max_examples=300)
@for_all(commands)
def test_any_command_is_an_event_that_can_be_written_or_a_typed_refusal(command: DeviceCommand) -> None:
    try:
        check(command)
        event = decide(command, device(JOINED, TwinPatched({"a": {"b": 1}}), ModuleCreated("m")), None)
    except DeviceError as error:
        assert str(error)  # noqa: PT017 - either is right
        return
    canonical.encode(event)
    assert subject_of(command).partition("/")[0] == command.device_id


def test_an_identity_has_an_etag_of_its_own() -> None:
    moved = given(JOINED, DeviceUpdated(edge=True, enabled=False), TwinPatched({"a": 1}))
    for etag in ("AAAAAAAAAAI=", '"*"', None):
        moved.when(UpdateDevice(DEVICE, edge=False, if_match=etag)).then(DeviceUpdated(edge=False, enabled=False))
        moved.when(RetireDevice(DEVICE, etag)).then(DeviceRetired())
    moved.when(UpdateDevice(DEVICE, if_match="AAAAAAAAAAE=")).refused(EtagMismatch, "AAAAAAAAAAI=")
    moved.when(RetireDevice(DEVICE, "AAAAAAAAAAE=")).refused(EtagMismatch, "AAAAAAAAAAI=")
