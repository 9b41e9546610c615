"""What is said of a group whose update was rolled back: to what, how many devices run it, and which failed."""

import pytest

from events.projection_store.groups import DeployedUpdate, DeviceState, GroupProjection
from events.rollout.commands import RollBack
from events.rollout.sets import FleetSet
from events.rollout.state import RolloutState
from events.update.events import RollbackPolicy
from tests.rollout.simulation import Simulation
from tests.update.given import V1, V2, V3, back_to, cancel, deploy
from tests.update.test_rollback import BACK, ONE, TWO, behaving, fleet, keepers, passes

FAILED = {f"d{number}" for number in range(1, 40, 2)}
EVERY = {f"d{number}" for number in range(40)}


def fleet_projection(simulation: Simulation) -> GroupProjection:
    simulation.drain()
    return GroupProjection(simulation.log, simulation.projections)


def names(simulation: Simulation, devices: FleetSet) -> set[str]:
    return set(simulation.fleet_projection.page_of(devices.of_partition, limit=1000)[0])


def counts(seen: GroupProjection, deployed_update: DeployedUpdate) -> dict[str, int]:
    return {state.value: len(members) for state, members in seen.states(deployed_update).items() if members}


def rolled_back(policy: RollbackPolicy) -> Simulation:
    """A group that had the first update, and was rolled back from the second."""
    simulation = fleet(behaving(TWO))
    simulation.do(deploy("1"))
    simulation.run(until=lambda: simulation.document(ONE).state is RolloutState.COMPLETED, most=20)
    simulation.do(deploy("2", V2, policy=policy, keepers=keepers(simulation, ONE)))
    simulation.run(until=lambda: simulation.document(TWO).state is RolloutState.ROLLED_BACK, most=60)
    return simulation


@pytest.fixture(scope="module")
def to_an_update() -> Simulation:
    return rolled_back(back_to(V1, percent=30, count=5))


def test_it_says_rolled_back_to_what_and_not_active(to_an_update: Simulation) -> None:
    seen = fleet_projection(to_an_update)
    two = seen.deployment("north", "2")
    assert (two.state, two.back_to, two.is_active) == ("RolledBack", "contoso/camera/1.0", False)
    assert names(to_an_update, seen.back(two)) == EVERY


def test_what_its_devices_run_is_in_the_list_of_its_deployments(to_an_update: Simulation) -> None:
    seen = fleet_projection(to_an_update)
    assert [update.deployment.id for update in seen.deployed_updates("north")] == ["1", "2", "2-rollback"]
    back = seen.deployment("north", "2-rollback")
    assert (back.update_deployment, back.deployment.update, back.state, back.is_active) == (BACK, V1, "Active", True)
    assert (back.back_from, back.commanded) == ("2", "2")
    assert counts(seen, back) == {"Succeeded": 40}


def test_devices_that_failed_are_listed_with_the_reason(to_an_update: Simulation) -> None:
    seen = fleet_projection(to_an_update)
    two = seen.deployment("north", "2")
    assert counts(seen, two) == {"Failed": 20, "Canceled": 20}
    assert names(to_an_update, seen.states(two)[DeviceState.FAILED]) == FAILED
    assert {why: names(to_an_update, devices) for why, devices in seen.failures(two).items()} == {
        "it answered 500": FAILED
    }


def test_the_keepers_of_a_group_that_was_rolled_back_are_those_who_run_what_is_back(to_an_update: Simulation) -> None:
    seen = fleet_projection(to_an_update)
    assert seen.keepers("north").keys() == {BACK}
    assert names(to_an_update, FleetSet.of(seen.keepers("north")[BACK])) == EVERY


def test_what_each_device_had_is_said_where_no_update_is_named() -> None:
    simulation = rolled_back(RollbackPolicy(None, 30, 5))
    seen = fleet_projection(simulation)
    two = seen.deployment("north", "2")
    assert (two.state, two.back_to, two.back) == ("RolledBack", "what each device had before", None)
    assert len(seen.back(two)) == 40
    assert counts(seen, two) == {"Failed": 20, "Canceled": 20}


def test_a_rollback_says_that_it_is_under_way_and_that_it_failed() -> None:
    simulation = fleet(behaving(TWO, BACK))
    simulation.do(deploy("2", V2, policy=back_to(V1, percent=30, count=5)))
    assert fleet_projection(simulation).deployment("north", "2").state == "Active"
    simulation.run(until=lambda: simulation.document(TWO).state is RolloutState.ROLLING_BACK, most=60)
    assert fleet_projection(simulation).deployment("north", "2").state == "RollingBack"
    simulation.run(until=lambda: simulation.document(TWO).state is RolloutState.HALTED, most=60)
    seen = fleet_projection(simulation)
    assert seen.deployment("north", "2").state == "RollbackFailed"
    assert counts(seen, seen.deployment("north", "2-rollback"))["Failed"] == 20


def test_one_that_is_rolled_back_by_hand_after_it_succeeded_has_no_failed_devices() -> None:
    simulation = fleet(behaving())
    simulation.do(deploy("2", V2, policy=back_to(V1)))
    simulation.run(until=lambda: simulation.document(TWO).state is RolloutState.COMPLETED, most=20)
    simulation.do(RollBack(TWO, "the wrong one"))
    simulation.run(until=lambda: simulation.document(TWO).state is RolloutState.ROLLED_BACK, most=20)
    seen = fleet_projection(simulation)
    two = seen.deployment("north", "2")
    assert counts(seen, two) == {"Canceled": 40}
    assert two.rollout is not None
    assert two.rollout.why == "the wrong one; 40 of 40 are back"


@pytest.mark.parametrize("what", ["superseded", "canceled"])
def test_what_comes_after_the_rollback_is_told_of_both(what: str) -> None:
    simulation = rolled_back(back_to(V1, percent=30, count=5))
    ordinals = fleet_projection(simulation).keepers("north")
    simulation.do(deploy("3", V3, keepers=ordinals) if what == "superseded" else cancel("2", keepers=ordinals))
    passes(simulation, 3)
    seen = fleet_projection(simulation)
    states = {update.deployment.id: update.state for update in seen.deployed_updates("north")}
    assert (states["2"], states["2-rollback"]) == (what.capitalize(), what.capitalize())
    assert not any(
        update.is_active for update in seen.deployed_updates("north") if update.deployment.id.startswith("2")
    )
    assert counts(seen, seen.deployment("north", "2"))["Failed"] == 20
