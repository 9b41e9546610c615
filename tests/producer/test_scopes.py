"""Whoever is scoped changes what is in their scope, keeps it there, and learns nothing of anything else."""

import datetime as dt
from typing import Any

import pytest
from msgspec import UNSET

from events import (
    ChangeAdmission,
    CreateDeployment,
    CreateModule,
    DeleteDeployment,
    DeleteModule,
    PatchTags,
    PatchTwin,
    RegisterDevice,
    ReplaceTwin,
    ReportProperties,
    RetireDevice,
    UpdateDeployment,
    UpdateDevice,
    UpdateModule,
)
from events.access.commands import DefinePolicy, DeletePolicy, IssueToken, RevokeToken
from events.access.errors import OutOfScope
from events.access.scope import Scope
from events.deployment.errors import DeploymentExists, DeploymentNotFound
from events.deployment.events import DeploymentCreated, Ended
from events.deployment.state import decode
from events.device.commands import SetConfiguration
from events.device.errors import DeviceExists, DeviceNotFound
from events.log.keys import FLEET
from events.log.memory import MemoryLog
from events.producer.errors import Command
from events.readiness.commands import GrantWaiver, WithdrawWaiver
from events.secrets.errors import SecretNotFound
from tests.manifest.contents import agent, content, layer, module
from tests.producer.logs import RacingLog, producer

NORTH = Scope("tags.site = 'north'")
KEY = {"$secret": "0"}


def fleet(**how: Any) -> RacingLog:
    log = RacingLog(partitions=2, **how)
    commands = [RegisterDevice("n"), RegisterDevice("s"), RegisterDevice("bare")]
    tags = [PatchTags("n", {"site": "north"}), PatchTags("s", {"site": "south"})]
    modules = [CreateModule("n", "m"), CreateModule("s", "m")]
    producer(log).submit([*commands, *tags, *modules]).raise_if_refused()
    return log


def refusal(log: MemoryLog, command: Command, scope: Scope = NORTH) -> Exception | None:
    """Why a command of somebody scoped is refused; then nothing of it may be in the log."""
    heads = log.heads()
    report = producer(log, scope=scope).submit([command])
    if report.refused:
        assert log.heads() == heads
        return report.refused[0].error
    return None


def on(name: str) -> list[Command]:
    """Every command on a device that is there."""
    return [
        PatchTags(name, {"floor": 1}),
        PatchTwin(name, tags={"floor": 1}, if_match="nothing"),
        PatchTwin(name, "m", desired={"x": 1}),
        ReplaceTwin(name, tags={"site": "north"}),
        ReplaceTwin(name, "m"),
        ReportProperties(name, {"x": 1}),
        ReportProperties(name, {"x": 1}, "m"),
        CreateModule(name, "m"),
        UpdateModule(name, "m"),
        DeleteModule(name, "m"),
        UpdateDevice(name, enabled=False),
        SetConfiguration(name, content()),
        RetireDevice(name),
    ]


def test_a_device_outside_is_as_one_that_is_not_there() -> None:
    log = fleet()
    for outside, missing in zip(on("s"), on("x"), strict=True):
        error, expected = refusal(log, outside), refusal(log, missing)
        assert type(error) is type(expected) is DeviceNotFound
        assert str(error) == str(expected).replace("'x'", "'s'")


def test_a_device_inside_can_be_worked_on() -> None:
    for command in on("n"):
        error = refusal(fleet(), command)
        assert not isinstance(error, DeviceNotFound | OutOfScope), command


@pytest.mark.parametrize(
    "command",
    [
        PatchTags("n", {"site": "south"}),
        PatchTags("n", {"site": None}),
        PatchTwin("n", tags={"site": {"of": "north"}}),
        ReplaceTwin("n", tags={}),
        RegisterDevice("new"),
        RegisterDevice("n"),
        RegisterDevice("s"),
    ],
)
def test_nothing_leaves_the_scope_or_comes_into_being_outside(command: Command) -> None:
    assert isinstance(refusal(fleet(), command), OutOfScope)


def test_what_is_reported_can_lead_out_of_a_scope_as_well() -> None:
    log, scope = fleet(), Scope("tags.site = 'north' AND NOT is_defined(properties.reported.lost)")
    assert refusal(log, ReportProperties("n", {"fine": 1}), scope) is None
    assert isinstance(refusal(log, ReportProperties("n", {"lost": 1}), scope), OutOfScope)
    assert refusal(log, ReportProperties("n", {"lost": 1}, "m"), scope) is None


def test_a_device_is_registered_where_its_id_is_in_the_scope() -> None:
    log, scope = fleet(), Scope("deviceId > 'm' AND deviceId < 'o'")
    assert refusal(log, RegisterDevice("new"), scope) is None
    assert isinstance(refusal(log, RegisterDevice("n"), scope), DeviceExists)
    assert isinstance(refusal(log, RegisterDevice("x"), scope), OutOfScope)
    assert refusal(log, RetireDevice("new"), scope) is None
    assert isinstance(refusal(log, PatchTags("new", {})), DeviceNotFound)


def test_what_somebody_else_moves_out_meanwhile_is_not_written_on() -> None:
    log = fleet()
    log.rivals.append(lambda: producer(log).do(PatchTags("n", {"site": "south"})))
    report = producer(log, scope=NORTH).submit([PatchTags("n", {"floor": 1})])
    assert [type(one.error) for one in report.refused] == [DeviceNotFound]
    assert report.written == 0


def test_commands_in_one_batch_see_the_scope_after_those_before_them() -> None:
    log = fleet()
    commands = [PatchTags("n", {"site": "south"}), PatchTags("n", {"floor": 1}), PatchTags("n", {"site": None})]
    report = producer(log, scope=NORTH).submit(commands)
    assert [(one.index, type(one.error)) for one in report.refused] == [(0, OutOfScope), (2, OutOfScope)]
    assert report.written == 1


@pytest.mark.parametrize(
    "command",
    [
        DefinePolicy("mine", ("RegistryRead",), KEY, KEY),
        DeletePolicy("mine"),
        IssueToken("id", "ada", "read", "0" * 64),
        RevokeToken("id"),
        GrantWaiver("id", "privileged", "so be it", dt.date(2027, 3, 31)),
        WithdrawWaiver("id"),
    ],
)
def test_policies_tokens_and_waivers_are_in_no_scope(command: Command) -> None:
    assert isinstance(refusal(fleet(), command), OutOfScope | SecretNotFound)


# -- deployments


def test_a_deployment_keeps_the_scope_of_whoever_created_it() -> None:
    log = fleet()
    scoped, free = producer(log, scope=NORTH), producer(log)
    scoped.do(CreateDeployment("mine", content(), "*"))
    free.do(CreateDeployment("all", content(), "*"))
    events = {one.subject: one.event for one in log.read(FLEET, after=1, limit=10)}
    assert events["mine"] == DeploymentCreated(content(), "*", scope=NORTH.text)
    assert events["all"] == DeploymentCreated(content(), "*")
    scoped.do(UpdateDeployment("mine", "tags.site = 'south'"))
    free.do(UpdateDeployment("mine", "*"))
    free.do(ChangeAdmission("mine", Ended()))
    documents = [decode(stored.snapshot or b"") for stored in log.load(["mine", "all"], fleet=True)]
    assert [document.scope for document in documents] == [NORTH.text, UNSET]
    scoped.do(DeleteDeployment("mine"))


@pytest.mark.parametrize("whose", [None, Scope("tags.site='north'"), Scope("*")])
def test_deployments_of_another_scope_are_as_if_not_there(whose: Scope | None) -> None:
    log = fleet()
    producer(log, scope=whose).do(CreateDeployment("theirs", content(), "*"))
    changes: list[Command] = [UpdateDeployment("theirs", "*"), UpdateDeployment("theirs", "*", if_match="MQ==")]
    for command in (*changes, ChangeAdmission("theirs", Ended()), DeleteDeployment("theirs", '"wrong"')):
        error = refusal(log, command)
        assert isinstance(error, DeploymentNotFound)
        assert str(error) == str(DeploymentNotFound("theirs"))
    assert isinstance(refusal(log, CreateDeployment("theirs", content())), DeploymentExists)


def test_advice_names_deployments_of_the_same_scope_alone() -> None:
    log = fleet()
    producer(log).do(CreateDeployment("theirs", content(), "*", priority=9))
    producer(log, scope=NORTH).do(CreateDeployment("mine", content(), "*", priority=9))
    over = layer({"modules.extra": module()})
    told = producer(log, scope=NORTH).do(CreateDeployment("over", over, "*", priority=1))
    assert [one.about for one in told] == ["mine"]
    told = producer(log).do(UpdateDeployment("over", "*"))
    assert [one.about for one in told] == ["mine", "theirs"]


def test_a_secret_is_not_referred_to_from_within_a_scope() -> None:
    refers = content(agent=agent(modules={"temp": module(env={"PASSWORD": {"value": {"$secret": "0" * 32}}})}))
    assert isinstance(refusal(fleet(), CreateDeployment("mine", refers, "*")), SecretNotFound)
    assert isinstance(refusal(fleet(), SetConfiguration("n", refers)), SecretNotFound)
