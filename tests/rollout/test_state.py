"""A rollout as its events make it, and as it is kept."""

from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st
from pyroaring import BitMap

from events.canonical import encode
from events.rollout.events import (
    DevicesRetried,
    PhaseApproved,
    PhaseOpened,
    PhasePassed,
    RetryAsked,
    RollbackAsked,
    RollbackBegan,
    RollbackEnded,
    RolloutAborted,
    RolloutCompleted,
    RolloutDeleted,
    RolloutEvent,
    RolloutPaused,
    RolloutResumed,
    RolloutStarted,
    SoakBegan,
    SoakBroken,
)
from events.rollout.sets import NO_DEVICES, FleetSet
from events.rollout.state import BATCHES_MAX, Batch, RolloutDocument, RolloutState, decode, subject_of
from tests.rollout.given import ADA, BOB, EVIDENCE, PLAN, admitted, applied, created, devices, in_state, status

OPENED = (created(), RolloutStarted(), PhaseOpened(0, EVIDENCE))


def members(document: RolloutDocument) -> list[tuple[int, FleetSet]]:
    return [(batch.admitted_at, FleetSet.of(batch.devices)) for batch in document.batches]


def of(*ordinals: int) -> FleetSet:
    return FleetSet({0: BitMap(ordinals)})


def test_a_rollout_begins_with_its_plan_and_its_author_and_nobody() -> None:
    document = status(created())
    assert (document.plan, document.author, document.state) == (PLAN, ADA, RolloutState.CREATED)
    assert (document.version, document.created_at, document.phase, document.is_open) == (1, 1000, -1, False)
    assert document.admitted == NO_DEVICES


@pytest.mark.parametrize(
    ("event", "changes"),
    [
        (RolloutPaused("hot"), {"state": RolloutState.PAUSED, "reason": "hot", "soak_at": 0}),
        (RolloutResumed(), {"state": RolloutState.RUNNING, "reason": "", "phase_at": 5000, "paced_at": 5000}),
        (PhaseApproved(1, BOB), {"approved": (1,)}),
        (PhaseOpened(1, EVIDENCE), {"phase": 1, "is_open": True, "phase_at": 5000, "paced_at": 5000}),
        (admitted(3), {"soak_at": 0, "reason": ""}),
        (SoakBegan(EVIDENCE), {"soak_at": 5000}),
        (SoakBroken(EVIDENCE), {"soak_at": 0}),
        (PhasePassed(0, "held", EVIDENCE), {"is_open": False, "reason": "held"}),
        (RetryAsked(), {"retry_asked": True}),
        (DevicesRetried(devices(1), 1), {"retry_asked": False, "retries": 1}),
        (RollbackAsked("hurts"), {"rollback_asked": True, "reason": "hurts", "state": RolloutState.RUNNING}),
        (RollbackBegan("hurts", "back"), {"state": RolloutState.ROLLING_BACK, "rollback": "back", "rollback_at": 5000}),
        (RollbackEnded(succeeded=True, reason="", evidence=EVIDENCE), {"state": RolloutState.ROLLED_BACK}),
        (
            RollbackEnded(succeeded=False, reason="no", evidence=EVIDENCE),
            {"state": RolloutState.HALTED, "reason": "no"},
        ),
        (RolloutAborted("over"), {"state": RolloutState.ABORTED, "reason": "over", "is_open": False}),
        (RolloutCompleted(EVIDENCE), {"state": RolloutState.COMPLETED, "reason": "", "is_open": False}),
    ],
)
def test_an_event_changes_what_it_says_and_the_version(event: RolloutEvent, changes: dict[str, Any]) -> None:
    document = status(*OPENED, admitted(1, 2), event)
    assert {name: getattr(document, name) for name in changes} == changes
    assert (document.version, document.changed_at, document.created_at) == (5, 5000, 1000)


def test_a_rollout_goes_with_its_deployment() -> None:
    assert applied(*OPENED, RolloutDeleted()) is None


def test_the_first_phase_keeps_whom_it_found_where_joiners_wait() -> None:
    document = status(created(), RolloutStarted(), PhaseOpened(0, EVIDENCE, devices(1, 2)), PhaseOpened(1, EVIDENCE))
    assert document.pool == devices(1, 2)


def test_who_is_admitted_is_in_one_batch_that_of_the_last_time() -> None:
    document = status(*OPENED, admitted(1, 2), admitted(3), DevicesRetried(devices(2), 1))
    assert members(document) == [(4000, of(1)), (5000, of(3)), (6000, of(2))]
    assert document.admitted == of(1, 2, 3)
    empty = status(*OPENED, admitted(1), DevicesRetried(devices(1), 1), admitted())
    assert members(empty) == [(5000, of(1))]


def test_whoever_is_late_gets_the_whole_time_again_after_a_pause() -> None:
    document = status(*OPENED, admitted(1), admitted(2), RolloutPaused("hot"), RolloutResumed())
    assert members(document) == [(7000, of(1, 2))]


def test_of_too_many_batches_the_oldest_count_as_the_younger_of_them() -> None:
    document = status(*OPENED, *(admitted(number) for number in range(BATCHES_MAX + 2)))
    assert len(document.batches) == BATCHES_MAX
    assert members(document)[:2] == [(6000, of(0, 1, 2)), (7000, of(3))]
    assert document.admitted == of(*range(BATCHES_MAX + 2))


@pytest.mark.parametrize("state", RolloutState)
def test_a_document_is_read_as_it_was_written(state: RolloutState) -> None:
    document = in_state(state)
    assert decode(encode(document)) == document
    assert encode(decode(encode(document))) == encode(document)


@pytest.mark.parametrize("state", RolloutState)
def test_the_scheduler_has_to_do_with_what_moves_by_itself_and_with_what_was_asked(state: RolloutState) -> None:
    document = in_state(state)
    assert document.is_active is (state in {RolloutState.RUNNING, RolloutState.ROLLING_BACK})
    assert document.is_over is (state in {RolloutState.COMPLETED, RolloutState.ABORTED, RolloutState.ROLLED_BACK})
    retried = status(*OPENED, RolloutPaused("hot"), RetryAsked())
    assert retried.is_active


def test_the_subject_of_a_rollout_is_no_deployments() -> None:
    assert subject_of("prod") == "rollout:prod"


def test_a_batch_holds_a_time_and_devices() -> None:
    assert status(*OPENED, admitted(1)).batches == (Batch(4000, devices(1)),)


# -- sets over all partitions

fleet_sets = st.dictionaries(
    st.integers(0, 3), st.frozensets(st.integers(0, 2**32 - 1) | st.integers(0, 9)).map(BitMap)
).map(FleetSet)


def pairs(some: FleetSet) -> set[tuple[int, int]]:
    return {(number, ordinal) for number, members in some.by_partition.items() for ordinal in members}


@for_all(fleet_sets, fleet_sets)
def test_sets_over_all_partitions_are_sets(one: FleetSet, other: FleetSet) -> None:
    assert pairs(one & other) == pairs(one) & pairs(other)
    assert pairs(one | other) == pairs(one) | pairs(other)
    assert pairs(one - other) == pairs(one) - pairs(other)
    assert FleetSet.union([one, other]) == one | other
    assert len(one) == len(pairs(one))
    assert bool(one) is bool(pairs(one))


@for_all(fleet_sets)
def test_a_set_is_read_as_it_was_written_and_equal_sets_are_equal_text(some: FleetSet) -> None:
    assert FleetSet.of(some.devices()) == some
    again = FleetSet({number: BitMap(sorted(members)) for number, members in reversed(some.by_partition.items())})
    assert list(again.devices().items()) == list(some.devices().items())
