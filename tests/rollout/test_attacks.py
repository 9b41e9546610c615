"""Ways in which a rollout could be made to do what nobody meant; each was possible once."""

from typing import Any

import pytest
from pyroaring import BitMap

from events import canonical
from events.canonical import encode
from events.deployment.commands import CreateDeployment, DeleteDeployment
from events.deployment.events import NotStarted
from events.device.commands import PatchTags, RegisterDevice, UpdateDevice
from events.envelope import Principal
from events.log.port import CHUNK_BYTES_MAX, Proposed
from events.projection_store.memory import MemoryProjectionStore
from events.rollout.commands import AbortRollout, ResumeRollout, RetryFailed, RollBack, StartRollout
from events.rollout.errors import RolloutForbidden
from events.rollout.events import DevicesAdmitted, DevicesRetried, RolloutCreated
from events.rollout.plan import Failure, Gate, Offline, OnFailure, Phase, RolloutPlan, Spread, Window
from events.rollout.sets import FleetSet
from events.rollout.state import RolloutState, evolve
from events.rollout.times import closes_at
from events.update.names import update_deployment_of
from tests.rollout.simulation import MINUTE, Simulation
from tests.rollout.test_peers import HALVES, PATIENT, failing, silent
from tests.update.given import V1, V2, V3, cancel, deploy, imported
from tests.update.test_rollback import back_to, keepers
from tests.workers.system import base, layer
from workers.restored import rebuild

HELD_THERE = RolloutPlan(phases=(Phase(percent=100), Phase(percent=100, approval=True)))


def every(count: int) -> list[str]:
    return [f"d{number}" for number in range(count)]


def assert_rebuilt(simulation: Simulation) -> None:
    elsewhere = MemoryProjectionStore()
    for number in range(4):
        rebuild(number, log=simulation.log, recorded=simulation.projections, into=elsewhere)
        assert elsewhere.load(number) == simulation.projections.load(number)


def passes(simulation: Simulation, minutes: int) -> None:
    for _ in range(minutes):
        simulation.step()


def too_large() -> dict[str, Any]:
    """A layer that no configuration of thirty modules has room for."""
    content = layer("l")
    agent = content["modulesContent"]["$edgeAgent"]
    for number in range(30):
        agent[f"properties.desired.modules.n{number}"] = agent["properties.desired.modules.l"]
    return content


def thirty() -> dict[str, Any]:
    return base(*(f"m{number}" for number in range(30)))


@pytest.mark.parametrize("end", ["completed", "aborted"])
def test_a_rollback_whose_target_is_gone_is_said_once_and_reopens_nothing(end: str) -> None:
    simulation = Simulation(devices=4)
    simulation.do(CreateDeployment("good", base("m"), "", 1))
    simulation.create("new", RolloutPlan(phases=HALVES.phases, rollback_to="good"))
    if end == "aborted":
        simulation.step()
        simulation.do(AbortRollout("new"))
    simulation.run(until=lambda: simulation.document("new").is_over, most=10)
    before = simulation.document("new").state
    simulation.do(DeleteDeployment("good"), RollBack("new"))
    passes(simulation, 5)
    assert simulation.document("new").state is before
    assert simulation.kinds("new").count("RolloutPaused") == 1
    assert "'good' does not exist any more" in simulation.document("new").reason
    with pytest.raises(RolloutForbidden):
        simulation.producers["user:bo"].do(ResumeRollout("new"))


def test_what_fails_of_one_rollout_does_not_keep_the_others_from_theirs() -> None:
    simulation = Simulation(devices=4)
    # No plan of a command has such a window; a zone can be gone from a machine's data all the same.
    event = RolloutCreated(
        RolloutPlan(phases=HALVES.phases, windows=(Window("0 2 * * *", "Atlantis/Capital"),)), "user:ada"
    )
    created = evolve(None, event, version=1, at=simulation.now)
    assert created is not None
    simulation.do(CreateDeployment("a", base("m"), "*", 10, admission=NotStarted()))
    proposed = Proposed("rollout:a", 0, event, (("rollout:a", encode(created)),))
    simulation.log.append([proposed], command_id="raw", by=Principal.parse("user:ada"), at=simulation.now)
    simulation.do(StartRollout("a"))
    simulation.create("b", HALVES, priority=20)
    simulation.step()
    assert simulation.kinds("a") == ["RolloutCreated", "RolloutStarted"]
    assert "DevicesAdmitted" in simulation.kinds("b")


def test_a_million_devices_admitted_bit_by_bit_fit_into_a_chunk() -> None:
    simulation = Simulation(devices=2)
    simulation.create("new", HALVES)
    document = simulation.document("new")
    for number in range(20):
        members = {one: BitMap(range(number, 62_500, 20)) for one in range(16)}
        event = DevicesAdmitted(0, FleetSet(members).devices(), 50_000, "", ())
        after = evolve(document, event, version=number, at=number)
        assert after is not None
        document = after
        assert len(canonical.encode(event)) + len(encode(document)) < CHUNK_BYTES_MAX
    assert len(document.admitted) == 1_000_000


@pytest.mark.parametrize("what", ["deploy", "cancel"])
def test_a_rollback_that_was_asked_for_does_not_outlive_its_deployment(what: str) -> None:
    simulation = Simulation(devices=6, tags=lambda _: {"ADUGroup": "north"})
    simulation.do(*map(imported, (V1, V2, V3)))
    first, second = update_deployment_of("north", "1"), update_deployment_of("north", "2")
    simulation.do(deploy("1", V2, policy=back_to(V1)))
    passes(simulation, 6)
    kept = keepers(simulation, first)
    simulation.do(RollBack(first))
    simulation.do(deploy("2", V3, keepers=kept) if what == "deploy" else cancel("1", keepers=kept))
    passes(simulation, 6)
    assert simulation.running(f"{first}-rollback") == set()
    if what == "deploy":
        assert simulation.running(second) == set(every(6))


def test_nobody_is_no_success() -> None:
    gate = Gate(success_percent=95, answered_min=2)
    phases = tuple(Phase(percent=percent, gate=gate) for percent in (5, 50, 100))
    simulation = Simulation(devices=40, behave=silent(*every(40)))
    simulation.create("new", RolloutPlan(phases=phases, offline=Offline.EXCLUDE, offline_seconds=600))
    passes(simulation, 60)
    assert len(simulation.running("new")) == 2
    # Nor is a canary whose condition is true for nobody.
    simulation.create(
        "canary", RolloutPlan(phases=(Phase(condition="tags.ring = 'canary'"), Phase(percent=100))), priority=20
    )
    passes(simulation, 5)
    assert simulation.running("canary") == set()
    assert "no device is targeted with tags.ring = 'canary'" in simulation.judged("canary").says


def test_restoring_is_for_whoever_has_it_and_the_same_whenever_it_is_applied() -> None:
    simulation = Simulation(devices=4, tags=lambda _: {"g": "x"})
    simulation.do(CreateDeployment("old", base("m"), "*", 1))
    passes(simulation, 2)
    simulation.do(DeleteDeployment("old"))
    simulation.create("new", RolloutPlan(phases=HELD_THERE.phases, restore=True), condition="tags.g = 'x'")
    passes(simulation, 3)
    simulation.do(*(PatchTags(name, {"g": None}) for name in every(4)))
    simulation.step()
    simulation.do(RollBack("new"))
    passes(simulation, 2)
    simulation.do(CreateDeployment("z", base("m", image="example.com/z:1"), "*", 5))
    passes(simulation, 2)
    assert simulation.running("z") == set(every(4))
    assert_rebuilt(simulation)


def test_a_retry_of_who_had_nothing_is_none_whenever_it_is_applied() -> None:
    simulation = Simulation(devices=4)
    simulation.do(CreateDeployment("lay", too_large(), "*", 20))
    simulation.create("new", RolloutPlan(phases=(Phase(percent=100),)), content=thirty())
    passes(simulation, 2)
    simulation.do(RetryFailed("new"))
    simulation.step()
    simulation.do(DeleteDeployment("lay"))
    passes(simulation, 2)
    assert_rebuilt(simulation)


def test_who_was_there_already_does_not_hang_on_when_a_canceled_update_is_applied() -> None:
    simulation = Simulation(devices=6, tags=lambda _: {"ADUGroup": "north"})
    simulation.do(imported(V1))
    simulation.do(CreateDeployment("factory", base("m", image="example.com/camera:1.0"), "*", 1))
    passes(simulation, 4)
    simulation.do(deploy("1", V1))
    passes(simulation, 6)
    simulation.do(cancel("1", keepers=keepers(simulation, update_deployment_of("north", "1"))))
    passes(simulation, 2)
    assert_rebuilt(simulation)


def test_two_retries_of_one_device_are_two_whenever_they_are_applied() -> None:
    versions = []
    for together in (True, False):
        simulation = Simulation(devices=1, behave=failing("d0"))
        simulation.create("new", RolloutPlan(phases=(Phase(percent=100),)))
        passes(simulation, 3)
        for number in (1, 2):
            event = DevicesRetried(simulation.document("new").admitted.devices(), 1)
            simulation.append_event("new", event, f"retry-{number}")
            if not together:
                simulation.drain()
        simulation.drain()
        effective = simulation.fleet_projection.effective("d0")
        assert effective is not None
        versions.append(effective.assignment.agent_version)
        assert_rebuilt(simulation)
    assert versions[0] == versions[1]


def test_the_own_twins_of_devices_go_back_without_an_answer() -> None:
    simulation = Simulation(devices=4)
    content = {"deviceContent": {"properties.desired.mode": "fast"}}
    simulation.create("own", RolloutPlan(phases=(Phase(percent=50), Phase(percent=100))), content=content)
    passes(simulation, 3)
    simulation.do(RollBack("own"))
    passes(simulation, 3)
    assert simulation.document("own").state is RolloutState.ROLLED_BACK


def test_devices_that_are_disabled_and_have_it_take_a_place() -> None:
    simulation = Simulation(devices=10, behave=silent(*every(10)))
    simulation.create("new", RolloutPlan(phases=(Phase(count=5), Phase(percent=100, approval=True))))
    simulation.step()
    simulation.do(*(UpdateDevice(name, enabled=False) for name in simulation.running("new")))
    passes(simulation, 3)
    assert len(simulation.running("new")) == 5


def test_who_fails_while_somebody_is_to_approve_is_seen() -> None:
    simulation = Simulation(devices=6)
    phases = (Phase(percent=50), Phase(percent=100, approval=True))
    simulation.create("new", RolloutPlan(phases=phases, failure=Failure(percent=50, count=2)))
    simulation.run(until=lambda: "waits for approval" in simulation.judged("new").says, most=5)
    for name in simulation.running("new"):
        simulation.report(name, 500)
    passes(simulation, 2)
    assert simulation.document("new").state is RolloutState.PAUSED


def test_retry_reaches_a_halted_rollback_and_who_came_when_it_was_completed() -> None:
    simulation = Simulation(devices=4, behave=lambda _name, stack: (1000, 500 if stack else 200))
    simulation.do(CreateDeployment("good", base("m"), "", 1))
    plan = RolloutPlan(
        phases=(Phase(percent=50),), failure=Failure(percent=50, then=OnFailure.ROLL_BACK), rollback_to="good"
    )
    simulation.create("new", plan)
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.HALTED, most=10)
    simulation.do(RetryFailed("new"))
    simulation.step()
    retried = [event for event in simulation.events("new") if isinstance(event, DevicesRetried)]
    assert [event.count for event in retried] == [4]
    late = Simulation(devices=2, behave=failing("late"))
    late.create("new", RolloutPlan(phases=(Phase(percent=100),)))
    late.run(until=lambda: late.document("new").state is RolloutState.COMPLETED, most=5)
    late.do(RegisterDevice("late"))
    passes(late, 2)
    late.do(RetryFailed("new"))
    late.step()
    assert [event.count for event in late.events("new") if isinstance(event, DevicesRetried)] == [1]


def test_whom_another_layer_is_too_much_for_is_as_well_as_before() -> None:
    simulation = Simulation(devices=2, behave=silent(*every(2)))
    simulation.create("new", RolloutPlan(phases=HELD_THERE.phases, failure=PATIENT), content=thirty())
    simulation.step()
    for name in every(2):
        simulation.report(name, 200, **{f"m{number}": "running" for number in range(30)})
    simulation.step()
    simulation.do(CreateDeployment("lay", too_large(), "deviceId = 'd0'", 20))
    simulation.step()
    counts = simulation.counts("new")
    assert (counts.admitted, counts.healthy, counts.failed) == (2, 2, 0)


def test_a_device_that_was_late_stays_failed_when_it_is_silent_for_long() -> None:
    gate = Gate(success_percent=50, device_timeout_seconds=900)
    phases = (Phase(percent=100, gate=gate), Phase(percent=100, approval=True, gate=gate))
    simulation = Simulation(devices=4, behave=silent("d3"))
    simulation.create("new", RolloutPlan(phases=phases, failure=PATIENT, offline=Offline.UNKNOWN, offline_seconds=3600))
    passes(simulation, 20)
    assert (simulation.counts("new").failed, simulation.counts("new").silent) == (1, 0)
    passes(simulation, 50)
    assert (simulation.counts("new").failed, simulation.counts("new").silent) == (1, 0)


def test_a_rollback_asks_nothing_of_whoever_left_the_target() -> None:
    simulation = Simulation(devices=4, tags=lambda _: {"g": "x"})
    simulation.do(CreateDeployment("old", base("m"), "tags.g = 'x'", 1))
    passes(simulation, 2)
    simulation.create("new", HELD_THERE, condition="tags.g = 'x'")
    passes(simulation, 2)
    simulation.do(PatchTags("d0", {"g": None}))
    simulation.step()
    simulation.do(RollBack("new"))
    passes(simulation, 3)
    assert simulation.document("new").state is RolloutState.ROLLED_BACK


def test_restoring_leaves_other_layers_where_they_are() -> None:
    simulation = Simulation(devices=4)
    simulation.do(CreateDeployment("base", base("m"), "*", 1))
    passes(simulation, 2)
    simulation.create("one", RolloutPlan(phases=HELD_THERE.phases, restore=True), content=layer("l1"), priority=10)
    passes(simulation, 2)
    simulation.create("two", HELD_THERE, content=layer("l2"), priority=11)
    passes(simulation, 2)
    simulation.do(RollBack("one"))
    passes(simulation, 3)
    assert simulation.running("two") == set(every(4))


def test_a_retry_keeps_to_so_many_of_a_site() -> None:
    simulation = Simulation(devices=10, behave=failing(*every(10)), tags=lambda _: {"site": "s"})
    plan = RolloutPlan(phases=HELD_THERE.phases, failure=PATIENT, spread=Spread("tags.site", 2))
    simulation.create("new", plan)
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.PAUSED, most=20)
    simulation.do(RetryFailed("new"))
    simulation.behave = silent(*every(10))
    simulation.step()
    assert simulation.counts("new").pending == 2


def test_the_time_of_a_phase_begins_with_its_window() -> None:
    gate = Gate(phase_timeout_seconds=3600)
    window = Window("0 2 * * *", "Europe/Berlin", 60)
    simulation = Simulation(devices=4)
    simulation.create("new", RolloutPlan(phases=(Phase(percent=100, gate=gate),), windows=(window,)))
    simulation.run(until=lambda: simulation.document("new").is_over, step=10 * MINUTE, most=200)
    assert simulation.document("new").state is RolloutState.COMPLETED


def test_a_window_of_the_hour_that_comes_twice_is_open_for_all_of_it() -> None:
    # 2025-10-26T02:30+02:00 in Berlin; at 02:15+01:00, 45 minutes later, an hour is not over.
    opened = 1_761_438_600_000
    assert closes_at([Window("30 2 * * *", "Europe/Berlin", 60)], opened + 45 * MINUTE) == opened + 60 * MINUTE
