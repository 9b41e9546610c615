"""What is looked ahead at is what happens: random histories, applied by a projector once the events stand."""

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from events.deployment.events import (
    AdmissionChanged,
    Admitted,
    DeploymentCreated,
    DeploymentDeleted,
    DeploymentEvent,
    DeploymentUpdated,
    NotStarted,
)
from events.device.events import DeviceRegistered, PropertiesReported, TwinPatched
from events.envelope import Envelope
from events.fleet.assignments import AssignmentChange
from events.fleet.partition import Partition
from events.log.keys import FLEET
from events.log.memory import MemoryLog
from events.log.port import Proposed
from events.preview.imagined_log import imagined_events
from events.preview.implied import Implied
from events.preview.previewer import Previewer
from events.projection_store.memory import MemoryProjectionStore
from events.rollout.events import RolloutCreated
from events.rollout.plan import Phase, RolloutPlan
from events.stored_projection.partition_codec import restore
from tests.fleet.histories import AUTHOR, DEVICES, History, histories
from tests.replayed import replay
from tests.shortening import examples
from workers.projector import Projector

_NUMBER = 0


class Stand:
    """A log of one partition with a history in it, and the projections."""

    def __init__(self) -> None:
        self.log, self.projections = MemoryLog(partitions=1), MemoryProjectionStore()
        self.projector = Projector(self.log, self.projections, clock=lambda: 0)
        self.applied: dict[int, list[Envelope[Any]]] = {FLEET: [], _NUMBER: []}
        self.previewer = Previewer(self.log, self.projections, clock=lambda: 0, pause=lambda _: None)

    def proposals(self, stream: int, events: list[Envelope[Any]]) -> list[Proposed]:
        """Events with the documents that follow from them and all before; the last one brings them."""
        if not events:
            return []
        before, after = replay(self.applied[stream]), replay([*self.applied[stream], *events])
        documents = {subject: after.get(subject) for subject in before.keys() | after.keys()}
        *earlier, last = [Proposed(envelope.subject, envelope.version - 1, envelope.event) for envelope in events]
        return [*earlier, Proposed(last.subject, last.expected_version, last.event, tuple(documents.items()))]

    def append(self, stream: int, events: list[Envelope[Any]]) -> None:
        proposals = self.proposals(stream, events)
        for location, proposed in enumerate(proposals):
            self.log.append([proposed], command_id=f"{stream}:{len(self.applied[stream])}:{location}", by=AUTHOR, at=0)
        self.applied[stream] += events

    def drain(self) -> None:
        while not self.projector.drain(_NUMBER, go_on=lambda: True):
            pass

    def state(self) -> Partition:
        """What is kept, as a partition of its own."""
        stored_partition = self.projections.load(_NUMBER)
        events = self.log.read(FLEET, after=0, limit=stored_partition.checkpoint.vector.fleet)
        return restore(_NUMBER, stored_partition, events)


@st.composite
def turns(draw: st.DrawFn) -> tuple[History, tuple[int, int], tuple[int, int]]:
    """A history, how much of each stream stands, and how many events of each come at once then."""
    history = draw(histories(own_of_ten=2, modules_of_ten=2, by_hand=True))
    some, fleet = draw(st.integers(0, len(history.partition))), draw(st.integers(0, len(history.fleet)))
    return history, (some, fleet), _at_once(draw)


def _at_once(draw: st.DrawFn) -> tuple[int, int]:
    kind = draw(st.integers(0, 3))
    return draw(st.integers(1, 3)) if kind != 0 else 0, draw(st.integers(1, 3)) if kind in (0, 3) else 0


_MODULES = ("a", "b")
_ALL_OF = ("tags.env = 'prod'", "tags.n = 1", "properties.reported.env = 'prod'")
_ALL_OF_MODULE = ("tags.s = 'x'", "properties.reported.s = 'x'")
_few = st.fixed_dictionaries({}, optional={"env": st.sampled_from(["prod", "prod", "test"]), "n": st.integers(0, 1)})
_of_device = st.one_of(st.builds(TwinPatched, tags=_few), st.builds(PropertiesReported, _few))
_of_module = st.sampled_from(["x", "x", "y"]).flatmap(
    lambda said: st.sampled_from([TwinPatched(tags={"s": said}), PropertiesReported({"s": said})])
)


def _all_of(some: tuple[str, ...]) -> st.SearchStrategy[str]:
    """What holds by several things, of which mostly one changes at a time."""
    return st.lists(st.sampled_from(some), min_size=len(some) - 1, max_size=len(some), unique=True).map(" AND ".join)


_where = st.builds(
    "FROM devices.modules WHERE {} AND {}".format,
    st.sampled_from(["moduleId = 'a'", "moduleId = 'b'", "moduleId != 'c'"]),
    _all_of(_ALL_OF_MODULE),
)
_giving = st.sampled_from(_MODULES).map(
    lambda module: {"modulesContent": {"$edgeAgent": {f"properties.desired.modules.{module}": {"status": "running"}}}}
)
_BASE: dict[str, Any] = {
    "modulesContent": {
        "$edgeAgent": {"properties.desired": {"systemModules": {"edgeAgent": {}, "edgeHub": {}}, "modules": {}}},
        "$edgeHub": {"properties.desired": {}},
    }
}
_setting = st.integers(0, 2).map(lambda value: {"moduleContent": {"properties.desired.x": value}})


@st.composite
def tight_turns(draw: st.DrawFn) -> tuple[History, tuple[int, int], tuple[int, int]]:
    """One where what comes decides together with what stands: the tag beside the changed one, what a module said before it came."""
    history = History()
    for device in DEVICES[:4]:
        history.device(device, DeviceRegistered())
        history.device(device, TwinPatched(tags={"env": "prod", "n": draw(st.integers(0, 1))}))
        history.device(device, PropertiesReported({"env": draw(st.sampled_from(["prod", "prod", "test"]))}))
        for module in _MODULES:
            history.device(f"{device}/{module}", TwinPatched(tags={"s": draw(st.sampled_from(["x", "x", "y"]))}))
            history.device(f"{device}/{module}", PropertiesReported({"s": "x"}))
    some = len(history.partition)
    for _ in range(3):
        device, module = draw(st.sampled_from(DEVICES[:4])), draw(st.sampled_from(_MODULES))
        to_module = draw(st.integers(0, 2)) == 0
        history.device(f"{device}/{module}" if to_module else device, draw(_of_module if to_module else _of_device))
    conditions = _all_of(_ALL_OF)
    history.deployment("base", DeploymentCreated(_BASE, "*", priority=1))
    history.deployment("own", DeploymentCreated(draw(_setting), draw(_where), priority=1))
    history.deployment("own2", DeploymentCreated(draw(_setting), draw(_where), priority=draw(st.integers(0, 2))))
    for name in ("p", "q"):
        history.deployment(name, DeploymentCreated(draw(_giving), draw(conditions), priority=draw(st.integers(1, 3))))
    fleet = len(history.fleet)
    for name in draw(st.permutations(["p", "q", "r"])):
        if name == "r":
            event: DeploymentEvent = DeploymentCreated(
                draw(_giving), draw(st.one_of(st.just("*"), conditions)), priority=2
            )
        elif draw(st.integers(0, 3)) == 0:
            event = DeploymentDeleted()
        else:
            event = DeploymentUpdated(draw(conditions), draw(st.integers(1, 3)), {}, {})
        history.deployment(name, event)
    return history, (some, fleet), _at_once(draw)


@given(st.one_of(turns(), tight_turns()))
@settings(max_examples=examples(100), deadline=None)
def test_what_is_implied_is_what_a_projector_makes_of_the_same_events(
    turn: tuple[History, tuple[int, int], tuple[int, int]],
) -> None:
    history, (some, fleet), (more, fleet_more) = turn
    stand = Stand()
    stand.append(_NUMBER, history.partition[:some])
    stand.append(FLEET, history.fleet[:fleet])
    stand.drain()
    coming = {_NUMBER: history.partition[some : some + more], FLEET: history.fleet[fleet : fleet + fleet_more]}
    proposals = [proposal for stream, events in coming.items() for proposal in stand.proposals(stream, events)]
    before, last_assignment_change = stand.state(), stand.projections.checkpoint(_NUMBER).assignment_changes
    implied = stand.previewer.implied(imagined_events(stand.log, proposals, by=AUTHOR, at=0, new_secrets=()))
    for stream, events in coming.items():
        stand.append(stream, events)
    stand.drain()
    happened = [
        (move.before, move.after, move.ordinals())
        for entry in stand.projections.assignment_changes(_NUMBER, after=last_assignment_change, limit=10)
        for move in msgspec.json.decode(entry.data, type=AssignmentChange).moves
    ]
    foretold = [(shift.before, shift.after, shift.members) for one in implied for shift in one.shifts]
    assert sorted(foretold, key=lambda move: move[2].min()) == happened
    if implied:
        _assert_targets(implied[0], before, stand.state())


def _assert_targets(implied: Implied, before: Partition, after: Partition) -> None:
    """Whom each deployment came to target, and whom it left, module by module where it is for modules."""
    differing = {
        name: [(old, new) for old, new in _by_module(before, after, name) if old != new]
        for name in before.deployments.by_id.keys() | after.deployments.by_id.keys()
    }
    foretold = {name: _counted(pairs) for name, pairs in implied.targets.items()}
    assert foretold == {name: _counted(pairs) for name, pairs in differing.items() if pairs}


def _by_module(before: Partition, after: Partition, name: str) -> list[tuple[BitMap, BitMap]]:
    had, has = (state.targets.of_modules.get(name, {}) for state in (before, after))
    pairs = [(had.get(module, BitMap()), has.get(module, BitMap())) for module in sorted(had.keys() | has.keys())]
    return [*pairs, (before.targets.members.get(name, BitMap()), after.targets.members.get(name, BitMap()))]


def _counted(pairs: list[tuple[BitMap, BitMap]]) -> Counter[tuple[tuple[int, ...], tuple[int, ...]]]:
    return Counter((tuple(new - old), tuple(old - new)) for old, new in pairs)


@pytest.mark.parametrize(
    ("metrics", "phase"),
    [
        ({"m": "SELECT deviceId FROM devices WHERE properties.reported.x = 1"}, Phase(count=1)),
        ({}, Phase(condition="properties.reported.x = 1")),
    ],
)
def test_a_deployment_whose_metrics_or_phases_name_a_property_that_is_not_indexed_is_previewed(
    metrics: dict[str, str], phase: Phase
) -> None:
    history, stand = History(), Stand()
    for device in ("d0", "d1"):
        history.device(device, DeviceRegistered())
    history.device("d1", PropertiesReported({"x": 1}))
    stand.append(_NUMBER, history.partition)
    stand.drain()
    content = {"deviceContent": {"properties.desired.x": 1}}
    created = DeploymentCreated(content, "*", priority=1, admission=NotStarted(), metrics=metrics)
    history.deployment("own", created)
    history.deployment("rollout:own", RolloutCreated(RolloutPlan((phase,)), str(AUTHOR)))
    (implied,) = stand.previewer.implied(
        imagined_events(stand.log, stand.proposals(FLEET, history.fleet), by=AUTHOR, at=0, new_secrets=())
    )
    assert implied.targets == {"own": [(BitMap(), BitMap([0, 1]))]}


@pytest.mark.parametrize("coming", [DeploymentDeleted(), AdmissionChanged(Admitted(("d1",)))])
def test_devices_that_an_admission_names_are_foretold_to_lose_a_deployment(coming: DeploymentEvent) -> None:
    history, stand = History(), Stand()
    for device in ("d0", "d1"):
        history.device(device, DeviceRegistered())
    content = {"deviceContent": {"properties.desired.x": 1}}
    history.deployment("own", DeploymentCreated(content, "*", priority=1, admission=Admitted(("d0", "d1"))))
    stand.append(_NUMBER, history.partition)
    stand.append(FLEET, history.fleet)
    stand.drain()
    history.deployment("own", coming)
    proposals = stand.proposals(FLEET, history.fleet[1:])
    (implied,) = stand.previewer.implied(imagined_events(stand.log, proposals, by=AUTHOR, at=0, new_secrets=()))
    losing = BitMap([0, 1]) if isinstance(coming, DeploymentDeleted) else BitMap([0])
    assert [shift.members for shift in implied.shifts] == [losing]
