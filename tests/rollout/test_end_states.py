"""What a rollout says once it is over: what happened to its phases, which devices have what, and which failed and why."""

from collections.abc import Mapping

import pytest

from events import canonical
from events.deployment.commands import ChangeAdmission, CreateDeployment
from events.deployment.events import Ended, Everyone, Schedule
from events.device.commands import UpdateDevice
from events.rollout.commands import AbortRollout, RecordResults, RetryFailed, RollBack, SkipPhase, StartRollout
from events.rollout.errors import RolloutForbidden
from events.rollout.events import Devices, PhasePassed, RolloutAborted, RolloutResults
from events.rollout.plan import Failure, Gate, OnFailure, Phase, RolloutPlan
from events.rollout.planner import NOT_WELL_BACK, NOTHING_ELSE
from events.rollout.rollout_counts import (
    ANSWERED_FAILURE,
    CODES_MAX,
    LATE,
    NOT_AS_DESIRED,
    OVER_LIMIT,
    RESULTS_BYTES_MAX,
    RolloutCounts,
    record_of,
    recorded_counts,
)
from events.rollout.rollout_text import progress
from events.rollout.sets import FleetSet
from events.rollout.state import RolloutState
from tests.rollout.given import in_state
from tests.rollout.judged import judged, some
from tests.rollout.simulation import HOUR, MINUTE, START, Simulation
from tests.rollout.test_attacks import assert_rebuilt, passes, thirty, too_large
from tests.workers.system import base, layer

THREE = RolloutPlan((Phase(percent=10), Phase(percent=50), Phase(percent=100)))
BACK = Failure(percent=30, then=OnFailure.ROLL_BACK)


def phases(simulation: Simulation, name: str = "new") -> list[str]:
    document = simulation.document(name)
    return [document.phase_state(number) for number in range(len(document.plan.phases))]


def names(simulation: Simulation, devices: Devices) -> set[str]:
    members = FleetSet.of(devices)
    return set(simulation.fleet_projection.page_of(members.of_partition, limit=1000)[0])


def named(simulation: Simulation, by_reason: Mapping[str, Devices]) -> dict[str, set[str]]:
    return {why: names(simulation, devices) for why, devices in by_reason.items()}


# -- phases


def test_a_phase_of_an_aborted_rollout_has_passed_only_if_it_did() -> None:
    simulation = Simulation(devices=10, behave=lambda name, stack: None if name != "d0" and stack else (1000, 200))
    simulation.create("new", RolloutPlan((Phase(condition="deviceId = 'd0'"), *THREE.phases[1:])))
    simulation.run(until=lambda: simulation.document("new").phase == 1, most=10)
    assert phases(simulation) == ["passed", "open", "waiting"]
    simulation.do(AbortRollout("new", "enough"))
    assert phases(simulation) == ["passed", "aborted", "not opened"]


def test_of_a_rollout_that_never_started_no_phase_is_anything_else_than_not_opened() -> None:
    simulation = Simulation(devices=2)
    simulation.create("new", THREE, start=False)
    assert phases(simulation) == ["waiting"] * 3
    simulation.do(AbortRollout("new"))
    assert phases(simulation) == ["not opened"] * 3
    assert "no device got it" in progress(simulation.document("new"))


@pytest.mark.parametrize(("healthy_again", "end"), [(True, "rolled back"), (False, "halted")])
def test_a_phase_of_a_rollback_says_how_that_ended(*, healthy_again: bool, end: str) -> None:
    def behave(name: str, stack: str) -> tuple[int, int]:
        bad = stack == "new" and name in {"d1", "d2", "d3", "d4"}
        return 1000, 500 if bad or (stack == "new-rollback" and not healthy_again) else 200

    simulation = Simulation(devices=10, behave=behave)
    simulation.do(CreateDeployment("good", base("m"), "", 1))
    first = Phase(condition="deviceId = 'd0'")
    plan = RolloutPlan((first, Phase(percent=100), Phase(percent=100, approval=True)), failure=BACK, rollback_to="good")
    simulation.create("new", plan)
    simulation.run(until=lambda: simulation.document("new").rollback_at > 0, most=20)
    assert phases(simulation) == ["passed", "rolling back", "not opened"]
    simulation.run(until=lambda: simulation.document("new").state.value == end, most=20)
    assert phases(simulation) == ["passed", end, "not opened"]


def test_a_phase_that_was_skipped_passed_with_that_as_its_reason() -> None:
    simulation = Simulation(devices=10, behave=lambda _name, stack: None if stack else (1000, 200))
    simulation.create("new", THREE)
    simulation.step()
    simulation.do(SkipPhase("new", 0))
    assert phases(simulation)[0] == "passed"
    (passed,) = (event for event in simulation.events("new") if isinstance(event, PhasePassed))
    assert passed.reason == "skipped by user:ada"


def test_a_rollback_after_completion_leaves_phases_passed() -> None:
    simulation = Simulation(devices=4)
    simulation.create("new", RolloutPlan((Phase(percent=100),)))
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.COMPLETED, most=10)
    simulation.do(RollBack("new"))
    passes(simulation, 3)
    assert phases(simulation) == ["passed"]


# -- who failed, and why, after the end


def test_after_a_rollback_the_failed_devices_are_still_listed_with_their_reasons() -> None:
    def behave(name: str, stack: str) -> tuple[int, int] | None:
        if stack == "new" and name in {"d1", "d2"}:
            return 1000, 500
        return None if stack == "new" and name == "d3" else (1000, 200)

    simulation = Simulation(devices=10, behave=behave)
    simulation.do(CreateDeployment("old", base("m"), "*", 1))
    passes(simulation, 2)
    gate = Gate(success_percent=100, device_timeout_seconds=600)
    simulation.create(
        "new", RolloutPlan((Phase(percent=100, gate=gate),), failure=Failure(count=3, then=OnFailure.ROLL_BACK))
    )
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.ROLLED_BACK, most=30)
    for _ in range(3):
        counts = simulation.judged("new").counts
        assert (counts.admitted, counts.healthy, counts.failed, counts.timed_out, counts.outranked) == (10, 7, 3, 1, 0)
        results = simulation.document("new").results
        assert named(simulation, results.failed) == {"it answered 500": {"d1", "d2"}, LATE: {"d3"}}  # type: ignore[union-attr]
        assert recorded_counts(simulation.document("new")) == counts
        passes(simulation, 60)
    assert simulation.running("old") == {f"d{number}" for number in range(10)}
    assert_rebuilt(simulation)


def test_the_reasons_of_failures_are_told_apart() -> None:
    simulation = Simulation(devices=3, behave=lambda _name, stack: None if stack else (1000, 200))
    simulation.create("new", RolloutPlan((Phase(percent=100), Phase(percent=100))), content=thirty())
    simulation.step()
    simulation.report("d0", 500)
    simulation.report("d1", 200, m0="failed")
    simulation.do(CreateDeployment("lay", too_large(), "deviceId = 'd2'", 20))
    simulation.step()
    rollout_counts = simulation.judged("new").rollout_counts
    assert {why: len(devices) for why, devices in rollout_counts.failed_by.items()} == {
        ANSWERED_FAILURE: 1,
        NOT_AS_DESIRED: 1,
    }
    assert rollout_counts.counts.pending == 1


def test_a_device_for_which_it_is_over_a_limit_failed_for_that() -> None:
    simulation = Simulation(devices=2)
    simulation.do(CreateDeployment("old", thirty(), "*", 1))
    passes(simulation, 2)
    simulation.create("new", RolloutPlan((Phase(percent=100),)), content=too_large(), priority=5)
    passes(simulation, 2)
    rollout_counts = simulation.judged("new").rollout_counts
    assert {why: len(devices) for why, devices in rollout_counts.failed_by.items()} == {OVER_LIMIT: 2}
    assert rollout_counts.having == 0


def test_devices_that_a_rollback_does_not_bring_back_are_listed_with_their_reasons() -> None:
    simulation = Simulation(devices=4, behave=lambda _name, stack: (1000, 500 if stack else 200))
    simulation.do(CreateDeployment("old", base("m"), "deviceId = 'd0'", 1))
    passes(simulation, 2)
    simulation.create(
        "new", RolloutPlan((Phase(percent=100),), failure=Failure(percent=100, count=4, then=OnFailure.ROLL_BACK))
    )
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.HALTED, most=10)
    not_back = named(simulation, simulation.document("new").not_back)
    assert not_back == {NOT_WELL_BACK: {"d0"}, NOTHING_ELSE: {"d1", "d2", "d3"}}


def test_a_completed_rollout_counts_devices_that_came_later_too() -> None:
    simulation = Simulation(devices=4)
    simulation.do(UpdateDevice("d3", enabled=False))
    simulation.create("new", RolloutPlan((Phase(percent=100),)))
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.COMPLETED, most=10)
    assert simulation.document("new").reason == "3 of 3 devices have it"
    simulation.do(UpdateDevice("d3", enabled=True))
    simulation.behave = lambda _name, _stack: (1000, 500)
    passes(simulation, 2)
    simulation.report("d3", 500)
    counts = simulation.counts("new")
    assert (counts.admitted, counts.healthy, counts.failed) == (4, 3, 1)


# -- a deployment that ended by itself


def test_a_canceled_deployment_does_not_say_that_devices_keep_it() -> None:
    simulation = Simulation(devices=10)
    simulation.create("new", THREE)
    simulation.step()
    results = simulation.judged("new").rollout_counts.results({})
    simulation.do(RecordResults("new", results), AbortRollout("new", "no more"), ChangeAdmission("new", Ended()))
    passes(simulation, 2)
    document = simulation.document("new")
    assert simulation.running("new") == set()
    assert (
        progress(document, Ended())
        == "aborted: no more; its deployment has ended, and each device gets what else targets it, or keeps its configuration"
    )
    assert "keep it" in progress(document)
    assert recorded_counts(document) == simulation.judged("new").counts.__class__(
        target=1, admitted=1, counted=1, pending=1
    )
    with pytest.raises(RolloutForbidden, match="its deployment has ended"):
        simulation.producers["user:ada"].do(RetryFailed("new"))


def test_a_deployment_that_ends_at_its_time_leaves_a_record_of_its_devices() -> None:
    simulation = Simulation(devices=4, behave=lambda name, stack: (1000, 500 if name == "d1" and stack else 200))
    plan = RolloutPlan((Phase(percent=100, gate=Gate(success_percent=50)),))
    simulation.create("new", plan, schedule=Schedule(end_at=START + HOUR), start=False)
    simulation.do(StartRollout("new"))
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.COMPLETED, most=10)
    simulation.step(2 * HOUR)
    simulation.run(until=lambda: simulation.running("new") == set(), most=5)
    document = simulation.document("new")
    counts = recorded_counts(document)
    assert counts is not None
    assert (counts.healthy, counts.failed) == (3, 1)
    assert "its deployment has ended" in progress(document, Ended())
    assert simulation.step(MINUTE) == 0


def test_what_is_opened_by_hand_after_the_end_says_so() -> None:
    assert "opened its deployment" in progress(in_state(RolloutState.ABORTED), Everyone())


# -- layers that do not apply


def test_a_layer_on_devices_without_a_base_is_not_applied_and_not_outranked() -> None:
    simulation = Simulation(devices=10)
    under = " OR ".join(f"deviceId = 'd{number}'" for number in range(4))
    simulation.do(CreateDeployment("base", base("m"), under, 1))
    passes(simulation, 2)
    simulation.create("new", RolloutPlan((Phase(percent=100),)), content=layer("l"))
    simulation.step()
    counts = simulation.counts("new")
    assert (counts.admitted, counts.not_applied, counts.outranked, counts.counted) == (10, 6, 0, 4)
    assert "6 not applied" in simulation.judged("new").says
    for number in range(4):
        simulation.report(f"d{number}", 200, m="running", l="running")
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.COMPLETED, most=5)
    assert progress(simulation.document("new")).startswith(
        "completed: 4 of 10 devices have it; 6 not applied (no base targets the device)"
    )


def test_a_layer_below_its_base_is_not_applied_and_one_that_another_replaces_is_outranked() -> None:
    simulation = Simulation(devices=2)
    simulation.do(
        CreateDeployment("base", base("m"), "deviceId = 'd0'", 50), CreateDeployment("low", base("m"), "*", 1)
    )
    passes(simulation, 2)
    simulation.create("new", RolloutPlan((Phase(percent=100),)), content=layer("l"), priority=20)
    simulation.do(CreateDeployment("newer", layer("l"), "deviceId = 'd1'", 20))
    passes(simulation, 2)
    rollout_counts = simulation.judged("new").rollout_counts
    reasons = {why: len(devices) for why, devices in rollout_counts.not_applied_by.items()}
    assert reasons == {"the layer's priority is not above the base's": 1}
    assert len(rollout_counts.outranked) == 1


def test_a_gate_asks_nothing_of_devices_to_which_a_layer_does_not_apply_and_nobody_is_no_success() -> None:
    simulation = Simulation(devices=4)
    simulation.create("new", RolloutPlan((Phase(percent=100),)), content=layer("l"))
    passes(simulation, 5)
    assert simulation.document("new").state is RolloutState.RUNNING
    assert simulation.counts("new").not_applied == 4


# -- the record


def rollout_counts_with(healthy: FleetSet, failed: FleetSet) -> RolloutCounts:
    whole = judged(THREE, healthy=range(5), failed=range(5, 10)).rollout_counts
    return whole.__class__(
        **{name: getattr(whole, name) for name in whole.__struct_fields__}
        | {"healthy": healthy, "failed": failed, "failed_by": {ANSWERED_FAILURE: failed}}
    )


def test_the_record_of_a_fleet_that_is_too_large_has_the_failed_devices_alone_or_nothing() -> None:
    few, many = some(range(5)), some(range(0, 2_000_000, 2))
    assert rollout_counts_with(few, few).results({}).is_whole
    half = rollout_counts_with(many, few).results({})
    assert (half.is_whole, half.healthy, half.failed) == (False, {}, {ANSWERED_FAILURE: few.devices()})
    nothing = rollout_counts_with(many, many).results({})
    assert (nothing.is_whole, nothing.failed) == (False, {})
    assert RESULTS_BYTES_MAX < 1 << 18


def test_failures_are_recorded_by_the_code_that_most_devices_answered_with() -> None:
    failed = some(range(100))
    codes = {400 + code: some(range(3 * code, 3 * code + 3 - (code > CODES_MAX))) for code in range(30)}
    recorded = rollout_counts_with(some(()), failed).results(codes).failed
    assert len(recorded) == CODES_MAX + 1
    assert FleetSet.of(recorded["it answered 400"]) == some(range(3))
    assert "it answered 421" not in recorded
    assert FleetSet.union(map(FleetSet.of, recorded.values())) == failed
    assert sum(len(FleetSet.of(one)) for one in recorded.values()) == len(failed)


def test_every_admitted_device_is_in_one_set_of_the_record() -> None:
    rollout_counts = judged(THREE, healthy=range(5), failed=range(5, 8)).rollout_counts
    results = rollout_counts.results({})
    parts = [FleetSet.of(results.healthy), FleetSet.of(results.pending), *map(FleetSet.of, results.failed.values())]
    assert FleetSet.union(parts) == rollout_counts.admitted
    assert sum(map(len, parts)) == len(rollout_counts.admitted)


def test_an_abort_alone_records_nothing_as_devices_keep_it() -> None:
    simulation = Simulation(devices=4)
    simulation.create("new", THREE)
    simulation.step()
    simulation.do(AbortRollout("new"))
    passes(simulation, 3)
    assert RolloutAborted("aborted by hand") in simulation.events("new")
    assert recorded_counts(simulation.document("new")) is None
    assert simulation.counts("new").healthy == 1


def test_a_record_may_take_all_of_its_limit_and_not_a_byte_more() -> None:
    device = some([1])
    space = RESULTS_BYTES_MAX - len(canonical.encode(record_of({"": device})))
    assert record_of({"x" * space: device})
    assert not record_of({"x" * (space + 1): device})


def test_a_reason_that_no_device_has_is_not_recorded() -> None:
    assert record_of({"late": some(()), "silent": some([1])}) == {"silent": some([1]).devices()}


def test_the_record_of_a_whole_rollout_may_take_all_of_its_limit_and_not_a_byte_more() -> None:
    def recorded(reason: str) -> RolloutResults:
        rollout_counts = rollout_counts_with(some([1]), some([2]))
        members = {name: getattr(rollout_counts, name) for name in rollout_counts.__struct_fields__}
        return rollout_counts.__class__(**members | {"failed_by": {reason: some([2])}}).results({})

    space = RESULTS_BYTES_MAX - len(canonical.encode(recorded("")))
    assert recorded("x" * space).is_whole
    assert not recorded("x" * (space + 1)).is_whole
