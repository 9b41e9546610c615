"""Whatever is wrong gets a typed error, and nothing of it reaches the log."""

import datetime as dt
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

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
from events.deployment.commands import ScheduleDeployment
from events.deployment.events import Admitted, NotStarted, Schedule
from events.log.memory import MemoryLog
from events.producer.decision import REFUSALS
from events.readiness.commands import GrantWaiver, WithdrawWaiver
from events.rollout.commands import (
    AbortRollout,
    ApprovePhase,
    CreateRollout,
    PauseRollout,
    ResumeRollout,
    RetryFailed,
    RollBack,
    SkipPhase,
    StartRollout,
)
from events.rollout.plan import Failure, Gate, Phase, Rate, RolloutPlan, Spread, Window
from tests.manifest.contents import content
from tests.manifest.values import anything
from tests.producer.logs import producer

text = st.text(max_size=5) | st.sampled_from(["\ud800", "x" * 200])
ids = st.sampled_from(["a", "edge 1", "a/b", "", "x" * 129, "\ud800", "A", "one"]) | st.text(max_size=12)
objects = st.dictionaries(st.text(max_size=5), anything, max_size=3)
maybe = st.none() | objects
strings = st.dictionaries(text, text, max_size=3)
conditions = st.text(max_size=30) | st.sampled_from(["*", "", "tags.a = 1", 'tags.a = "x"', "(" * 300, "\ud800"])
keys = st.sampled_from([{"$secret": "0"}, {"$secret": 1}, "a2V5", "a2V5" * 8]) | anything
authentications = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["sas", "selfSigned", "certificateAuthority", "none"]) | anything,
        "symmetricKey": st.fixed_dictionaries({}, optional={"primaryKey": keys, "secondaryKey": keys}) | anything,
        "x509Thumbprint": st.fixed_dictionaries({"primaryThumbprint": text, "secondaryThumbprint": text}) | anything,
        "more": anything,
    },
)
END = dt.date(2027, 3, 31)
policies = st.sampled_from(["service", "iothubowner", "mine"]) | ids
permissions = st.lists(st.sampled_from(["RegistryRead", "Admin", "ServiceConnect"]) | text, max_size=3).map(tuple)
counts = st.integers() | st.sampled_from([0, 1, 10**6000])
numbers = counts | st.floats() | st.sampled_from([0.0, 50.0, 100.0])
schedules = st.builds(Schedule, counts, counts, text | st.sampled_from(["UTC", "Europe/Berlin", "../etc/passwd", "/"]))
gates = st.builds(Gate, numbers, counts, counts, counts, counts)
phases = st.builds(
    Phase,
    percent=st.none() | numbers,
    count=st.none() | counts,
    condition=st.none() | conditions,
    gate=st.just(Gate()) | gates,
    approval=st.booleans(),
    name=text,
)
plans = st.builds(
    RolloutPlan,
    st.lists(phases, max_size=3).map(tuple) | st.just((Phase(percent=100.0),)),
    failure=st.just(Failure()) | st.builds(Failure, numbers, counts, counts),
    rollback_to=st.just("") | ids,
    offline_seconds=st.just(3600) | counts,
    spread=st.none() | st.builds(Spread, st.sampled_from(["tags.a", "deviceId"]) | text, counts),
    rate=st.none() | st.builds(Rate, numbers, numbers),
    windows=st.lists(
        st.builds(Window, st.sampled_from(["0 22 * * *", "* * * * *", "0 0 30 2 *"]) | text, text, counts), max_size=2
    ).map(tuple),
)
rollouts: st.SearchStrategy[Any] = st.one_of(
    st.builds(CreateRollout, ids | st.just("held"), plans),
    *(st.builds(kind, ids | st.just("rolled"), counts) for kind in (ApprovePhase, SkipPhase)),
    *(st.builds(kind, ids | st.just("rolled")) for kind in (StartRollout, ResumeRollout, RetryFailed)),
    *(
        st.builds(kind, ids | st.just("rolled"), text | st.just("x" * 501))
        for kind in (PauseRollout, AbortRollout, RollBack)
    ),
)
commands: st.SearchStrategy[Any] = st.one_of(
    rollouts,
    st.builds(ScheduleDeployment, ids, schedules),
    st.builds(CreateDeployment, ids, st.just(content()), st.just("*"), schedule=schedules),
    st.builds(RegisterDevice, ids, status_reason=st.none() | text, authentication=authentications),
    st.builds(UpdateDevice, ids, status_reason=st.none() | text, authentication=authentications),
    st.builds(UpdateModule, ids, ids, managed_by=st.none() | text, authentication=authentications),
    st.builds(DefinePolicy, policies, permissions, keys, keys, new=st.booleans()),
    st.builds(DeletePolicy, policies),
    st.builds(
        IssueToken,
        ids,
        ids,
        st.sampled_from(["read", "operate", "admin"]) | text,
        text | st.just("0f" * 32),
        st.integers() | st.just(0),
        conditions,
    ),
    st.builds(RevokeToken, ids),
    st.builds(
        GrantWaiver,
        ids,
        text | st.just("privileged"),
        text,
        st.dates(),
        module=st.none() | ids,
        deployment=st.none() | ids,
    ),
    st.builds(WithdrawWaiver, ids),
    st.builds(RetireDevice, ids),
    st.builds(CreateModule, ids, ids, managed_by=st.none() | text),
    st.builds(DeleteModule, ids, ids),
    st.builds(PatchTags, ids, objects),
    st.builds(PatchTwin, ids, module_id=st.none() | ids, tags=maybe, desired=maybe, if_match=st.none() | st.text()),
    st.builds(ReplaceTwin, ids, module_id=st.none() | ids, tags=objects, desired=objects),
    st.builds(ReportProperties, ids, objects, module_id=st.none() | ids),
    st.builds(
        CreateDeployment,
        ids,
        objects | st.just(content()),
        conditions,
        st.integers() | st.just(10**6000),
        labels=strings,
        metrics=strings,
        schema_version=st.text(max_size=5) | st.just("1.0"),
    ),
    st.builds(
        UpdateDeployment, ids, conditions, st.none() | st.integers(), st.none() | strings, st.none() | strings, ids
    ),
    st.builds(ChangeAdmission, ids, st.builds(Admitted, st.lists(ids, max_size=3).map(tuple))),
    st.builds(DeleteDeployment, ids, st.none() | st.text(max_size=8)),
)

HELD: list[Any] = [
    *(CreateDeployment(name, content(), "*", admission=NotStarted()) for name in ("held", "rolled")),
    CreateRollout("rolled", RolloutPlan((Phase(percent=50.0), Phase(percent=100.0, approval=True)))),
]


@settings(derandomize=True, deadline=None, max_examples=400)
@given(st.lists(commands, min_size=1, max_size=4))
def test_any_command_becomes_an_event_or_a_typed_refusal_that_leaves_no_trace(commands: list[Any]) -> None:
    log = MemoryLog(partitions=2)
    one = producer(log)
    one.submit([RegisterDevice("a"), CreateDeployment("one", content(), "*"), *HELD])
    before = sum(log.heads().values())
    report = one.submit(commands)
    assert sum(log.heads().values()) == before + report.written
    # What changes nothing is neither.
    assert report.written + len(report.refused) <= len(commands)
    for refused in report.refused:
        assert isinstance(refused.error, REFUSALS)
        assert str(refused.error)
    for stream in log.heads():
        assert len(log.read(stream, after=0, limit=100)) == log.head(stream)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(value=anything)
def test_values_of_wrong_types_are_refused_as_well(value: Any) -> None:
    log = MemoryLog(partitions=1)
    one = producer(log)
    one.submit([RegisterDevice("a"), CreateDeployment("one", content(), "*"), *HELD])
    wrong = [
        RegisterDevice(value),
        RegisterDevice("b", edge=value),
        RegisterDevice("c", status_reason=value),
        RegisterDevice("d", authentication=value),
        RegisterDevice("e", authentication={"type": value}),
        RegisterDevice("f", authentication={"type": "sas", "symmetricKey": value}),
        RegisterDevice("g", authentication={"type": "selfSigned", "x509Thumbprint": value}),
        UpdateModule("a", value),
        DefinePolicy(value, ("RegistryRead",), {"$secret": "0"}, {"$secret": "0"}),
        DefinePolicy("mine", value, {"$secret": "0"}, {"$secret": "0"}),
        DefinePolicy("mine", ("RegistryRead",), value, value),
        IssueToken(value, "ada", "read", "0f" * 32),
        IssueToken("0", value, "read", "0f" * 32),
        IssueToken("0", "ada", value, "0f" * 32),
        IssueToken("0", "ada", "read", value),
        IssueToken("0", "ada", "read", "0f" * 32, value),
        IssueToken("0", "ada", "read", "0f" * 32, 0, value),
        RevokeToken(value),
        GrantWaiver(value, "privileged", "so be it", END),
        GrantWaiver("one", value, "so be it", END),
        GrantWaiver("two", "privileged", value, END),
        GrantWaiver("three", "privileged", "so be it", value),
        GrantWaiver("four", "privileged", "so be it", END, module=value, deployment=value),
        WithdrawWaiver(value),
        PatchTags("a", value),
        ReportProperties("a", value),
        PatchTwin("a", module_id=value, desired={}),
        CreateDeployment("two", value, "*"),
        CreateDeployment("three", content(), value),
        CreateDeployment("four", content(), "*", value),
        CreateDeployment("five", content(), "*", labels=value),
        CreateDeployment("six", content(), "*", metrics=value),
        CreateDeployment(value, content(), "*"),
        UpdateDeployment("one", priority=value),
        UpdateDeployment("one", labels=value),
        DeleteDeployment(value),
        ScheduleDeployment("one", value),
        ScheduleDeployment("one", Schedule(value)),
        ScheduleDeployment("one", Schedule(0, value)),
        ScheduleDeployment("one", Schedule(0, 0, value)),
        CreateDeployment("seven", content(), "*", schedule=value),
        CreateRollout(value, RolloutPlan((Phase(percent=100.0),))),
        CreateRollout("held", value),
        CreateRollout("held", RolloutPlan(value)),
        CreateRollout("held", RolloutPlan((value,))),
        CreateRollout("held", RolloutPlan((Phase(percent=value),))),
        CreateRollout("held", RolloutPlan((Phase(percent=1.0, gate=value),))),
        CreateRollout("held", RolloutPlan((Phase(percent=1.0, gate=Gate(value)),))),
        CreateRollout("held", RolloutPlan((Phase(percent=1.0),), value)),
        CreateRollout("held", RolloutPlan((Phase(percent=1.0),), windows=value)),
        CreateRollout("held", RolloutPlan((Phase(percent=1.0),), windows=(Window(value),))),
        CreateRollout("held", RolloutPlan((Phase(percent=1.0),), spread=Spread(value))),
        CreateRollout("held", RolloutPlan((Phase(percent=1.0),), rate=Rate(value))),
        CreateRollout("held", RolloutPlan((Phase(percent=1.0),), rollback_to=value)),
        ApprovePhase("rolled", value),
        SkipPhase("rolled", value),
        StartRollout("rolled", value),
        StartRollout("rolled", None, value),
        PauseRollout("rolled", value),
        AbortRollout("rolled", value),
    ]
    for command in wrong:
        before = sum(log.heads().values())
        report = one.submit([command])
        assert sum(log.heads().values()) == before + report.written
        assert all(isinstance(refused.error, REFUSALS) for refused in report.refused)
    for stream in log.heads():
        assert len(log.read(stream, after=0, limit=100)) == log.head(stream)
