"""What an explanation says is what the projections have, for every device and deployment of random fleets."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from events.envelope import Vector
from events.explain.assessment import weigh
from events.explain.verdict import ExplainedDevice, Reason, Standpoint, Verdict, Weighed
from events.fleet.assignments import Assignment, AssignmentStatus
from events.manifest.document import ContentKind
from events.projection_store.memory import MemoryProjectionStore
from events.query.evaluate import twin_row
from events.stored_projection.not_applied import targets_of
from events.stored_projection.partition_reader import Targeting
from tests.explain.explained import known_of, row_at, weighed
from tests.fleet.histories import History, Model, histories
from tests.fleet.test_laws import run, steps

LAWS = settings(derandomize=True, deadline=None, max_examples=300)


def test_every_verdict_is_the_one_of_the_projections_and_every_condition_is_true_of_those_they_target() -> None:
    verdicts: Counter[Verdict] = Counter()

    @LAWS
    @given(data=st.data(), history=histories(by_hand=True))
    def hold(data: st.DataObject, history: History) -> None:
        store = MemoryProjectionStore()
        run(history, data.draw(steps(history)), store=store)
        kept = store.load(0)
        targeting = Targeting(kept)
        for device_id, text in kept.hashes["ordinals"].items():
            ordinal = int(text)
            assignment, (_, _, found) = row_at(kept, ordinal), weighed(history, kept, device_id)
            verdicts.update(one.verdict for one in found)
            targeted = {
                (layer.id, module)
                for layer, sets in targets_of(kept).items()
                for module, members in sets.items()
                if ordinal in members
            }
            assert {(one.id, one.module) for one in found if one.targeted} == targeted
            assert all(one.is_settled for one in found)
            assert all((one.holds is True) == one.targeted for one in found)
            said = {
                (one.id, one.obstacle.reason.name, one.obstacle.by or "")
                for one in found
                if one.verdict is Verdict.NOT_APPLIED and one.obstacle
            }
            reasons = targeting.not_applied(ordinal, assignment)
            assert said == {(reason.deployment_id, reason.why.name, reason.by) for reason in reasons}
            stack = tuple(one.id for one in found if one.verdict in {Verdict.BASE, Verdict.LAYER})
            assert stack == (
                tuple(layer.id for layer in assignment.stack) if assignment.status is AssignmentStatus.MANAGED else ()
            )
            assert_own_parts(found, assignment)
            assert all(one.obstacle is not None for one in found if not one.applies)

    hold()
    assert verdicts.keys() == set(Verdict) - {Verdict.UNDECIDED}
    assert min(verdicts.values()) > 10


def assert_own_parts(deployments: tuple[Weighed, ...], assignment: Assignment) -> None:
    own = {
        deployment.id
        for deployment in deployments
        if deployment.verdict is Verdict.APPLIES and deployment.kind is ContentKind.DEVICE
    }
    if not assignment.own_part.wanted:
        assert own == {layer.id for layer in assignment.own_part.stack}
    for module, part in assignment.module_parts.items():
        given = {
            deployment.id
            for deployment in deployments
            if deployment.verdict is Verdict.APPLIES and deployment.module == module
        }
        if not part.wanted:
            assert given == {layer.id for layer in part.stack}


def test_before_the_projections_know_a_device_what_holds_is_said_to_be_undecided() -> None:
    @settings(parent=LAWS, max_examples=30)
    @given(history=histories(modules_of_ten=0))
    def hold(history: History) -> None:
        head = Vector(len(history.partition), len(history.fleet))
        for device_id, twin in Model(history).twins.items():
            subject = ExplainedDevice(twin_row(device_id, twin.tags, twin.reported), twin.edge)
            for one in weigh(subject, Standpoint(0, Vector(), head), None, known_of(history)):
                assert (one.verdict is Verdict.UNDECIDED) == (one.holds is True)
                assert one.obstacle is not None
                assert (one.obstacle.reason is Reason.NOT_APPLIED_YET) == (one.holds is True)

    hold()
