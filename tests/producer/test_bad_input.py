"""Whatever is wrong gets a typed error, and nothing of it reaches the log."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from events import (
    ChangeAdmission,
    CreateDeployment,
    CreateModule,
    DeleteDeployment,
    DeleteModule,
    PatchTags,
    PatchTwin,
    RegisterDevice,
    ReplaceTwin,
    ReportProperties,
    RetireDevice,
    UpdateDeployment,
    UpdateDevice,
)
from events.deployment.facts import Admitted
from events.log.memory import MemoryLog
from events.producer.deciding import REFUSALS
from tests.manifest.contents import content
from tests.manifest.values import anything
from tests.producer.logs import producer

text = st.text(max_size=5) | st.sampled_from(["\ud800", "x" * 200])
ids = st.sampled_from(["a", "edge 1", "a/b", "", "x" * 129, "\ud800", "A", "one"]) | st.text(max_size=12)
objects = st.dictionaries(st.text(max_size=5), anything, max_size=3)
maybe = st.none() | objects
strings = st.dictionaries(text, text, max_size=3)
conditions = st.text(max_size=30) | st.sampled_from(["*", "", "tags.a = 1", 'tags.a = "x"', "(" * 300, "\ud800"])
commands: st.SearchStrategy[Any] = st.one_of(
    st.builds(RegisterDevice, ids, status_reason=st.none() | text),
    st.builds(UpdateDevice, ids, status_reason=st.none() | text),
    st.builds(RetireDevice, ids),
    st.builds(CreateModule, ids, ids, managed_by=st.none() | text),
    st.builds(DeleteModule, ids, ids),
    st.builds(PatchTags, ids, objects),
    st.builds(PatchTwin, ids, module_id=st.none() | ids, tags=maybe, desired=maybe, if_match=st.none() | st.text()),
    st.builds(ReplaceTwin, ids, module_id=st.none() | ids, tags=objects, desired=objects),
    st.builds(ReportProperties, ids, objects, module_id=st.none() | ids),
    st.builds(
        CreateDeployment,
        ids,
        objects | st.just(content()),
        conditions,
        st.integers() | st.just(10**6000),
        labels=strings,
        metrics=strings,
        schema_version=st.text(max_size=5) | st.just("1.0"),
    ),
    st.builds(
        UpdateDeployment, ids, conditions, st.none() | st.integers(), st.none() | strings, st.none() | strings, ids
    ),
    st.builds(ChangeAdmission, ids, st.builds(Admitted, st.lists(ids, max_size=3).map(tuple))),
    st.builds(DeleteDeployment, ids, st.none() | st.text(max_size=8)),
)


@settings(derandomize=True, deadline=None, max_examples=400)
@given(st.lists(commands, min_size=1, max_size=4))
def test_any_command_becomes_a_fact_or_a_typed_refusal_that_leaves_no_trace(some: list[Any]) -> None:
    log = MemoryLog(partitions=2)
    one = producer(log)
    one.submit([RegisterDevice("a"), CreateDeployment("one", content(), "*")])
    before = sum(log.heads().values())
    report = one.submit(some)
    assert sum(log.heads().values()) == before + report.written
    assert report.written + len(report.refused) == len(some)
    for refused in report.refused:
        assert isinstance(refused.error, REFUSALS)
        assert str(refused.error)
    for stream in log.heads():
        assert len(log.read(stream, after=0, limit=100)) == log.head(stream)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(value=anything)
def test_values_of_wrong_types_are_refused_as_well(value: Any) -> None:
    log = MemoryLog(partitions=1)
    one = producer(log)
    one.submit([RegisterDevice("a"), CreateDeployment("one", content(), "*")])
    wrong = [
        RegisterDevice(value),
        RegisterDevice("b", edge=value),
        RegisterDevice("c", status_reason=value),
        PatchTags("a", value),
        ReportProperties("a", value),
        PatchTwin("a", module_id=value, desired={}),
        CreateDeployment("two", value, "*"),
        CreateDeployment("three", content(), value),
        CreateDeployment("four", content(), "*", value),
        CreateDeployment("five", content(), "*", labels=value),
        CreateDeployment("six", content(), "*", metrics=value),
        CreateDeployment(value, content(), "*"),
        UpdateDeployment("one", priority=value),
        UpdateDeployment("one", labels=value),
        DeleteDeployment(value),
    ]
    for command in wrong:
        before = sum(log.heads().values())
        report = one.submit([command])
        assert sum(log.heads().values()) == before + report.written
        assert all(isinstance(refused.error, REFUSALS) for refused in report.refused)
    for stream in log.heads():
        assert len(log.read(stream, after=0, limit=100)) == log.head(stream)
