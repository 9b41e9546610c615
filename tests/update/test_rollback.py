"""An update that fails is taken back by itself (seed 004, Automatic rollback policy): the real projector and scheduler in virtual time."""

from functools import partial
from typing import Any

from events.deployment.commands import CreateDeployment
from events.device.commands import PatchTags, RegisterDevice
from events.fleet.deployments import Devices
from events.projection_store.memory import MemoryProjectionStore
from events.rollout.plan import Gate, Phase, RolloutPlan
from events.rollout.sets import FleetSet
from events.rollout.state import RolloutState
from events.stored_projection.partition_reader import STATUS_ARRAYS, STATUS_HASHES, PartitionReading
from events.update.commands import RetryUpdateDeployment
from events.update.events import RollbackPolicy
from events.update.names import update_deployment_of
from tests.rollout.simulation import MINUTE, PARTITIONS, Behave, Simulation
from tests.update.given import V1, V2, V3, back_to, cancel, deploy, imported
from tests.workers.system import base
from workers.restored import rebuild

ONE, TWO = update_deployment_of("north", "1"), update_deployment_of("north", "2")
BACK = f"{TWO}-rollback"


def behaving(*bad: str) -> Behave:
    """Every device fails with these configurations, those with an odd number alone."""
    return lambda name, stack: (MINUTE, 500 if stack in bad and int(name[1:]) % 2 else 200)


def fleet(behave: Behave, devices: int = 40) -> Simulation:
    """A group of devices beside one that is in none, over a base."""
    simulation = Simulation(devices=devices, behave=behave, tags=lambda _: {"ADUGroup": "north"})
    simulation.do(RegisterDevice("d1001"), CreateDeployment("factory", base("m"), "*", 1))
    simulation.do(*map(imported, (V1, V2, V3)))
    simulation.drain()
    return simulation


def passes(simulation: Simulation, minutes: int) -> None:
    for _ in range(minutes):
        simulation.step()


def keepers(simulation: Simulation, *names: str) -> dict[str, Devices]:
    read = partial(simulation.projections.read, hashes=STATUS_HASHES, arrays=STATUS_ARRAYS)
    readings = {number: PartitionReading(read(number)) for number in range(PARTITIONS)}
    return {
        name: FleetSet({number: one.status(name).actual for number, one in readings.items()}).devices()
        for name in names
    }


def assert_rebuilt(simulation: Simulation) -> None:
    """Applying everything again gives the same bytes."""
    elsewhere = MemoryProjectionStore()
    for number in range(PARTITIONS):
        rebuild(number, log=simulation.log, recorded=simulation.projections, into=elsewhere)
        assert elsewhere.load(number) == simulation.projections.load(number)


def images(simulation: Simulation) -> dict[str, int]:
    """How many devices run which image of the module."""
    found: dict[str, int] = {}
    for name in simulation.fleet_projection.devices(limit=1000)[0]:
        effective = simulation.fleet_projection.effective(name)
        assert effective is not None
        image = effective.sections["$edgeAgent"]["modules"]["m"]["settings"]["image"]
        found[image] = found.get(image, 0) + 1
    return found


def test_an_update_reaches_its_group_and_whoever_joins_it() -> None:
    simulation = fleet(behaving())
    simulation.do(deploy("1"))
    simulation.run(until=lambda: simulation.document(ONE).state is RolloutState.COMPLETED, most=20)
    assert images(simulation) == {"example.com/camera:1.0": 40, "example.com/a:1.0.0": 1}
    simulation.do(PatchTags("d1001", {"ADUGroup": "north"}))
    simulation.drain()
    assert images(simulation) == {"example.com/camera:1.0": 41}
    simulation.do(PatchTags("d1001", {"ADUGroup": "south"}))
    simulation.drain()
    assert images(simulation) == {"example.com/camera:1.0": 40, "example.com/a:1.0.0": 1}


def test_a_deployment_that_is_over_stays_with_those_who_have_it_and_reaches_nobody_else() -> None:
    simulation = fleet(behaving())
    simulation.do(deploy("1"))
    simulation.run(until=lambda: simulation.document(ONE).state is RolloutState.COMPLETED, most=20)
    simulation.do(cancel("1", keepers=keepers(simulation, ONE)))
    simulation.do(PatchTags("d1001", {"ADUGroup": "north"}))
    simulation.step()
    assert images(simulation) == {"example.com/camera:1.0": 40, "example.com/a:1.0.0": 1}
    assert_rebuilt(simulation)


def test_one_update_follows_another_without_anything_in_between() -> None:
    simulation = fleet(behaving())
    simulation.do(deploy("1"))
    simulation.run(until=lambda: simulation.document(ONE).state is RolloutState.COMPLETED, most=20)
    simulation.do(deploy("2", V2, keepers=keepers(simulation, ONE)))
    seen: list[dict[str, int]] = []
    simulation.drain()
    while simulation.document(TWO).state is not RolloutState.COMPLETED:
        seen.append(images(simulation))
        simulation.step()
    seen.append(images(simulation))
    before, after = ({f"example.com/camera:{version}": 40, "example.com/a:1.0.0": 1} for version in ("1.0", "1.1"))
    assert seen[0] == before
    assert seen[-1] == after
    assert all(one in (before, after) for one in seen)


def test_too_many_failures_bring_the_whole_group_back_once() -> None:
    simulation = fleet(behaving(TWO))
    simulation.do(deploy("1"))
    simulation.run(until=lambda: simulation.document(ONE).state is RolloutState.COMPLETED, most=20)
    simulation.do(deploy("2", V2, policy=back_to(V1, percent=30, count=5), keepers=keepers(simulation, ONE)))
    simulation.run(until=lambda: simulation.document(TWO).state is RolloutState.ROLLED_BACK, most=60)
    assert images(simulation) == {"example.com/camera:1.0": 40, "example.com/a:1.0.0": 1}
    assert simulation.running(BACK) == {f"d{number}" for number in range(40)}
    assert simulation.kinds(TWO).count("RollbackBegan") == 1
    passes(simulation, 20)
    assert simulation.kinds(TWO)[-1] == "RollbackEnded"
    # The next one takes over from what the rollback brought.
    simulation.do(deploy("3", V3, keepers=keepers(simulation, BACK)))
    simulation.run(
        until=lambda: simulation.document(update_deployment_of("north", "3")).state is RolloutState.COMPLETED, most=20
    )
    assert images(simulation) == {"example.com/camera:1.10": 40, "example.com/a:1.0.0": 1}


def test_fewer_failures_than_both_thresholds_bring_nobody_back() -> None:
    for policy in (back_to(V1, percent=60, count=5), back_to(V1, percent=30, count=21)):
        simulation = fleet(behaving(ONE))
        simulation.do(deploy("1", V2, policy=policy))
        passes(simulation, 30)
        assert simulation.document(ONE).state is RolloutState.COMPLETED
        assert simulation.counts(ONE).failed == 20


def test_a_policy_beside_phases_is_not_undercut_by_their_gate() -> None:
    plan = RolloutPlan((Phase(percent=50.0), Phase(percent=100.0)))
    simulation = fleet(lambda name, stack: (MINUTE, 500 if stack == ONE and name == "d3" else 200))
    simulation.do(deploy("1", V2, policy=back_to(V1, percent=20, count=3), plan=plan))
    simulation.run(until=lambda: simulation.document(ONE).state is RolloutState.COMPLETED, most=30)
    assert (simulation.counts(ONE).failed, simulation.counts(ONE).healthy) == (1, 39)


def test_a_gate_of_phases_that_is_out_of_reach_pauses_an_update_whatever_its_policy() -> None:
    plan = RolloutPlan((Phase(percent=100.0, gate=Gate(success_percent=100.0)),))
    simulation = fleet(lambda name, stack: (MINUTE, 500 if stack == ONE and name == "d3" else 200))
    simulation.do(deploy("1", V2, policy=back_to(V1, percent=20, count=3), plan=plan))
    simulation.run(until=lambda: simulation.document(ONE).state is RolloutState.PAUSED, most=30)
    assert "the gate of 100 % cannot be reached: 1 of 40 failed" in simulation.document(ONE).reason


def test_a_rollback_that_fails_halts_and_does_not_begin_again() -> None:
    simulation = fleet(behaving(TWO, BACK))
    simulation.do(deploy("2", V2, policy=back_to(V1, percent=30, count=5)))
    simulation.run(until=lambda: simulation.document(TWO).state is RolloutState.HALTED, most=60)
    passes(simulation, 30)
    assert simulation.kinds(TWO).count("RollbackBegan") == 1
    assert simulation.kinds(TWO)[-1] == "RollbackEnded"


def test_those_who_failed_try_again() -> None:
    bad: list[Any] = [ONE]
    simulation = fleet(lambda name, stack: (MINUTE, 500 if stack in bad and int(name[1:]) % 2 else 200))
    simulation.do(deploy("1", V2, policy=back_to(V1, percent=90)))
    simulation.run(until=lambda: simulation.document(ONE).state is RolloutState.COMPLETED, most=20)
    assert simulation.counts(ONE).failed == 20
    bad.clear()
    simulation.do(RetryUpdateDeployment("north", "1"))
    passes(simulation, 5)
    assert (simulation.counts(ONE).failed, len(list(simulation.fleet_projection.members(ONE, "healthy")))) == (0, 40)
    assert simulation.kinds(ONE).count("DevicesRetried") == 1


def test_each_device_goes_back_to_its_last_known_good_where_no_update_is_named() -> None:
    simulation = fleet(behaving(TWO))
    simulation.do(deploy("1"))
    simulation.run(until=lambda: simulation.document(ONE).state is RolloutState.COMPLETED, most=20)
    policy = RollbackPolicy(None, 30, 5)
    simulation.do(deploy("2", V2, policy=policy, keepers=keepers(simulation, ONE)))
    simulation.run(until=lambda: simulation.document(TWO).state is RolloutState.ROLLED_BACK, most=60)
    assert images(simulation) == {"example.com/camera:1.0": 40, "example.com/a:1.0.0": 1}
    assert_rebuilt(simulation)


def test_an_update_ends_at_its_time_and_stays_with_those_who_have_it() -> None:
    simulation = fleet(behaving())
    simulation.do(deploy("1", end_at=simulation.now + 30 * MINUTE))
    simulation.run(until=lambda: simulation.document(ONE).state is RolloutState.COMPLETED, most=20)
    passes(simulation, 30)
    simulation.do(PatchTags("d1001", {"ADUGroup": "north"}))
    passes(simulation, 2)
    assert images(simulation) == {"example.com/camera:1.0": 40, "example.com/a:1.0.0": 1}
    assert simulation.step() == 0
    assert_rebuilt(simulation)
