"""When deployments start and end: at a time, early, late, or never."""

from typing import Any

import pytest

from events.deployment.commands import ChangeAdmission, CreateDeployment, ScheduleDeployment
from events.deployment.decider import TIME_MAX
from events.deployment.errors import DeploymentNotFound, ScheduleForbidden, ScheduleInvalid
from events.deployment.events import (
    Admission,
    AdmissionChanged,
    Admitted,
    DeploymentCreated,
    DeploymentScheduled,
    Ended,
    Everyone,
    NotStarted,
    Schedule,
)
from tests.deployment.given import document_of, given
from tests.manifest.contents import content

AT_FIVE = Schedule(5000, 9000, "Europe/Berlin")
WAITING = DeploymentCreated(content(), admission=NotStarted(), schedule=AT_FIVE)
STARTED, ENDED = AdmissionChanged(Everyone()), AdmissionChanged(Ended())


def create(**members: Any) -> CreateDeployment:
    return CreateDeployment("base", content(), **members)


def test_a_deployment_with_a_start_has_not_started() -> None:
    given().when(create(schedule=AT_FIVE)).then(WAITING)


@pytest.mark.parametrize("schedule", [Schedule(0, 9000), Schedule(), Schedule(zone="Asia/Kathmandu")])
def test_a_deployment_without_a_start_has_started_though_it_may_end(schedule: Schedule) -> None:
    given().when(create(schedule=schedule)).then(DeploymentCreated(content(), schedule=schedule))


@pytest.mark.parametrize("admission", [NotStarted(), Ended(), Admitted(("edge-1",))])
def test_a_start_and_an_admission_do_not_go_together(admission: Admission) -> None:
    given().when(create(schedule=AT_FIVE, admission=admission)).refused(ScheduleInvalid, "start_at", "admission")
    held = DeploymentCreated(content(), admission=admission, schedule=Schedule(0, 9000))
    given().when(create(schedule=Schedule(0, 9000), admission=admission)).then(held)


@pytest.mark.parametrize(
    ("schedule", "element", "rule"),
    [
        (Schedule(-1), "schedule.start_at", "1970"),
        (Schedule(TIME_MAX + 1), "schedule.start_at", "9999"),
        (Schedule(0, -1), "schedule.end_at", "1970"),
        (Schedule(0, TIME_MAX + 1), "schedule.end_at", "9999"),
        (Schedule(5000, 5000), "`schedule.end_at` must be after `schedule.start_at` (1970-01-01 00:00 UTC)", ""),
        (Schedule(5000, 4999, "Europe/Berlin"), "`schedule.end_at`", "(1970-01-01 01:00 Europe/Berlin)"),
        (Schedule(5000, 6000, ""), "schedule.zone", "Europe/Berlin"),
        (Schedule(5000, 6000, "Europe/Atlantis"), "schedule.zone", "Europe/Berlin"),
        (Schedule(5000, 6000, "../../etc/passwd"), "schedule.zone", "Europe/Berlin"),
        (Schedule(5000, 6000, "\ud800"), "schedule.zone", "Europe/Berlin"),
    ],
)
def test_times_that_cannot_be_are_named(schedule: Schedule, element: str, rule: str) -> None:
    given().when(create(schedule=schedule)).refused(ScheduleInvalid, element, rule)
    given(WAITING).when(ScheduleDeployment("base", schedule)).refused(ScheduleInvalid, element, rule)


@pytest.mark.parametrize("schedule", [Schedule(6000, 9000), Schedule(0, 9000), Schedule(5000), Schedule()])
def test_what_has_not_started_is_moved_to_any_time(schedule: Schedule) -> None:
    given(WAITING).when(ScheduleDeployment("base", schedule)).then(DeploymentScheduled(schedule))


def test_of_what_has_started_the_end_alone_is_moved() -> None:
    for events in ((WAITING, STARTED), (DeploymentCreated(content()),)):
        start = 5000 if len(events) > 1 else 0
        later = Schedule(start, 20_000)
        given(*events).when(ScheduleDeployment("base", later)).then(DeploymentScheduled(later))
        given(*events).when(ScheduleDeployment("base", Schedule(6000, 20_000))).refused(
            ScheduleForbidden, "only its end"
        )


def test_the_times_of_what_has_ended_do_not_change() -> None:
    given(WAITING, ENDED).when(ScheduleDeployment("base", AT_FIVE)).refused(ScheduleForbidden, "has ended")


def test_what_is_not_there_has_no_times() -> None:
    given().when(ScheduleDeployment("base", AT_FIVE)).refused(DeploymentNotFound, "base")


def test_a_deployment_starts_early_by_hand_and_is_then_not_due_any_more() -> None:
    given(WAITING).when(ChangeAdmission("base", Everyone())).then(STARTED)
    given(WAITING, STARTED).when(ChangeAdmission("base", Everyone(), 5000, 20)).refused(ScheduleForbidden)


def test_a_start_that_was_due_says_how_late_it_came() -> None:
    given(WAITING).when(ChangeAdmission("base", Everyone(), 5000, 20)).then(AdmissionChanged(Everyone(), 20))
    given(WAITING, STARTED).when(ChangeAdmission("base", Ended(), 9000, 0)).then(AdmissionChanged(Ended(), 0))


@pytest.mark.parametrize("events", [(DeploymentScheduled(Schedule(6000)),), (STARTED,), (ENDED,)])
def test_a_start_that_was_moved_or_came_already_is_not_due(events: Any) -> None:
    given(WAITING, *events).when(ChangeAdmission("base", Everyone(), 5000, 0)).refused(ScheduleForbidden, "was changed")


def test_an_end_that_was_moved_or_came_already_is_not_due() -> None:
    for event in (DeploymentScheduled(Schedule(5000, 10_000)), ENDED):
        given(WAITING, event).when(ChangeAdmission("base", Ended(), 9000, 0)).refused(ScheduleForbidden, "was changed")


def test_a_canceled_deployment_is_due_for_nothing() -> None:
    given(WAITING).when(ChangeAdmission("base", Ended())).then(ENDED)
    document = document_of(WAITING, ENDED)
    assert (document.start_at, document.end_at) == (0, 0)


def test_what_is_due_follows_from_times_and_admission() -> None:
    assert (document_of(WAITING).start_at, document_of(WAITING).end_at) == (5000, 9000)
    started = document_of(WAITING, STARTED)
    assert (started.start_at, started.end_at) == (0, 9000)
    moved = document_of(WAITING, DeploymentScheduled(Schedule(7000, 9000)))
    assert (moved.start_at, moved.version, moved.updated_at) == (7000, 2, 2000)
    none = document_of(DeploymentCreated(content()))
    assert (none.start_at, none.end_at) == (0, 0)
