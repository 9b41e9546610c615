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
from events.deployment.events import Ended, NotStarted, Schedule
from events.log.keys import FLEET
from events.log.memory import MemoryLog
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
from events.rollout.plan import Failure, Gate, OnFailure, Phase, RolloutPlan
from events.webhook.commands import DefineWebhook, DeleteWebhook, PauseWebhook, ResumeWebhook
from tests.manifest.contents import content
from tests.producer.logs import producer
from tests.replayed import replay
from tests.rollout.simulation import MINUTE, Simulation
from tests.workers.system import base

devices = st.sampled_from(["a", "b"])
modules = st.sampled_from(["m", "$edgeAgent"])
values = st.sampled_from([None, 1, True, 2.5, "x", {"y": 1}, {"y": None}, [1, 2]])
patches = st.dictionaries(st.sampled_from(["p", "q"]), values, max_size=2)
names = st.sampled_from(["one", "two"])
KEY = {"$secret": "0"}
PLAN = RolloutPlan((Phase(percent=10.0), Phase(percent=100.0, approval=True)))
SAS = {"type": "sas", "symmetricKey": {"primaryKey": KEY, "secondaryKey": KEY}}
commands: st.SearchStrategy[Any] = st.one_of(
    st.builds(RegisterDevice, devices, edge=st.booleans()),
    st.builds(RegisterDevice, devices, authentication=st.none() | st.just(SAS)),
    st.builds(UpdateDevice, devices, enabled=st.booleans()),
    st.builds(RetireDevice, devices),
    st.builds(UpdateDevice, devices, authentication=st.just({"type": "certificateAuthority"})),
    st.builds(CreateModule, devices, st.just("m"), authentication=st.none() | st.just(SAS)),
    st.builds(UpdateModule, devices, st.just("m"), st.none() | st.just("ada")),
    st.builds(DeleteModule, devices, st.just("m")),
    st.builds(PatchTags, devices, patches),
    st.builds(PatchTwin, devices, desired=patches, tags=patches),
    st.builds(PatchTwin, devices, module_id=st.just("m"), desired=patches),
    st.builds(ReplaceTwin, devices, desired=patches),
    st.builds(ReportProperties, devices, patches),
    st.builds(ReportProperties, devices, patches, module_id=modules),
    st.builds(CreateDeployment, names, st.just(content()), st.just("*"), st.integers(0, 3)),
    st.builds(UpdateDeployment, names, priority=st.integers(0, 3)),
    st.builds(ChangeAdmission, names, st.just(Ended())),
    st.builds(DeleteDeployment, names),
    st.builds(CreateDeployment, names, st.just(content()), st.just("*"), admission=st.just(NotStarted())),
    st.builds(CreateDeployment, names, st.just(content()), st.just("*"), schedule=st.just(Schedule(5, 9))),
    st.builds(ScheduleDeployment, names, st.builds(Schedule, st.integers(0, 9), st.integers(0, 9))),
    st.builds(CreateRollout, names, st.just(PLAN)),
    st.builds(ApprovePhase, names, st.integers(0, 2)),
    st.builds(SkipPhase, names, st.just(0)),
    *(st.builds(kind, names) for kind in (StartRollout, ResumeRollout, RetryFailed)),
    *(st.builds(kind, names, st.sampled_from(["", "lunch"])) for kind in (PauseRollout, AbortRollout, RollBack)),
    st.builds(DefinePolicy, names, st.just(("RegistryRead",)), st.just(KEY), st.just(KEY), new=st.booleans()),
    st.builds(DeletePolicy, names),
    st.builds(IssueToken, names, st.just("ada"), st.sampled_from(["read", "admin"]), st.just("0f" * 32)),
    st.builds(RevokeToken, names),
    st.builds(GrantWaiver, names, st.just("privileged"), st.just("so be it"), st.dates()),
    st.builds(WithdrawWaiver, names),
    st.builds(DefineWebhook, names, st.just("https://h.example/"), st.none() | st.just(KEY), devices=st.just(("a",))),
    st.builds(PauseWebhook, names, st.just("why")),
    st.builds(ResumeWebhook, names),
    st.builds(DeleteWebhook, names),
)


def snapshots(log: MemoryLog, stream: int) -> dict[str, bytes]:
    subjects = list(log.subjects(stream))
    stored = zip(subjects, log.load(subjects, fleet=stream == FLEET), strict=True)
    return {name: one.snapshot for name, one in stored if one.snapshot is not None}


@settings(derandomize=True, deadline=None, max_examples=150)
@given(some=st.lists(commands, min_size=5, max_size=40), times=st.lists(st.integers(0, 10), min_size=40, max_size=40))
def test_the_documents_applied_from_the_events_alone_are_the_snapshots_byte_for_byte(
    some: list[Any], times: list[int]
) -> None:
    log, clock = MemoryLog(partitions=1), iter(times)
    one = producer(log, clock=lambda: next(clock))
    for command in some:
        one.submit([command])
    for stream in (0, FLEET):
        events = log.read(stream, after=0, limit=1000)
        assert replay(events) == snapshots(log, stream)
        assert [event.at for event in events] == sorted(event.at for event in events)


def test_the_documents_of_a_rollout_that_ran_by_itself_are_applied_from_its_events_as_well() -> None:
    """All that the scheduler writes: phases, admissions, soaking, a failure, and a rollback to a deployment made for it."""
    fails = {"d1", "d2", "d3"}
    simulation = Simulation(
        devices=12, behave=lambda name, stack: (MINUTE, 500 if stack == "new" and name in fails else 200)
    )
    simulation.do(CreateDeployment("old", base("m"), "*", 1))
    gate = Gate(success_percent=50, soak_seconds=120)
    plan = RolloutPlan(
        (Phase(count=2, gate=gate), Phase(percent=100, gate=gate)),
        failure=Failure(count=3, then=OnFailure.ROLL_BACK, percent=1),
        rollback_to="old",
    )
    simulation.create("new", plan)
    simulation.run(until=lambda: simulation.document("new").is_over, most=200)
    simulation.do(DeleteDeployment("old"))
    events = simulation.log.read(FLEET, after=0, limit=10_000)
    assert {"PhaseOpened", "DevicesAdmitted", "SoakBegan", "RollbackBegan", "RollbackEnded"} <= set(
        simulation.kinds("new")
    )
    assert replay(events) == snapshots(simulation.log, FLEET)
