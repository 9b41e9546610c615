"""How identities prove themselves, as commands and events; keys are references by then."""

from typing import Any

import pytest

from events.device.commands import CreateModule, RegisterDevice, UpdateDevice, UpdateModule
from events.device.decider import MODULES_MAX
from events.device.errors import (
    AuthenticationInvalid,
    EtagMismatch,
    ModuleIdInvalid,
    ModuleNotFound,
    NotEdgeCapable,
    TooManyModules,
)
from events.device.events import DeviceRegistered, DeviceRetired, DeviceUpdated, ModuleCreated, ModuleUpdated
from tests.device.given import DEVICE, device, given

KEY: Any = {"$secret": "0"}
SAS: Any = {"type": "sas", "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}}
NEWER: Any = {"type": "sas", "symmetricKey": {"primaryKey": {"$secret": "1"}, "secondaryKey": KEY}}
X509: Any = {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": "0a" * 20, "secondaryThumbprint": "0A" * 32}}


@pytest.mark.parametrize("authentication", [SAS, X509, {"type": "certificateAuthority"}])
def test_a_device_is_registered_with_how_it_proves_itself(authentication: Any) -> None:
    given().when(RegisterDevice(DEVICE, authentication=authentication)).then(
        DeviceRegistered(authentication=authentication)
    )


@pytest.mark.parametrize(
    ("authentication", "why"),
    [
        ({}, ".type is one of sas, selfSigned, certificateAuthority"),
        ({"type": "none"}, ".type is one of"),
        ({"type": "sas"}, ".symmetricKey has a primaryKey and a secondaryKey"),
        ({"type": "sas", "symmetricKey": {"primaryKey": KEY}}, ".symmetricKey has"),
        ({"type": "sas", "symmetricKey": {"primaryKey": KEY, "secondaryKey": "plain"}}, ".symmetricKey has"),
        ({**SAS, "x509Thumbprint": {}}, ".x509Thumbprint goes with"),
        ({**SAS, "type": "certificateAuthority"}, ".symmetricKey goes with"),
        ({**X509, "x509Thumbprint": {"primaryThumbprint": "0a", "secondaryThumbprint": "0a"}}, "40 or 64 hexadecimal"),
        ({**SAS, "password": "plain"}, "has the members"),
    ],
)
def test_what_nobody_could_prove_themselves_with_is_refused_and_not_quoted(authentication: Any, why: str) -> None:
    error = given().when(RegisterDevice(DEVICE, authentication=authentication)).refused(AuthenticationInvalid, why)
    assert "plain" not in str(error)


def test_a_module_may_have_none() -> None:
    none = {"type": "none"}
    given(DeviceRegistered()).when(CreateModule(DEVICE, "m", authentication=none)).then(
        ModuleCreated("m", None, none)  # type: ignore[arg-type]
    )


def test_an_update_that_says_nothing_of_keys_leaves_them_and_another_replaces_them() -> None:
    joined = DeviceRegistered(authentication=SAS)
    given(joined).when(UpdateDevice(DEVICE, enabled=False)).then(DeviceUpdated(edge=True, enabled=False))
    assert device(joined, DeviceUpdated(edge=True, enabled=False)).authentication == SAS
    assert device(joined, DeviceUpdated(edge=True, enabled=True, authentication=NEWER)).authentication == NEWER


def test_keys_go_with_the_device_and_do_not_come_back() -> None:
    joined = DeviceRegistered(authentication=SAS)
    assert not isinstance(device(joined, DeviceRetired(), DeviceRegistered()).authentication, dict)


def test_a_module_is_made_exactly_what_an_update_says() -> None:
    has = (DeviceRegistered(), ModuleCreated("m", "ada", SAS))
    given(*has).when(UpdateModule(DEVICE, "m", None, NEWER, "*")).then(ModuleUpdated("m", None, NEWER))
    after = device(*has, ModuleUpdated("m", None, NEWER)).modules["m"]
    assert (after.etag, after.managed_by, after.authentication) == (3, None, NEWER)


def test_a_module_is_updated_under_its_etag_where_it_is_and_is_not_of_the_system() -> None:
    has = given(DeviceRegistered(), ModuleCreated("m"))
    has.when(UpdateModule(DEVICE, "m", if_match="AAAAAAAAAAE=")).refused(EtagMismatch, "m")
    has.when(UpdateModule(DEVICE, "m", "IotEdge", if_match="AAAAAAAAAAI=")).then(ModuleUpdated("m", "IotEdge"))
    has.when(UpdateModule(DEVICE, "m", if_match="AAAAAAAAAAI=")).changes_nothing()
    has.when(UpdateModule(DEVICE, "n", if_match="*")).refused(ModuleNotFound, "n")
    has.when(CreateModule(DEVICE, "$edgeAgent")).refused(ModuleIdInvalid, "$edgeAgent", "If-Match")


def test_a_command_does_not_show_its_keys() -> None:
    planted = {"type": "sas", "symmetricKey": {"primaryKey": "hunter2", "secondaryKey": "hunter2"}}
    for command in (
        RegisterDevice(DEVICE, authentication=planted),
        UpdateDevice(DEVICE, authentication=planted),
        CreateModule(DEVICE, "m", authentication=planted),
        UpdateModule(DEVICE, "m", authentication=planted),
    ):
        assert "hunter2" not in repr(command)


def test_a_system_module_of_an_edge_device_takes_keys_and_keeps_its_owner() -> None:
    given(DeviceRegistered()).when(UpdateModule(DEVICE, "$edgeAgent", None, SAS, "AAAAAAAAAAE=")).then(
        ModuleUpdated("$edgeAgent", "iotEdge", SAS)
    )
    has = (DeviceRegistered(), ModuleUpdated("$edgeAgent", "iotEdge", SAS))
    given(*has).when(UpdateModule(DEVICE, "$edgeAgent", None, NEWER, "AAAAAAAAAAE=")).refused(
        EtagMismatch, "$edgeAgent"
    )
    given(DeviceRegistered(edge=False)).when(UpdateModule(DEVICE, "$edgeAgent", None, SAS, "*")).refused(NotEdgeCapable)


def test_keys_of_system_modules_go_with_the_capability_and_others_stay() -> None:
    has = (DeviceRegistered(), ModuleUpdated("$edgeAgent", "iotEdge", SAS), ModuleCreated("m"))
    assert set(device(*has, DeviceUpdated(edge=True, enabled=False)).modules) == {"$edgeAgent", "m"}
    assert set(device(*has, DeviceUpdated(edge=False, enabled=True)).modules) == {"m"}


def test_keys_of_system_modules_leave_space_for_as_many_modules_as_before() -> None:
    made = [ModuleCreated(f"m{number}") for number in range(MODULES_MAX - 1)]
    has = (DeviceRegistered(), ModuleUpdated("$edgeAgent", "iotEdge", SAS), *made)
    given(*has).when(CreateModule(DEVICE, "last")).then(ModuleCreated("last"))
    given(*has, ModuleCreated("last")).when(CreateModule(DEVICE, "more")).refused(TooManyModules, MODULES_MAX)
