"""What single commands would do, and what they then do: each looked ahead at, done, applied and compared."""

from typing import Any

import msgspec
import pytest

from events import (
    CreateDeployment,
    CreateModule,
    DeleteDeployment,
    PatchTags,
    RegisterDevice,
    ReportProperties,
    RetireDevice,
    UpdateDeployment,
    UpdateDevice,
    canonical,
)
from events.device.commands import SetConfiguration
from events.envelope import Principal
from events.fleet.assignments import AssignmentChange
from events.log.memory import MemoryLog
from events.preview.difference import DifferenceKind, differences
from events.preview.errors import PreviewBehind, PreviewDiffers, PreviewTokenInvalid
from events.preview.preview_result import sections_of
from events.preview.preview_token import PreviewToken
from events.preview.previewer import Previewer, Trial
from events.projection_store.memory import MemoryProjectionStore
from tests.producer.logs import producer
from tests.workers.system import base, layer
from workers.projector import Projector

BY = Principal.parse("user:ada")
PARTITIONS = 2


class Stand:
    """A small fleet in memory, and somebody who looks ahead."""

    def __init__(self, *commands: Any, log: MemoryLog | None = None) -> None:
        self.log, self.projections = log or MemoryLog(partitions=PARTITIONS), MemoryProjectionStore()
        self.producer = producer(self.log)
        self.projector = Projector(self.log, self.projections, clock=lambda: 0)
        self.previewer = Previewer(self.log, self.projections, clock=lambda: 0, pause=lambda _: None)
        self.do(*commands)

    def do(self, *commands: Any) -> None:
        self.producer.submit(commands).raise_if_refused()
        for number in range(PARTITIONS):
            assert self.projector.drain(number, go_on=lambda: True)

    def foretold(self, *commands: Any) -> Any:
        trial = Trial(self.previewer, by=BY)
        decided = trial.decided(trial.producer.submit(commands).refused)
        assert not decided.refused
        return decided, self.previewer.result(decided)

    def happens(self, *commands: Any) -> Any:
        """Look ahead, do it, and insist that it was so; answers the result."""
        before = [self.projections.checkpoint(number).assignment_changes for number in range(PARTITIONS)]
        decided, result = self.foretold(*commands)
        implied = self.previewer.implied(decided.events)
        self.do(*commands)
        for number in range(PARTITIONS):
            happened = [
                (move.before.stack, move.after.stack, move.after.configuration, move.ordinals())
                for entry in self.projections.assignment_changes(number, after=before[number], limit=10)
                for move in msgspec.json.decode(entry.data, type=AssignmentChange).moves
            ]
            told = [
                (one.before.stack, one.after.stack, one.after.configuration, one.members)
                for some in implied
                if some.number == number
                for one in some.shifts
            ]
            assert sorted(told, key=lambda one: one[3].min()) == happened
        return result


FLEET = [
    *(RegisterDevice(f"d{number}") for number in range(6)),
    *(PatchTags(f"d{number}", {"a": number % 2, "b": number % 3}) for number in range(6)),
    *(ReportProperties(f"d{number}", {"model": "m" if number < 4 else "n"}) for number in range(6)),
    CreateDeployment("ground", base("g"), "*", 1),
    CreateDeployment("both", base("b"), "tags.a = 1 AND tags.b = 2", 5),
    CreateDeployment("named", layer("x", v=1), "deviceId = 'd0' OR deviceId = 'd1'", 7),
]


TURNS: dict[str, list[Any]] = {
    # d1 has a = 1 already; that is in its document alone.
    "a tag": [PatchTags("d1", {"b": 2})],
    "a tag goes": [PatchTags("d5", {"a": None})],
    "a device comes": [RegisterDevice("d9"), PatchTags("d9", {"a": 1, "b": 2})],
    "a device goes": [RetireDevice("d5")],
    "no edge device any more": [UpdateDevice("d5", edge=False)],
    "by hand": [SetConfiguration("d2", base("h"))],
    "a new base": [CreateDeployment("some", base("s"), "tags.a = 0", 9)],
    # Nothing names a reported property yet, so that documents are read.
    "an unindexed property": [CreateDeployment("model", base("s"), "properties.reported.model = 'm'", 9)],
    "an unindexed property and a tag": [
        CreateDeployment("other", base("s"), "NOT properties.reported.model = 'm'", 9),
        PatchTags("d0", {"a": 1}),
    ],
    "by id": [CreateDeployment("late", base("s"), "deviceId > 'd3'", 9)],
    "another condition": [UpdateDeployment("both", "tags.a >= 0 AND NOT tags.b = 2", 9)],
    "another priority": [UpdateDeployment("both", "*", 0)],
    "a deletion": [DeleteDeployment("both")],
    "the base of all goes": [DeleteDeployment("ground")],
    "twins of modules": [
        CreateDeployment(
            "twins", {"moduleContent": {"properties.desired.v": 1}}, "FROM devices.modules WHERE moduleId = 'x'", 1
        ),
        CreateModule("d4", "x"),
    ],
    "own twins": [CreateDeployment("own", {"deviceContent": {"properties.desired.v": 1}}, "tags.a = 1", 1)],
}


@pytest.mark.parametrize("turn", TURNS)
def test_it_is_as_foretold(turn: str) -> None:
    Stand(*FLEET).happens(*TURNS[turn])


def test_modules_are_asked_anew_as_edge_deployments_bring_them() -> None:
    twins = CreateDeployment(
        "twins", {"moduleContent": {"properties.desired.v": 1}}, "FROM devices.modules WHERE moduleId = 's'", 1
    )
    result = Stand(*FLEET, twins).happens(CreateDeployment("some", base("s"), "tags.a = 0", 9))
    assert result.count("deployments/twins/gained") == 3


def test_who_is_left_without_a_deployment_is_told_first() -> None:
    result = Stand(*FLEET).happens(DeleteDeployment("ground"))
    assert result.count("unmanaged") == result.count("deployments/ground/lost") == 5


def test_projections_that_stay_behind_are_told_and_nothing_is_guessed() -> None:
    stand = Stand(*FLEET)
    stand.producer.submit([PatchTags("d1", {"b": 2})]).raise_if_refused()
    with pytest.raises(PreviewBehind, match="behind the log"):
        stand.foretold(DeleteDeployment("both"))


def test_looking_ahead_leaves_the_log_as_it_is() -> None:
    stand = Stand(*FLEET)
    heads, loaded = stand.log.heads(), stand.log.load(["both"], fleet=True)
    stand.foretold(DeleteDeployment("both"), PatchTags("d0", {"a": 7}))
    assert (stand.log.heads(), stand.log.load(["both"], fleet=True)) == (heads, loaded)


def test_what_is_imagined_is_not_taken_for_what_is_done_later() -> None:
    stand = Stand(*FLEET)
    stand.foretold(CreateDeployment("some", base("s"), "tags.a = 0", 9))
    result = stand.happens(CreateDeployment("some", base("t"), "tags.a = 0", 9))
    assert result.changes
    assert all("t" in sections_of(change.after)["$edgeAgent"]["modules"] for change in result.changes)


def test_a_token_is_for_one_command_of_one_person_for_a_while() -> None:
    stand = Stand(*FLEET)
    decided, result = stand.foretold(DeleteDeployment("both"))
    token = PreviewToken.of(result, decided.events, commands="c", author="a", partitions=PARTITIONS, until=10)
    read = msgspec.json.decode(canonical.encode(token), type=PreviewToken)
    read.check(commands="c", author="a", now=10)
    for wrong in ({"commands": "d"}, {"author": "b"}, {"now": 11}):
        with pytest.raises(PreviewTokenInvalid):
            read.check(**{"commands": "c", "author": "a", "now": 10, **wrong})  # type: ignore[arg-type]
    assert read.compare(result, decided.events) == "none"
    stand.do(PatchTags("d1", {"b": 2}))
    decided, result = stand.foretold(DeleteDeployment("both"))
    with pytest.raises(PreviewDiffers, match="deployments/both/lost had 1 device and now has 2"):
        read.compare(result, decided.events)


def test_a_difference_names_removals_first_and_shows_no_secret() -> None:
    before = {"m": {"a": {"$secret": "one"}, "b": 1, "gone": {"x": {"$secret": "two"}}}}
    after = {"m": {"a": {"$secret": "three"}, "b": True, "new": 1}}
    found = differences(before, after)
    assert [(one.path, one.how) for one in found] == [
        ("gone", DifferenceKind.REMOVED),
        ("a", DifferenceKind.CHANGED),
        ("b", DifferenceKind.CHANGED),
        ("new", DifferenceKind.ADDED),
    ]
    assert found[0].before == {"x": "***"}
    assert (found[1].before, found[1].after) == ("***", "***")


@pytest.mark.parametrize(
    ("before", "after"), [([True], [1]), ([0], [False]), ([{"x": [1]}], [{"x": [True]}]), (1, 1.0)]
)
def test_values_that_json_tells_apart_are_a_difference_wherever_they_stand(before: Any, after: Any) -> None:
    (found,) = differences({"m": {"a": before}}, {"m": {"a": after}})
    assert (found.path, found.how, repr(found.before), repr(found.after)) == (
        "a",
        DifferenceKind.CHANGED,
        repr(before),
        repr(after),
    )
    assert not differences({"m": {"a": before}}, {"m": {"a": before}})
