import pytest

from events.deployment.commands import CreateDeployment, DeleteDeployment
from events.device.commands import PatchTags, RegisterDevice, RetireDevice
from events.member_names import camel_json
from events.rollout.commands import ApprovePhase, PauseRollout, ResumeRollout
from events.rollout.plan import Failure, Gate, Phase, RolloutPlan
from services.backtest.changes import ChangeInvalid, Changes, deployment_of, plan_of, policy_of
from services.backtest.run import Backtest, DeploymentComparison, backtest
from tests.rollout.simulation import MINUTE, Simulation
from tests.workers.system import base

BAD = {f"d{number}" for number in range(0, 40, 4)}
GATE = Gate(success_percent=50, soak_seconds=300)
PLAN = RolloutPlan((Phase(count=8, gate=GATE), Phase(percent=50, gate=GATE), Phase(percent=100, gate=GATE)))


def answer(name: str, stack: str) -> tuple[int, int]:
    return MINUTE, 500 if stack == "new" and name in BAD else 200


def lived() -> Simulation:
    """Forty devices get new content in three phases; every fourth fails with it, and nothing halts the rollout."""
    simulation = Simulation(devices=40, behave=answer)
    simulation.do(CreateDeployment("old", base("m"), "*", 1))
    for _ in range(5):
        simulation.step()
    simulation.create("new", RolloutPlan(PLAN.phases, Failure(100.0, 1000)))
    simulation.run(until=lambda: simulation.document("new").is_over, most=200)
    for _ in range(5):
        simulation.step()
    simulation.do(PatchTags("d1", {"done": True}))
    simulation.drain()
    return simulation


def tried(simulation: Simulation, changes: Changes = Changes()) -> Backtest:  # noqa: B008 - frozen
    return backtest(simulation.log, simulation.projections, changes)


def of(report: Backtest, name: str) -> DeploymentComparison:
    return next(one for one in report.deployments if one.name == name)


def test_with_nothing_changed_everything_happens_again_as_it_happened() -> None:
    found = tried(lived())
    assert [one.name for one in found.deployments if one.differs] == []
    assert (found.assigned_otherwise, found.unknown, found.unmatched, found.refused) == ((), 0, 0, ())
    new = of(found, "new")
    assert (new.had_really, new.failed_really, new.had_instead) == (40, 10, 40)
    assert "RolloutCompleted" in [act.act for act in new.instead]
    assert found.as_text().splitlines()[0] == "no deployment would have ended otherwise"


def test_a_stricter_rollback_policy_stops_it_early_and_spares_the_devices_that_came_later() -> None:
    policy = policy_of({"percent": 10, "count": 2, "then": "roll back"})
    found = tried(lived(), Changes(policy))
    new = of(found, "new")
    (began,) = [act for act in new.instead if act.act == "RollbackBegan"]
    assert (began.had, began.failed) == (20, len(BAD - set(new.spared))) == (20, 2)
    assert "RollbackBegan" not in [act.act for act in new.really]
    assert (new.had_really, new.had_instead, len(new.spared), new.hit) == (40, 20, 20, ())
    assert set(new.failures_spared) == BAD & set(new.spared)
    assert len(found.assigned_otherwise) == 40
    assert "20 are spared" in found.as_text()
    assert {one["name"]: one["hadReally"] for one in camel_json(found)["deployments"]} == {"new": 40, "old": 40}


def test_the_same_devices_come_first_though_a_rollout_was_made_at_no_time_at_which_the_scheduler_looks() -> None:
    simulation = Simulation(devices=40)
    simulation.do(CreateDeployment("old", base("m"), "*", 1))
    simulation.step(MINUTE + 12_345)
    simulation.create("new", RolloutPlan((Phase(count=3, gate=Gate(soak_seconds=36_000)), Phase(percent=100))))
    for _ in range(5):
        simulation.step()
    new = of(tried(simulation), "new")
    assert (new.had_really, new.spared, new.hit) == (3, (), ())


def test_a_policy_is_for_the_rollouts_that_are_named() -> None:
    simulation = lived()
    simulation.create("other", PLAN, condition="tags.none = 1")
    simulation.drain()
    policy = policy_of({"percent": 10, "count": 2, "then": "roll back"})
    assert not of(tried(simulation, Changes(policy, frozenset({"other"}))), "new").differs


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (Changes(without=frozenset({"nwe"})), "nwe: no deployment"),
        (Changes(rollouts=frozenset({"old"})), "old: no rollout"),
        (Changes(plans={"nwe": PLAN}), "nwe: no rollout"),
    ],
)
def test_a_name_that_is_not_recorded_is_refused_and_not_passed_over(changes: Changes, named: str) -> None:
    with pytest.raises(ChangeInvalid, match=named):
        tried(lived(), changes)


def test_another_plan_admits_fewer_at_first() -> None:
    plan = plan_of("new", {"phases": [{"count": 2, "gate": {"successPercent": 0, "soakSeconds": 36000}}]})
    new = of(tried(lived(), Changes(plans={"new": plan})), "new")
    assert (new.had_instead, len(new.spared)) == (2, 38)


def test_without_a_deployment_nobody_has_it_and_what_it_outranked_goes_on() -> None:
    found = tried(lived(), Changes(without=frozenset({"new"})))
    new, old = of(found, "new"), of(found, "old")
    assert (new.had_instead, len(new.spared), new.instead) == (0, 40, ())
    assert (old.had_instead, old.failed_instead) == (40, 0)
    assert found.refused == ()


def test_a_deployment_for_others_hits_whom_it_is_for_now_and_of_new_content_nobody_knows_the_answer() -> None:
    simulation = lived()
    content = base("m", image="example.com/new:1")
    body = {"id": "new", "content": content, "targetCondition": "deviceId > 'd3'", "priority": 10}
    narrower = of(tried(simulation, Changes(deployments={"new": deployment_of(body)})), "new")
    assert narrower.had_instead == len([name for name in (f"d{n}" for n in range(40)) if name > "d3"])
    fresh = {"id": "fresh", "content": base("zz"), "targetCondition": "*", "priority": 99}
    found = tried(simulation, Changes(deployments={"fresh": deployment_of(fresh)}))
    assert (of(found, "fresh").had_instead, of(found, "new").had_instead) == (40, 0)
    assert (len(of(found, "fresh").hit), found.unknown) == (40, 40)


def test_a_fix_that_really_came_is_answered_as_it_was_when_it_comes_at_another_time() -> None:
    """Who answered to a content badly would have done so the sooner it had come."""
    simulation = lived()
    early = {"id": "early", "content": base("m", image="example.com/new:1"), "targetCondition": "*", "priority": 5}
    found = tried(simulation, Changes(deployments={"early": deployment_of(early)}))
    assert of(found, "early").failed_instead == 10
    assert found.unknown == 0


def test_acts_of_people_that_make_no_sense_any_more_are_told() -> None:
    simulation = Simulation(devices=10, behave=lambda _name, _stack: (MINUTE, 200))
    phases = (Phase(count=5, gate=GATE), Phase(percent=100, gate=GATE, approval=True))
    simulation.create("slow", RolloutPlan(phases))
    for _ in range(20):
        simulation.step()
    simulation.do(PauseRollout("slow", "lunch"), ResumeRollout("slow"), ApprovePhase("slow", 1), by="user:bo")
    simulation.do(RegisterDevice("late"), RetireDevice("d3"))
    simulation.run(until=lambda: simulation.document("slow").is_over, most=200)
    simulation.do(DeleteDeployment("slow"))
    simulation.drain()
    assert not of(tried(simulation), "slow").differs
    plan = plan_of("slow", {"phases": [{"percent": 100, "gate": {"successPercent": 100}}]})
    found = tried(simulation, Changes(plans={"slow": plan}))
    assert len(found.refused) >= 1
    assert all("slow" in text for text in found.refused)


def test_what_is_to_change_is_refused_by_name() -> None:
    with pytest.raises(ChangeInvalid, match="rollback policy"):
        policy_of({"percentage": 5})
    with pytest.raises(ChangeInvalid, match="rollback policy"):
        policy_of({"then": "explode"})
    with pytest.raises(ChangeInvalid, match="plan of a"):
        plan_of("a", {"phases": []})
    with pytest.raises(ChangeInvalid, match="target"):
        deployment_of({"id": "a", "content": base("m"), "targetCondition": 'tags.a = "x"', "priority": 1})
    with pytest.raises(ChangeInvalid, match="owner"):
        deployment_of({"id": "a", "content": base("m"), "owner": "x"})
