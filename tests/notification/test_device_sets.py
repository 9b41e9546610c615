"""Webhooks and followers of the stream are told which devices an event is about, and not by ordinals."""

from typing import Any

import msgspec

from events.deployment.commands import CreateDeployment
from events.notification.feed import DEVICES_NAMED_MAX, Feed
from events.rollout.plan import Failure, OnFailure, Phase, RolloutPlan
from events.rollout.state import RolloutState
from tests.rollout.simulation import Simulation
from tests.update.given import V1, cancel, deploy, imported
from tests.update.test_rollback import keepers
from tests.workers.system import base


def told(simulation: Simulation, kind: str) -> list[Any]:
    """The data of all events of a kind, as they are posted, with the deployments that they are about."""
    feed = Feed(simulation.log, simulation.projections)  # type: ignore[arg-type]
    found = feed.of_stream(0, 0, simulation.log.head(-1))
    return [(msgspec.json.decode(one.body), one.deployments) for one in found if one.kind == kind]


def rolled_back(devices: int) -> Simulation:
    simulation = Simulation(
        devices=devices, behave=lambda name, stack: (1000, 500 if stack == "new" and name in {"d1", "d2"} else 200)
    )
    simulation.do(CreateDeployment("old", base("m"), "*", 1))
    plan = RolloutPlan((Phase(percent=100),), failure=Failure(count=2, then=OnFailure.ROLL_BACK))
    simulation.create("new", plan)
    simulation.run(until=lambda: simulation.document("new").state is RolloutState.ROLLED_BACK, most=20)
    return simulation


def test_a_rollback_is_told_with_the_devices_that_failed_and_why() -> None:
    ((event, about),) = told(rolled_back(5), "RollbackBegan")
    assert event["data"]["reason"] == "2 of 5 failed (40 %): the limit is 2 devices"
    failed = event["data"]["results"]["failed"]["it answered 500"]
    assert (failed["count"], sorted(failed["devices"])) == (2, ["d1", "d2"])
    assert event["data"]["results"]["healthy"]["count"] == 3
    assert about == {"new"}
    ((ended, _),) = told(rolled_back(5), "RollbackEnded")
    assert (ended["data"]["succeeded"], ended["data"]["not_back"]) == (True, {})


def test_of_many_devices_the_first_are_named_and_all_are_counted() -> None:
    ((event, _),) = told(rolled_back(150), "DevicesAdmitted")
    admitted = event["data"]["devices"]
    assert (admitted["count"], len(admitted["devices"])) == (150, DEVICES_NAMED_MAX)
    assert set(admitted["devices"]) <= {f"d{number}" for number in range(150)}


def test_who_keeps_a_canceled_update_is_told_by_their_ids() -> None:
    simulation = Simulation(devices=3, tags=lambda _: {"ADUGroup": "north"})
    simulation.do(imported(V1))
    simulation.do(deploy("1"))
    simulation.run(until=lambda: simulation.document("update+north+1").state is RolloutState.COMPLETED, most=10)
    simulation.do(cancel("1", keepers=keepers(simulation, "update+north+1")))
    ((event, _),) = told(simulation, "AdmissionChanged")
    assert sorted(event["data"]["admission"]["devices"]["devices"]) == ["d0", "d1", "d2"]
