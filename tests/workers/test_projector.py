"""Projectors with and without warm copies, alone or taking turns, write the same bytes."""

from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from events import (
    CreateDeployment,
    DeleteDeployment,
    PatchTags,
    RegisterDevice,
    ReportProperties,
    RetireDevice,
    UpdateDeployment,
)
from events.device.commands import CreateModule, DeleteModule, PatchTwin, ReplaceTwin
from events.log.memory import MemoryLog
from events.projection_store.fleet_projection import FleetProjection
from events.projection_store.memory import MemoryProjectionStore
from events.properties import merge_patch
from tests.producer.logs import producer
from tests.shortening import examples
from tests.workers.system import answer_of, base, layer
from workers.projector import Projector
from workers.restored import rebuild

PARTITIONS = 2
devices = st.sampled_from([f"d{number}" for number in range(8)])
names = st.sampled_from(["one", "two", "three"])
conditions = st.sampled_from(
    [
        *("*", "", "tags.a = 1", "tags.a > 1 OR tags.b = 'x'", "NOT tags.b = 'x'", "deviceId > 'd4'"),
        *("properties.reported.model = 'm'", "is_defined(properties.reported.model) AND tags.a = 1"),
    ]
)
modules = st.sampled_from(["m", "n", "o", "$edgeAgent"])
of_modules = st.sampled_from(["four", "five"])
module_conditions = st.sampled_from(
    [
        *("tags.a = 1", "moduleId != 'm' AND tags.a = 1", "NOT tags.b = 'x'", "is_defined(tags.a) OR deviceId > 'd4'"),
        *("moduleId = 'm' AND tags.a = 1", "properties.reported.model = 'm'", "moduleId IN ['n', 'o']"),
    ]
).map("FROM devices.modules WHERE {}".format)
contents = st.sampled_from([base("m"), base("m", "n"), layer("x", v=1), layer("y", v=2)])
patches = st.fixed_dictionaries({}, optional={"a": st.sampled_from([1, 2, None]), "b": st.sampled_from(["x", None])})
commands: st.SearchStrategy[Any] = st.one_of(
    st.builds(RegisterDevice, devices),
    st.builds(PatchTags, devices, patches),
    st.builds(PatchTags, devices, patches),
    st.builds(ReportProperties, devices, st.sampled_from([{"model": "m"}, {"model": None}, {"model": {"name": 1}}])),
    st.builds(
        ReportProperties, devices, st.builds(answer_of, st.integers(1, 4), m=st.just("running")), st.just("$edgeAgent")
    ),
    st.builds(RetireDevice, devices),
    st.builds(CreateDeployment, names, contents, conditions, st.integers(0, 3)),
    st.builds(UpdateDeployment, names, conditions, st.integers(0, 3)),
    st.builds(DeleteDeployment, names),
    st.builds(CreateModule, devices, st.sampled_from(["n", "o"])),
    st.builds(DeleteModule, devices, st.sampled_from(["n", "o"])),
    *[st.builds(PatchTwin, devices, modules, patches)] * 3,
    st.builds(ReplaceTwin, devices, st.sampled_from(["m", "n"]), patches.map(lambda patch: merge_patch({}, patch))),
    st.builds(ReportProperties, devices, st.sampled_from([{"model": "m"}, {"model": None}]), modules),
    *[
        st.builds(
            CreateDeployment, of_modules, st.just({"moduleContent": {"properties.desired.x": 1}}), module_conditions
        )
    ]
    * 2,
    st.builds(UpdateDeployment, of_modules, module_conditions),
    st.builds(DeleteDeployment, of_modules),
)
turns = st.lists(
    st.tuples(st.lists(commands, min_size=1, max_size=8), st.integers(0, 2), st.lists(st.integers(0, 1), max_size=2)),
    min_size=2,
    max_size=8,
)


@settings(derandomize=True, deadline=None, max_examples=examples(300))
@given(turns)
def test_projectors_in_turn_keep_what_one_that_forgets_everything_keeps(
    some: list[tuple[list[Any], int, list[int]]],
) -> None:
    log, projections, plain = MemoryLog(partitions=PARTITIONS), MemoryProjectionStore(), MemoryProjectionStore()
    one = producer(log)
    one.submit(RegisterDevice(f"d{number}") for number in range(8))
    in_turn = [Projector(log, projections, clock=lambda: 0), Projector(log, projections, clock=lambda: 0)]
    in_turn.append(Projector(log, projections, clock=lambda: 0, over_budget=lambda: True))
    for written, who, which in some:
        one.submit(written)
        for number in which:
            assert in_turn[who].drain(number, go_on=lambda: True)
            assert Projector(log, plain, clock=lambda: 0).drain(number, go_on=lambda: True)
    elsewhere = MemoryProjectionStore()
    for number in range(PARTITIONS):
        in_turn[number].drain(number, go_on=lambda: True)
        Projector(log, plain, clock=lambda: 0).drain(number, go_on=lambda: True)
        assert projections.load(number) == plain.load(number)
        assert list(projections.assignment_changes(number, after=0, limit=1000)) == list(
            plain.assignment_changes(number, after=0, limit=1000)
        )
        rebuild(number, log=log, recorded=projections, into=elsewhere)
        assert elsewhere.load(number) == projections.load(number)


def test_a_warm_copy_that_missed_a_new_path_does_not_go_on_with_an_empty_index() -> None:
    log, projections, plain = MemoryLog(partitions=1), MemoryProjectionStore(), MemoryProjectionStore()
    one = producer(log)
    behind, ahead = Projector(log, projections, clock=lambda: 0), Projector(log, projections, clock=lambda: 0)
    joined = [command for name in "abc" for command in (RegisterDevice(name), ReportProperties(name, {"x": 1}))]
    steps: list[tuple[Projector, list[Any]]] = [
        (behind, [*joined, CreateDeployment("all", base("m"), "*", 5)]),
        # It wins nobody yet, so that nothing but the index tells the two apart.
        (ahead, [CreateDeployment("new", base("n"), "properties.reported.x = 1", 1)]),
        (behind, [UpdateDeployment("new", priority=9)]),
    ]
    for projector, written in steps:
        one.submit(written).raise_if_refused()
        assert projector.drain(0, go_on=lambda: True)
        assert Projector(log, plain, clock=lambda: 0).drain(0, go_on=lambda: True)
        assert projections.load(0) == plain.load(0)


def test_documents_of_modules_that_run_ahead_of_what_is_applied_are_brought_in_all_the_same() -> None:
    meanwhile: list[Any] = []

    class Busy(MemoryLog):
        """Somebody writes while it is asked what there is."""

        def subjects(self, stream: int) -> Iterable[str]:
            producer(self).submit(meanwhile).raise_if_refused()
            meanwhile.clear()
            return super().subjects(stream)

    log, projections, elsewhere = Busy(partitions=1), MemoryProjectionStore(), MemoryProjectionStore()
    of_tagged = {"moduleContent": {"properties.desired.x": 1}}, "FROM devices.modules WHERE tags.a = 1"
    producer(log).submit(
        [
            *(RegisterDevice("d"), *(CreateModule("d", name) for name in ("m", "n", "o", "stays"))),
            *(PatchTwin("d", name, {"a": 1}) for name in ("m", "n", "stays")),
            CreateDeployment("tagged", *of_tagged),
        ]
    ).raise_if_refused()
    meanwhile += [PatchTwin("d", "m", {"a": 2}), PatchTwin("d", "n", {"a": None}), PatchTwin("d", "o", {"a": 1})]
    assert Projector(log, projections, clock=lambda: 0).drain(0, go_on=lambda: True)
    assert not meanwhile
    assert FleetProjection(projections, partitions=1).twins("tagged")["tagged"] == {"target": 2, "actual": 2}
    rebuild(0, log=log, recorded=projections, into=elsewhere)
    assert elsewhere.load(0) == projections.load(0)
