"""What one device's answers come to, event by event, at the edges of what counts as an answer."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from events.fleet.answers import OTHER, Combinations, DeviceAnswers, Expected, as_desired, lacking
from events.fleet.packed import Packed

AGENT_ALONE = Expected(agent=5)
BOTH = Expected(agent=5, hub=3)
RUNNING = Expected(agent=5, runtime=1, statuses=(("cam", "running"),))
SUCCEEDED = {"acknowledged", "healthy", "succeeded"}
REFUSED = {"acknowledged", "failed", "refused", "unhealthy"}


def answer(version: Any = 5, code: Any = 200, **more: Any) -> dict[str, Any]:
    return {"lastDesiredVersion": version, "lastDesiredStatus": {"code": code}, **more}


def running(**modules: str) -> dict[str, Any]:
    return {"modules": {name: {"runtimeStatus": status} for name, status in modules.items()}}


class Fleet:
    """Devices by ordinal; each row of assignments stands for what its devices are to answer for."""

    def __init__(self, *expected: Expected, devices: int = 1) -> None:
        self.answers, self._expected, self._assignments = DeviceAnswers(), expected, Packed()
        self.answers.reserve(devices)
        self._assignments.reserve(devices)

    def assign(self, ordinal: int, assignment: int) -> None:
        self._assignments[ordinal] = assignment
        self.answers.stale.add(ordinal)

    def agent(self, *patches: dict[str, Any], of: int = 0) -> "Fleet":
        for patch in patches:
            self.answers.apply_agent(of, patch, self._expected[self._assignments[of]])
        return self

    def hub(self, *patches: dict[str, Any], of: int = 0) -> "Fleet":
        for patch in patches:
            self.answers.apply_hub(of, patch)
        return self

    def delivered(self, of: int = 0, **versions: int) -> "Fleet":
        self.answers.apply_delivered(of, versions)
        return self

    def sets(self, of: int = 0) -> set[str]:
        self.answers.judge(self._assignments, self._expected.__getitem__)
        return {name for name, members in self.answers.sets.items() if of in members}

    def undelivered(self, of: int = 0) -> set[str]:
        self.answers.judge(self._assignments, self._expected.__getitem__)
        return {name for name, members in self.answers.undelivered.items() if of in members}

    def reported(self, of: int = 0) -> Mapping[str, str]:
        return dict(self.answers.signatures.by_number[self.answers.signature_of[of]])


# -- versions and codes


@pytest.mark.parametrize(
    ("version", "sets"),
    [
        (4, set()),
        (5, SUCCEEDED),
        (5.0, SUCCEEDED),
        (6, SUCCEEDED - {"succeeded"}),
        (OTHER - 1, SUCCEEDED - {"succeeded"}),
        (OTHER, set()),
        (OTHER + 1, set()),
        (5.5, set()),
        (-5, set()),
        (0, set()),
        (True, set()),
        ("5", set()),
        (None, set()),
        ([5], set()),
    ],
)
def test_the_agent_answers_with_the_version_that_it_was_given_or_a_later_one(version: Any, sets: set[str]) -> None:
    fleet = Fleet(AGENT_ALONE).agent(answer(version))
    assert fleet.sets() == sets
    assert fleet.answers.agent.has_answered(0, 5) is bool(sets)


@pytest.mark.parametrize(
    ("code", "sets"),
    [
        (200, SUCCEEDED),
        (200.0, SUCCEEDED),
        (406, {"acknowledged", "failed"}),
        (201, REFUSED),
        (400, REFUSED),
        (0, REFUSED),
        (200.5, REFUSED),
        (-1, REFUSED),
        (None, set()),
        (True, set()),
        ("200", set()),
    ],
)
def test_a_code_is_success_refusal_or_no_answer(code: Any, sets: set[str]) -> None:
    fleet = Fleet(AGENT_ALONE).agent(answer(5, code))
    assert fleet.sets() == sets
    assert fleet.answers.agent.has_answered(0, 5) is bool(sets)


def test_of_version_0_there_is_no_answer() -> None:
    fleet = Fleet(Expected()).agent(answer(5))
    assert not fleet.answers.agent.has_answered(0, 0)
    assert fleet.answers.agent.has_answered(0, 1)
    assert fleet.sets() == set()
    assert Fleet(Expected(agent=1)).agent(answer(1)).sets() == SUCCEEDED


def test_a_number_is_kept_as_it_is_reported_or_as_one_that_no_agent_means() -> None:
    answers = Fleet(AGENT_ALONE, devices=4).answers
    for ordinal, number in enumerate([1, 0, OTHER - 1, 1.5]):
        answers.agent.apply(ordinal, answer(number, number))
    assert answers.agent.versions.take(np.arange(4)).tolist() == [1, OTHER, OTHER - 1, OTHER]
    assert answers.agent.codes.take(np.arange(4)).tolist() == [1, OTHER, OTHER - 1, OTHER]


def test_an_answer_comes_in_pieces_and_what_a_patch_leaves_out_stays() -> None:
    fleet = Fleet(AGENT_ALONE)
    assert fleet.agent({"lastDesiredVersion": 5}).sets() == set()
    assert fleet.agent({"lastDesiredStatus": {"description": "well"}}).sets() == set()
    assert fleet.agent({"lastDesiredStatus": {"code": 200}}).sets() == SUCCEEDED
    assert fleet.agent({"lastDesiredStatus": {"description": "well"}}).sets() == SUCCEEDED
    assert fleet.agent({"version": {"build": "1"}}).sets() == SUCCEEDED
    assert fleet.agent({"lastDesiredStatus": None}).sets() == set()
    assert fleet.agent({"lastDesiredStatus": {"code": 200}}, {"lastDesiredVersion": None}).sets() == set()


# -- the hub


@pytest.mark.parametrize(
    ("hub", "sets"),
    [
        (answer(3), SUCCEEDED),
        (answer(4), SUCCEEDED),
        (answer(2), {"succeeded"}),
        (answer(3, 406), {"acknowledged", "succeeded"}),
        (answer(3, 400), {"acknowledged", "succeeded", "refused", "unhealthy"}),
        (answer(2, 400), {"succeeded"}),
        ({}, {"succeeded"}),
    ],
)
def test_both_system_modules_have_to_answer_where_both_are_given_something(hub: dict[str, Any], sets: set[str]) -> None:
    assert Fleet(BOTH).agent(answer(5)).hub(hub).sets() == sets


def test_a_hub_that_answers_alone_is_not_enough_and_can_refuse_alone() -> None:
    assert Fleet(BOTH).hub(answer(3)).sets() == set()
    assert Fleet(BOTH).hub(answer(3, 400)).sets() == {"refused", "unhealthy"}


def test_a_hub_that_is_given_nothing_is_not_asked() -> None:
    assert Fleet(AGENT_ALONE).agent(answer(5)).hub(answer(9, 400)).sets() == SUCCEEDED


# -- what the agent runs


@pytest.mark.parametrize(
    ("modules", "sets"),
    [
        (running(cam="running"), SUCCEEDED),
        (running(cam="running", other="failed"), SUCCEEDED),
        (running(cam="failed"), {"acknowledged", "succeeded", "unhealthy"}),
        (running(other="running"), {"acknowledged", "succeeded", "unhealthy"}),
        ({"systemModules": {}}, {"acknowledged", "succeeded", "unhealthy"}),
        ({}, {"acknowledged", "succeeded"}),
    ],
)
def test_modules_are_as_desired_or_not_or_were_not_reported_since(modules: dict[str, Any], sets: set[str]) -> None:
    assert Fleet(RUNNING).agent({**answer(5), **modules}).sets() == sets


def test_modules_that_were_reported_before_the_answer_do_not_count() -> None:
    fleet = Fleet(RUNNING).agent(running(cam="running"), answer(5))
    assert fleet.sets() == {"acknowledged", "succeeded"}
    assert fleet.agent(running(cam="running")).sets() == SUCCEEDED


def test_modules_of_a_former_runtime_do_not_count_and_of_the_same_one_they_do() -> None:
    again = Expected(agent=6, runtime=1, statuses=RUNNING.statuses)
    fleet = Fleet(RUNNING, Expected(agent=6, runtime=2, statuses=RUNNING.statuses), again)
    fleet.agent({**answer(5), **running(cam="running")})
    fleet.assign(0, 2)
    assert fleet.agent(answer(6)).sets() == SUCCEEDED
    fleet.assign(0, 1)
    assert fleet.sets() == {"acknowledged", "succeeded"}
    assert fleet.agent(running(cam="running")).sets() == SUCCEEDED


@pytest.mark.parametrize("code", [406, 500])
def test_without_success_it_does_not_matter_how_modules_are(code: int) -> None:
    for modules in (running(cam="running"), running(cam="failed")):
        sets = Fleet(RUNNING).agent({**answer(5, code), **modules}).sets()
        assert ("healthy" in sets, "unhealthy" in sets) == (False, code == 500)


def test_an_assignment_without_a_runtime_needs_no_report_of_modules() -> None:
    assert Fleet(AGENT_ALONE).agent(running(cam="failed"), answer(5)).sets() == SUCCEEDED


# -- runtime statuses


@pytest.mark.parametrize(
    ("patch", "left"),
    [
        ({"modules": {"cam": {"runtimeStatus": "failed"}}}, {"cam": "failed", "$edgeAgent": "a", "$edgeHub": "h"}),
        ({"modules": {"cam": {"restartCount": 1}}}, {"cam": "running", "$edgeAgent": "a", "$edgeHub": "h"}),
        ({"modules": {"cam": {"runtimeStatus": 7}}}, {"$edgeAgent": "a", "$edgeHub": "h"}),
        ({"modules": {"cam": None}}, {"$edgeAgent": "a", "$edgeHub": "h"}),
        (
            {"modules": {"x": None, "y": {"runtimeStatus": None}}},
            {"cam": "running", "$edgeAgent": "a", "$edgeHub": "h"},
        ),
        ({"modules": None}, {"$edgeAgent": "a", "$edgeHub": "h"}),
        ({"systemModules": None}, {"cam": "running"}),
        ({"systemModules": {"edgeHub": None}}, {"cam": "running", "$edgeAgent": "a"}),
        (
            {"systemModules": {"edgeAgent": {"runtimeStatus": "b"}}},
            {"cam": "running", "$edgeAgent": "b", "$edgeHub": "h"},
        ),
        ({"systemModules": {"other": {"runtimeStatus": "b"}}}, {"cam": "running", "$edgeAgent": "a", "$edgeHub": "h"}),
        ({"other": {}}, {"cam": "running", "$edgeAgent": "a", "$edgeHub": "h"}),
    ],
)
def test_statuses_are_patched_as_reported_properties_are(patch: dict[str, Any], left: dict[str, str]) -> None:
    system = {"edgeAgent": {"runtimeStatus": "a"}, "edgeHub": {"runtimeStatus": "h"}}
    fleet = Fleet(RUNNING).agent({**running(cam="running"), "systemModules": system}, patch)
    assert fleet.reported() == left


def test_what_is_desired_is_as_desired_and_others_do_not_matter() -> None:
    assert as_desired((), (("a", "failed"),))
    assert as_desired((("a", "running"),), (("a", "running"), ("b", "failed")))
    assert not as_desired((("a", "running"), ("b", "running")), (("a", "running"), ("b", "failed")))
    assert not as_desired((("a", "running"),), ())


# -- deliveries


def test_a_section_is_lacking_until_its_version_or_a_later_one_is_delivered() -> None:
    expected = {"cam": 3, "new": 1}
    assert lacking(expected, ()) == {"cam"}
    assert lacking(expected, (("cam", 2),)) == {"cam"}
    assert lacking(expected, (("cam", 3),)) == set()
    assert lacking(expected, (("cam", 4),)) == set()


def test_a_device_has_acknowledged_when_it_has_the_sections_of_what_its_agent_runs() -> None:
    expected = Expected(agent=5, delivered={"cam": 3, "$device": 2}, of_edge=frozenset({"cam"}))
    fleet = Fleet(expected).agent(answer(5))
    assert (fleet.sets(), fleet.undelivered()) == ({"succeeded"}, {"cam", "$device"})
    assert (fleet.delivered(cam=2).sets(), fleet.undelivered()) == ({"succeeded"}, {"cam", "$device"})
    assert (fleet.delivered(cam=3).sets(), fleet.undelivered()) == (SUCCEEDED, {"$device"})
    fleet.delivered(cam=1)
    assert (fleet.sets(), fleet.undelivered()) == (SUCCEEDED, {"$device"}), "what a device had, it has had"
    fleet.answers.apply_delivered(0, {"$device": 2})
    assert (fleet.sets(), fleet.undelivered()) == (SUCCEEDED, set())
    assert fleet.answers.undelivered == {}


def test_the_changes_of_what_is_undelivered_are_told_alone() -> None:
    fleet = Fleet(Expected(delivered={"cam": 3}), Expected(), devices=2)
    fleet.assign(0, 0)
    assert (fleet.undelivered(), fleet.answers.changed_undelivered) == ({"cam"}, {"cam"})
    fleet.answers.changed_undelivered.clear()
    fleet.delivered(cam=2)
    assert (fleet.undelivered(), fleet.answers.changed_undelivered) == ({"cam"}, set())
    fleet.assign(1, 1)
    assert (fleet.undelivered(1), fleet.undelivered(0), fleet.answers.changed_undelivered) == (set(), {"cam"}, set())
    fleet.assign(0, 1)
    assert (fleet.undelivered(), fleet.answers.changed_undelivered) == (set(), {"cam"})


# -- many devices


def test_devices_of_one_assignment_are_judged_each_by_its_own_answer() -> None:
    fleet = Fleet(RUNNING, AGENT_ALONE, devices=4)
    fleet.agent({**answer(5), **running(cam="running")}, of=0)
    fleet.agent({**answer(5), **running(cam="failed")}, of=1)
    fleet.agent(answer(4), of=2)
    fleet.assign(3, 1)
    fleet.agent(answer(5), of=3)
    assert [fleet.sets(ordinal) for ordinal in range(4)] == [
        SUCCEEDED,
        {"acknowledged", "succeeded", "unhealthy"},
        set(),
        SUCCEEDED,
    ]
    fleet.agent(answer(5, 500), of=0)
    assert [fleet.sets(ordinal) for ordinal in (0, 3)] == [REFUSED, SUCCEEDED]


def test_only_what_changed_is_judged_again() -> None:
    fleet = Fleet(AGENT_ALONE).agent(answer(5))
    assert fleet.sets() == SUCCEEDED
    assert not fleet.answers.stale

    def never(assignment: int) -> Expected:
        raise AssertionError(assignment)

    fleet.answers.judge(Packed(), never)


def test_a_device_that_is_gone_leaves_nothing() -> None:
    fleet = Fleet(BOTH, Expected()).agent({**answer(5), **running(cam="running")}).hub(answer(3)).delivered(cam=3)
    assert fleet.sets() == SUCCEEDED
    fleet.answers.forget(0)
    fleet.assign(0, 1)
    assert (fleet.sets(), fleet.reported()) == (set(), {})
    answers = fleet.answers
    systems = [packed for system in (answers.agent, answers.hub) for packed in (system.versions, system.codes)]
    assert not any(packed[0] for packed in (*systems, answers.signature_of, answers.runtime_of, answers.delivered_of))


# -- what many share


def test_equal_combinations_share_a_number_until_the_last_leaves_it() -> None:
    shared = Combinations[int]()
    first = shared.swap(0, {"b": 2, "a": 1})
    assert (first, shared.swap(0, {"a": 1, "b": 2}), shared.by_number[first]) == (1, 1, (("a", 1), ("b", 2)))
    assert shared.swap(1, {"a": 1, "b": 2}) == 1, "it stays where it is"
    assert shared.changed == {1}
    shared.changed.clear()
    second = shared.swap(1, {"a": 2})
    assert (second, shared.by_number[1], shared.changed) == (2, (("a", 1), ("b", 2)), {2})
    shared.changed.clear()
    assert shared.swap(1, {}) == 0
    assert (set(shared.by_number), shared.changed) == ({0, 2}, {1})
    assert shared.swap(0, {"a": 1, "b": 2}) == 3, "a number is not used again"


def test_the_empty_combination_is_there_for_good() -> None:
    shared = Combinations[int]()
    shared.restore(0, (), 1)
    shared.swap(0, {"a": 1})
    assert (shared.by_number[0], shared.changed) == ((), {1})
    assert shared.swap(1, {}) == 0


def test_a_combination_that_is_put_back_has_the_uses_that_it_had() -> None:
    shared = Combinations[int]()
    shared.restore(4, (("a", 1),), 2)
    assert shared.swap(0, {"a": 1}) == 4
    for _ in range(2):
        shared.swap(4, {})
        assert 4 in shared.by_number
    shared.swap(4, {})
    assert 4 not in shared.by_number


def test_of_many_devices_it_is_told_at_once_who_has_answered() -> None:
    truths, codes = (
        Fleet(AGENT_ALONE)
        .agent(answer(5))
        .answers.agent.answered(np.array([0, 1], dtype=np.uint32), np.array([5, 5], dtype=np.uint32))
    )
    assert (truths.tolist(), codes.tolist()) == ([True, False], [200, 0])
