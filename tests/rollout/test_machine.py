"""Random commands, reports, steps of the clock and crashes against what must always hold of a rollout."""

import contextlib
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from events.deployment.commands import CreateDeployment
from events.device.commands import PatchTags, RegisterDevice, RetireDevice, UpdateDevice
from events.log.keys import FLEET
from events.projection_store.fleet_snapshot import FleetSnapshotReader
from events.projection_store.memory import MemoryProjectionStore
from events.rollout.commands import (
    AbortRollout,
    ApprovePhase,
    PauseRollout,
    ResumeRollout,
    RetryFailed,
    RollBack,
    SkipPhase,
    StartRollout,
)
from events.rollout.events import DevicesAdmitted, PhaseOpened, RollbackBegan, RolloutCompleted
from events.rollout.fleet_snapshot import FleetSnapshot
from events.rollout.plan import Failure, Gate, Joiners, Offline, OnFailure, Phase, Rate, RolloutPlan, Spread
from events.rollout.rollout_counts import rollout_counts
from events.rollout.sets import FleetSet
from events.rollout.state import RolloutState
from tests.rollout.simulation import HOUR, MINUTE, Simulation
from tests.workers.system import base
from workers.restored import rebuild

NAMES = st.integers(0, 11).map("d{}".format)
GATES = st.builds(
    Gate,
    success_percent=st.sampled_from([50.0, 90.0, 100.0]),
    answered_min=st.sampled_from([0, 2]),
    soak_seconds=st.sampled_from([0, 600]),
    device_timeout_seconds=st.sampled_from([0, 1800]),
    phase_timeout_seconds=st.sampled_from([0, 7200]),
)
PLANS = st.builds(
    RolloutPlan,
    phases=st.tuples(
        st.builds(Phase, percent=st.sampled_from([1.0, 30.0]), gate=GATES),
        st.builds(Phase, condition=st.sampled_from(["tags.site = 's0'", "deviceId < 'd5'"]), gate=GATES),
        st.builds(Phase, percent=st.sampled_from([60.0, 100.0]), gate=GATES, approval=st.booleans()),
    ),
    failure=st.builds(
        Failure,
        percent=st.sampled_from([0.0, 20.0, 100.0]),
        count=st.sampled_from([1, 3]),
        answered_min=st.sampled_from([0, 2]),
        then=st.sampled_from(OnFailure),
    ),
    rollback_to=st.sampled_from(["", "good"]),
    offline=st.sampled_from(Offline),
    offline_seconds=st.just(1200),
    joiners=st.sampled_from(Joiners),
    spread=st.sampled_from([None, Spread("tags.site", 1), Spread("tags.site", 2)]),
    rate=st.sampled_from([None, Rate(per_minute=0.5), Rate(per_minute=2, growth_percent=50)]),
    restore=st.booleans(),
).map(lambda plan: msgspec.structs.replace(plan, restore=plan.restore and not plan.rollback_to))
NAME = "new"


def _parts(snapshot: FleetSnapshot) -> dict[str, Any]:
    parts = msgspec.structs.asdict(snapshot)
    return parts | {"back": msgspec.structs.asdict(snapshot.back)}


class Rollouts(RuleBasedStateMachine):
    """One rollout, a small fleet, and everything that can come between them."""

    @initialize(plan=PLANS, bad=st.sets(NAMES, max_size=3), silent=st.sets(NAMES, max_size=2), beneath=st.booleans())
    def begin(self, plan: RolloutPlan, bad: set[str], silent: set[str], beneath: bool) -> None:  # noqa: FBT001
        self.plan = plan
        self.bad, self.silent = bad, silent
        self.simulation = Simulation(
            devices=9, behave=self.behave, tags=lambda number: {"site": f"s{number % 3}"} if number % 4 else {}
        )
        self.simulation.do(CreateDeployment("good", base("m"), "*" if beneath else "", 1))
        self.simulation.create(NAME, plan, start=False)
        self.simulation.drain()
        self.ahead = 0

    def behave(self, name: str, stack: str) -> tuple[int, int] | None:
        if name in self.silent:
            return None
        return (MINUTE // 2, 500 if name in self.bad and NAME in stack else 200)

    def maybe(self, command: Any, by: str = "user:ada") -> None:
        """A command that may be refused."""
        self.simulation.producers[by].submit([command])

    @rule(minutes=st.sampled_from([1, 5, 30]))
    def time_passes(self, minutes: int) -> None:
        self.simulation.step(minutes * MINUTE)

    @rule()
    def start(self) -> None:
        self.maybe(StartRollout(NAME))

    @rule(
        command=st.sampled_from([PauseRollout(NAME), ResumeRollout(NAME), RetryFailed(NAME), ApprovePhase(NAME, 2)])
        | st.integers(0, 2).map(lambda phase: SkipPhase(NAME, phase))
    )
    def operate(self, command: Any) -> None:
        self.maybe(command)

    @precondition(lambda self: self.simulation.document(NAME).phase >= 1)
    @rule(command=st.sampled_from([AbortRollout(NAME), RollBack(NAME)]))
    def end(self, command: Any) -> None:
        self.maybe(command)

    @rule(name=NAMES, site=st.sampled_from(["s0", "s1", None]))
    def retag(self, name: str, site: str | None) -> None:
        with contextlib.suppress(Exception):
            self.maybe(PatchTags(name, {"site": site}), by="device:any")

    @rule(name=NAMES)
    def join(self, name: str) -> None:
        self.maybe(RegisterDevice(name))

    @rule(name=NAMES, enabled=st.booleans())
    def able(self, name: str, enabled: bool) -> None:  # noqa: FBT001
        self.maybe(UpdateDevice(name, enabled=enabled))

    @rule(name=NAMES)
    def retire(self, name: str) -> None:
        self.maybe(RetireDevice(name))

    @rule(name=NAMES, code=st.sampled_from([200, 500]))
    def report(self, name: str, code: int) -> None:
        with contextlib.suppress(AssertionError, Exception):
            self.simulation.report(name, code)

    @rule()
    def crash(self) -> None:
        """The scheduler begins anew, knowing nothing."""
        self.simulation.engine = self.simulation.fresh_engine()

    @rule()
    def two_at_once(self) -> None:
        """Two schedulers saw the same: each act happens once all the same."""
        before = self.simulation.log.head(FLEET)
        other = self.simulation.fresh_engine()
        first = self.simulation.engine.tick()
        written = self.simulation.log.head(FLEET) - before
        assert written == first
        other.tick()

    @rule()
    def clock_back(self) -> None:
        self.simulation.clock_back = HOUR if not self.simulation.clock_back else 0

    # -- what always holds

    @invariant()
    def counts_are_lists(self) -> None:
        document = self.simulation.document(NAME)
        self.simulation.drain()
        reader = FleetSnapshotReader(self.simulation.log, self.simulation.projections)
        assert reader.refresh(reader.heads())
        snapshot, alone = reader.of(NAME, document), reader.of_rollouts({NAME: document})
        assert alone.refresh(alone.heads())
        assert _parts(alone.of(NAME, document)) == _parts(snapshot)
        found = rollout_counts(document, snapshot, self.simulation.now)
        counts = found.counts
        parts = (found.healthy, found.already, found.failed, found.silent, found.pending, found.outranked)
        assert FleetSet.union(parts) == found.admitted
        assert sum(map(len, parts)) == counts.admitted
        assert counts.timed_out <= counts.failed

    @invariant()
    def nobody_has_it_who_is_not_admitted(self) -> None:
        document = self.simulation.document(NAME)
        if document.state is not RolloutState.COMPLETED:
            admitted = document.admitted
            actual_in = self.simulation.fleet_projection.in_status(NAME, "actual")
            actual = FleetSet({number: actual_in(number) for number in range(4)})
            assert not actual - admitted
        if document.state in {
            RolloutState.ROLLING_BACK,
            RolloutState.ROLLED_BACK,
            RolloutState.HALTED,
            RolloutState.CREATED,
        }:
            assert self.simulation.running(NAME) == set()

    @invariant()
    def never_two_rollbacks(self) -> None:
        events = self.simulation.events(NAME)
        assert sum(isinstance(event, RollbackBegan) for event in events) <= 1
        names = {one.subject for one in self.simulation.log.read(FLEET, after=0, limit=10_000)}
        assert len({name for name in names if "rollback" in name}) <= 1

    @invariant()
    def phases_open_in_order_and_admit_no_more_than_theirs(self) -> None:
        opened, admitted, target = -1, 0, 0
        for event in self.simulation.events(NAME):
            match event:
                case PhaseOpened(phase, evidence):
                    assert phase == opened + 1
                    opened = phase
                    target = evidence.counts.target
                case DevicesAdmitted(phase, devices, count):
                    assert phase == opened
                    assert len(FleetSet.of(devices)) == count
                    admitted += count
                    if opened == 0:
                        percent = self.plan.phases[0].percent
                        assert percent is not None
                        # Devices come and go: the share is of those there were at the time, at most all.
                        assert count <= max(target, 12) * percent / 100 + 1
                case RolloutCompleted():
                    assert opened == len(self.plan.phases) - 1
                case _:
                    pass

    def teardown(self) -> None:
        if hasattr(self, "simulation"):
            simulation = self.simulation
            simulation.drain()
            elsewhere = MemoryProjectionStore()
            for number in range(4):
                rebuild(number, log=simulation.log, recorded=simulation.projections, into=elsewhere)
                assert elsewhere.load(number) == simulation.projections.load(number)


TestRollouts = Rollouts.TestCase
TestRollouts.settings = settings(max_examples=25, stateful_step_count=30, deadline=None, derandomize=True)
