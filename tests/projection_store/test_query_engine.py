"""Queries over projections and documents: what the reference says of each twin is what the pages hold, whatever the index knows."""

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import (
    CreateDeployment,
    DeleteDeployment,
    DeleteModule,
    PatchTags,
    Producer,
    RegisterDevice,
    ReportProperties,
    UpdateDeployment,
    UpdateDevice,
)
from events.access.scope import Scope
from events.canonical import JsonObject
from events.deployment.commands import ChangeAdmission
from events.deployment.events import Admitted, Ended, Everyone, NotStarted
from events.device.commands import CreateModule, PatchTwin, RetireDevice, SetConfiguration
from events.device.hierarchy import own_scope
from events.device.state import DeviceDocument
from events.envelope import Principal
from events.fleet.metric_plan import plan_of
from events.log.fleet_documents import deployments
from events.log.memory import MemoryLog
from events.producer.errors import Command
from events.projection_store.fleet_projection import FleetProjection
from events.projection_store.memory import MemoryProjectionStore
from events.projection_store.query_engine import READING_SECONDS, ContinuationInvalid, QueryEngine
from events.projection_store.twins import TwinProjection
from events.query.aggregate import Aggregating
from events.query.evaluate import holds, projected
from events.query.parse import parse
from events.query.tree import Query, QuerySource, is_aggregate
from tests.shortening import examples, shortened
from tests.workers.system import base, layer
from workers.projector import Projector

PARTITIONS = 2
NAMES = [f"d{number}" for number in range(6)]


class Fleet:
    """A fleet in memory, applied after every call of `do`."""

    def __init__(self) -> None:
        self.log, self.projections = MemoryLog(partitions=PARTITIONS), MemoryProjectionStore()
        self.fleet_projection = FleetProjection(self.projections, partitions=PARTITIONS)
        self.twins = TwinProjection(self.log, self.fleet_projection)
        self.query_engine = QueryEngine(self.log, self.projections)
        self._producer = Producer(self.log, by=Principal.parse("user:ada"), clock=lambda: 1)
        self._projectors = itertools.cycle(Projector(self.log, self.projections, clock=lambda: 1) for _ in range(2))

    def do(self, *commands: Command) -> None:
        """Write what is not refused, and apply it."""
        self.write(*commands)
        self._apply()

    def write(self, *commands: Command) -> None:
        """Write what is not refused, and leave the projections behind."""
        self._producer.submit(commands)

    def do_within(self, scope: Scope, *commands: Command) -> None:
        """As `do`, for somebody scoped; nothing may be refused."""
        scoped = Producer(self.log, by=Principal.parse("user:bo"), scope=scope, clock=lambda: 1)
        scoped.submit(commands).raise_if_refused()
        self._apply()

    def _apply(self) -> None:
        projector = next(self._projectors)
        for number in range(PARTITIONS):
            assert projector.drain(number, go_on=lambda: True)

    def pages(self, query: Query, *, size: int, **how: Any) -> list[JsonObject]:
        """The rows of all pages."""
        rows: list[JsonObject] = []
        continuation = None
        while True:
            page = self.query_engine.page(query, size=size, continuation=continuation, **how)
            assert len(page.rows) <= size or is_aggregate(query)
            rows += page.rows
            continuation = page.continuation
            if continuation is None:
                return rows

    def reference(self, query: Query) -> list[JsonObject]:
        """The rows as the twins alone give them."""
        rows = []
        for name in self.fleet_projection.devices(limit=1000)[0]:
            if query.source is QuerySource.MODULES:
                rows += [(twin, twin) for one in self.twins.module_ids(name) if (twin := self.twins.module(name, one))]
            elif twin := self.twins.device(name):
                rows.append((self._seen(twin), twin))
        kept = [(row, twin) for row, twin in rows if holds(query.where, row) is True]
        if is_aggregate(query):
            result = Aggregating(query)
            for row, _ in kept:
                result.add(row)
            return result.results()
        return [dict(projected(query, row)) if query.select else twin for row, twin in kept][: query.top]

    def _seen(self, twin: JsonObject) -> JsonObject:
        hub = self.twins.module(twin["deviceId"], "$edgeHub")
        if hub is None or not twin["capabilities"]["iotEdge"]:
            return twin
        theirs = hub["properties"]["reported"]
        extra = {name: theirs[name] for name in ("lastDesiredStatus", "lastDesiredVersion") if name in theirs}
        properties = twin["properties"]
        return {**twin, "properties": {**properties, "reported": {**extra, **properties["reported"]}}}


PARENT = own_scope("d0", DeviceDocument(1, 1, registered_at=1))
"""The scope of the first registration of `d0`."""

DEVICE_LEAVES = [
    *(f"array_contains(parentScopes, '{PARENT}')", "array_contains(tags.a, 1)", "is_defined(parentScopes)"),
    *("tags.a = 'x'", "tags.a != 'x'", "tags.a.b = 1", "tags.a.b <= 'x'", "is_defined(tags.a)", "tags.a", "tags.c > 1"),
    *("properties.reported.r = 'x'", "properties.reported.s = 1", "properties.reported.r in ['x', 1, true]"),
    *("deviceId = 'd1'", "deviceId > 'd2'", "deviceId != ''", "deviceId nin ['d0', 'd3']", "status = 'enabled'"),
    *("capabilities.iotEdge = true", "capabilities.iotEdge", "version > 3", "properties.desired.$version = 1"),
    *("properties.reported.lastDesiredStatus.code = 200", "properties.reported.lastDesiredVersion >= 2"),
    *("configurations.one.status = 'Applied'", "moduleId = 'm'", "is_defined(configurations)"),
    *("configurations.[[four]].status = 'Applied'", "configurations.three.status != 'Applied'"),
    *("configurations.six.status = 'Applied'", "is_defined(configurations.six)"),
    *("is_defined(configurations.four)", "is_defined(configurations.four.status)", "configurations.four = 'Applied'"),
    *("properties.desired.x = 1", "properties.desired.a.b > 1", "properties.desired.a.c = 1"),
    *("configurations.four.status = 'Applied' and properties.desired.$version = 2",),
]
MODULE_LEAVES = [
    *(
        "moduleId = '$edgeAgent'",
        "moduleId = 'm'",
        "moduleId in ['m', '$edgeHub']",
        "moduleId != 'n'",
        "deviceId < 'd3'",
    ),
    *("configurations.[[one]].status = 'Applied'", "configurations.two.status = 'Targeted'"),
    *("configurations.one.status != 'Applied'", "is_defined(configurations.three)", "tags.a = 1"),
    "properties.desired.$version = properties.reported.lastDesiredVersion",
    "properties.reported.lastDesiredVersion != properties.desired.$version",
    *("properties.reported.lastDesiredStatus.code = 200", "properties.reported.lastDesiredStatus.code != 200"),
    *("properties.reported.lastDesiredStatus.code < 300", "properties.reported.lastDesiredStatus.code in [200, '200']"),
    "properties.desired.x = 1",
    *("configurations.six.status = 'Applied'", "configurations.[[seven]].status = 'Targeted'"),
    *("is_defined(configurations.six)", "is_defined(configurations.seven.status)", "is_defined(configurations)"),
    *("properties.desired.a.b > 1", "properties.desired.$version = 2", "configurations.six.status != 'Applied'"),
]


def wheres(leaves: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            inner.map("not ({})".format),
            st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda three: "({}) {} ({})".format(*three)),
        ),
        max_leaves=4,
    )


metrics = st.dictionaries(
    st.sampled_from(["first", "second"]),
    st.one_of(
        wheres(st.sampled_from(DEVICE_LEAVES)).map("select deviceId from devices where {}".format),
        wheres(st.sampled_from(MODULE_LEAVES)).map(
            "select deviceId from devices.modules where moduleId = '$edgeAgent' and ({})".format
        ),
        wheres(st.sampled_from(MODULE_LEAVES)).map(
            "select * from devices.modules where moduleId = 'm' and ({})".format
        ),
    ),
    max_size=2,
)
devices = st.sampled_from(NAMES)
values: st.SearchStrategy[Any] = st.sampled_from(["x", "y", 1, 2, 2.5, True, False, None, {"b": 1}, {"b": "x"}, [1]])
answers = st.fixed_dictionaries(
    {"lastDesiredVersion": st.sampled_from([0, 1, 2, 3, 2.0, "2"])},
    optional={
        "lastDesiredStatus": st.fixed_dictionaries({"code": st.sampled_from([200, 200.0, 400, 0, -1, "200", None])})
    },
)
modules = st.sampled_from(["$edgeAgent", "$edgeHub", "m", "n"])
module_conditions = st.sampled_from(
    [
        "FROM devices.modules WHERE moduleId = 'm'",
        "FROM devices.modules WHERE moduleId = 'n'",
        "from devices.modules where moduleId = 'm' and properties.reported.r = 'x'",
        "from devices.modules where not properties.reported.r = 'x' and moduleId = 'n'",
        "from devices.modules where moduleId = 'n' and (deviceId > 'd1' or is_defined(properties.reported.r))",
        "from devices.modules where moduleId = 'm' and tags.a = 1",
        "from devices.modules where tags.a = 1 or properties.reported.r = 'x'",
        "from devices.modules where moduleId != 'm' and (not tags.a = 1 or deviceId > 'd1')",
        "",
    ]
)
commands = st.one_of(
    st.builds(RegisterDevice, devices, edge=st.booleans(), enabled=st.booleans()),
    st.builds(PatchTags, devices, st.dictionaries(st.sampled_from(["a", "c"]), values, max_size=2)),
    st.builds(ReportProperties, devices, st.dictionaries(st.sampled_from(["r", "s"]), values, max_size=2)),
    st.builds(ReportProperties, devices, answers, modules),
    st.builds(UpdateDevice, devices, edge=st.booleans()),
    st.builds(UpdateDevice, devices, parent_scopes=st.sampled_from([(), (PARENT,)])),
    st.builds(RetireDevice, devices),
    st.builds(CreateModule, devices, st.sampled_from(["n", "o"])),
    st.builds(PatchTwin, devices, modules, st.sampled_from([{"a": 1}, {"a": "x"}, {"a": None}]), st.none()),
    st.builds(SetConfiguration, devices, st.sampled_from([base("m"), base("n")])),
    st.builds(
        CreateDeployment,
        st.sampled_from(["one", "two", "three"]),
        st.sampled_from(
            [
                base("m"),
                base("m", "n"),
                layer("m", x=1),
                {"modulesContent": {"$edgeAgent": {}, "m": {"properties.desired.y": 2}}},
            ]
        ),
        target_condition=st.sampled_from(
            ["*", "tags.a = 'x'", "tags.a.b = 1", "properties.reported.r = 'x'", "tags.c != 1"]
        ),
        priority=st.integers(0, 3),
        metrics=metrics,
    ),
    st.builds(
        CreateDeployment,
        st.sampled_from(["three", "four", "five"]),
        st.sampled_from(
            [
                {"deviceContent": {"properties.desired.a": {"b": 2}, "properties.desired.x": 1}},
                {"deviceContent": {"properties.desired": {"x": {"y": 2}}}},
                {"deviceContent": {}},
            ]
        ),
        target_condition=st.sampled_from(["*", "tags.a = 'x'", "properties.reported.r = 'x'"]),
        priority=st.integers(0, 3),
    ),
    st.builds(
        CreateDeployment,
        st.sampled_from(["three", "six", "seven"]),
        st.sampled_from(
            [
                {"moduleContent": {"properties.desired.a": {"b": 2}, "properties.desired.x": 1}},
                {"moduleContent": {"properties.desired": {"x": {"y": 2}}}},
                {"moduleContent": {}},
            ]
        ),
        target_condition=module_conditions,
        priority=st.integers(0, 3),
        admission=st.sampled_from([Everyone()] * 3 + [Admitted(("d1", "d2")), Ended()]),
    ),
    st.builds(UpdateDeployment, st.sampled_from(["six", "seven"]), target_condition=module_conditions),
    st.builds(DeleteDeployment, st.sampled_from(["six", "seven"])),
    st.builds(ReportProperties, devices, st.sampled_from([{"r": "x"}, {"r": 2}, {"r": None}]), modules),
    st.builds(PatchTwin, devices, st.none(), st.none(), st.sampled_from([{"a": {"b": 1, "c": 1}}, {"x": 2}, {"a": 1}])),
    st.builds(DeleteDeployment, st.sampled_from(["one", "four", "five"])),
    st.builds(UpdateDeployment, st.sampled_from(["one", "two"]), metrics=metrics),
    st.builds(DeleteDeployment, st.sampled_from(["one", "two"])),
    st.builds(DeleteModule, devices, st.sampled_from(["n", "o"])),
)
shapes = st.sampled_from(
    [
        *(
            "select * from {}",
            "select deviceId from {}",
            "select tags.a as a, version from {}",
            "select top 3 deviceId from {}",
        ),
        *("select count() as n from {}", "select top 1 * from {}"),
        *("select tags.a, count() as n from {} group by tags.a", "select count() as n, tags.c from {} group by tags.c"),
        "select properties.reported.r, tags.a, count() as n from {} group by properties.reported.r, tags.a",
        "select properties.reported.r as r, count() as n from {} group by properties.reported.r",
    ]
)
queries = st.one_of(
    st.tuples(shapes, st.just("devices"), wheres(st.sampled_from(DEVICE_LEAVES))),
    st.tuples(shapes, st.just("devices.modules"), wheres(st.sampled_from(MODULE_LEAVES))),
).map(lambda three: three[0].format(f"{three[1]} where {three[2]}"))
histories = st.lists(commands, min_size=5, max_size=30)
OK, FAILED = ({"lastDesiredVersion": 2, "lastDesiredStatus": {"code": code}} for code in (200, 400))
OF_M = "FROM devices.modules WHERE moduleId = 'm' and deviceId > 'd1'"
OF_N = "FROM devices.modules WHERE moduleId = 'n'"
OF_ANY = "FROM devices.modules WHERE tags.a = 1 or moduleId = 'z'"
USUAL: list[Command] = [
    *(RegisterDevice(name) for name in NAMES[:4]),
    *(PatchTags(name, {"a": "x" if number else "y", "c": number}) for number, name in enumerate(NAMES[:4])),
    UpdateDevice("d2", parent_scopes=(PARENT,)),
    CreateDeployment("one", base("m"), target_condition="tags.c > 0"),
    CreateDeployment("two", layer("n", x=1), target_condition="tags.c > 1", priority=1),
    CreateDeployment(
        "three", {"modulesContent": {"$edgeAgent": {}, "m": {"properties.desired.y": 2}}}, "*", priority=2
    ),
    *(ReportProperties(name, OK, "$edgeAgent") for name in NAMES[1:3]),
    ReportProperties(NAMES[3], FAILED, "$edgeAgent"),
    *(ReportProperties(name, FAILED, "$edgeHub") for name in NAMES[:3]),
    CreateDeployment("four", {"deviceContent": {"properties.desired.x": 1}}, "tags.c > 1", priority=1),
    CreateDeployment("six", {"moduleContent": {"properties.desired.a.b": 2}}, OF_M, priority=1),
    CreateDeployment("seven", {"moduleContent": {"properties.desired.x": 2}}, OF_N, admission=Admitted(("d3",))),
    *(CreateModule(name, "n") for name in NAMES[:2]),
]


@settings(deadline=None, max_examples=examples(100))
@given(
    histories,
    st.lists(queries, min_size=3, max_size=3),
    st.integers(1, 5),
    wheres(st.sampled_from(["tags.a = 'x'", "properties.reported.r = 'x'"])),
)
def test_pages_hold_what_the_reference_says(history: list[Command], texts: list[str], size: int, scope: str) -> None:
    fleet = Fleet()
    fleet.do(*USUAL)
    fleet.do(*history)
    within = parse(f"select deviceId from devices where {scope}")  # noqa: S608 - not SQL
    in_scope = {row["deviceId"] for row in fleet.reference(within)}
    for text in texts:
        query = parse(text)
        expected = fleet.reference(query)
        assert fleet.pages(query, size=size) == expected, text
        assert fleet.query_engine.count(query) == len(expected)
        if not is_aggregate(query) and query.top is None and not query.select:
            scoped = fleet.pages(query, size=size, scope=within.where)
            assert scoped == [row for row in expected if row["deviceId"] in in_scope]


class Late:
    """A clock on which the time of a page is over each time that it is asked."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        self._now += 2 * READING_SECONDS
        return self._now


def pages_of(query_engine: QueryEngine, text: str, *, size: int) -> list[tuple[int, bool]]:
    """How many rows each page has, and whether it has a continuation."""
    found: list[tuple[int, bool]] = []
    continuation = None
    while not found or continuation is not None:
        page = query_engine.page(parse(text), size=size, continuation=continuation)
        continuation = page.continuation
        found.append((len(page.rows), continuation is not None))
    return found


def test_a_page_that_the_time_ended_has_a_continuation_only_if_something_is_left_to_look_at() -> None:
    fleet = Fleet()
    fleet.do(*(RegisterDevice(f"n{number}") for number in range(20)))
    late = QueryEngine(fleet.log, fleet.projections, clock=Late())
    # The second partition is left after the first, and nothing after the second.
    assert pages_of(late, "select * from devices where properties.reported.r = 'x'", size=10) == [(0, True), (0, False)]
    assert pages_of(late, "select * from devices.modules where properties.reported.r = 'x'", size=10)[-1] == (0, False)
    # The index knows that there is no such device, and nothing has to be looked at.
    assert pages_of(late, "select * from devices where tags.a = 'x'", size=10) == [(0, False)]


def test_a_full_page_has_a_continuation_only_if_a_row_follows_or_the_time_is_over() -> None:
    fleet = Fleet()
    fleet.do(*(RegisterDevice(f"n{number}") for number in range(20)))
    last = fleet.fleet_projection.devices(limit=100)[0][-1]
    fleet.do(ReportProperties(last, {"r": "x"}))
    asked = "select * from devices where properties.reported.r = 'x'"
    assert pages_of(fleet.query_engine, asked, size=1) == [(1, False)]
    assert pages_of(fleet.query_engine, "select * from devices", size=20) == [(20, False)]
    assert pages_of(fleet.query_engine, "select * from devices", size=19) == [(19, True), (1, False)]
    assert pages_of(fleet.query_engine, "select top 5 * from devices", size=5) == [(5, False)]


def test_a_full_page_does_not_look_for_the_next_row_beyond_its_time() -> None:
    fleet = Fleet()
    fleet.do(*(RegisterDevice(f"n{number}") for number in range(20)))
    first = fleet.fleet_projection.devices(limit=100)[0][0]
    fleet.do(ReportProperties(first, {"r": "x"}))
    late = QueryEngine(fleet.log, fleet.projections, clock=Late())
    asked = "select * from devices where properties.reported.r = 'x'"
    assert pages_of(late, asked, size=1) == [(1, True), (0, False)]


@settings(deadline=None, max_examples=examples(100))
@given(histories, queries, st.integers(1, 5))
def test_pages_that_the_time_ends_hold_what_the_reference_says(history: list[Command], text: str, size: int) -> None:
    fleet = Fleet()
    fleet.do(*USUAL)
    fleet.do(*history)
    fleet.query_engine = QueryEngine(fleet.log, fleet.projections, clock=Late())
    assert fleet.pages(parse(text), size=size) == fleet.reference(parse(text)), text


@pytest.mark.parametrize("source", ["devices", "devices.modules"])
def test_each_leaf_and_its_opposite(source: str) -> None:
    fleet = Fleet()
    fleet.do(*USUAL)
    found = set()
    for leaf in DEVICE_LEAVES if source == "devices" else MODULE_LEAVES:
        for where in (leaf, f"not {leaf}", f"moduleId = '$edgeAgent' and not {leaf}", f"moduleId = 'm' and {leaf}"):
            query = parse(f"select * from {source} where {where}")  # noqa: S608 - not SQL
            expected = fleet.reference(query)
            assert fleet.pages(query, size=4) == expected, where
            found.add(len(expected))
    assert len(found) > 3


@settings(max_examples=examples(100))
@given(st.lists(st.lists(commands, min_size=1, max_size=10), min_size=1, max_size=4))
def test_kept_metrics_are_as_many_as_the_rows_of_their_queries(batches: list[list[Command]]) -> None:
    fleet = Fleet()
    fleet.do(*USUAL)
    for batch in batches:
        fleet.do(*batch)
        metrics = fleet.fleet_projection.metrics()
        for name, document in deployments(fleet.log):
            for metric, text in document.metrics.items():
                rows = len(fleet.reference(parse(text)))
                assert metrics.get(name, {}).get(metric, rows) == rows, text
                assert (metric in metrics.get(name, {})) == (plan_of(text) is not None), text
        assert metrics.keys() <= {name for name, _ in deployments(fleet.log)}


def of(source: str, *wheres_: str) -> list[str]:
    return [f"select * from {source} where {where}" for where in wheres_]  # noqa: S608 - not SQL


EVERY_METRIC = [
    *of("devices", *DEVICE_LEAVES, *(f"not {leaf}" for leaf in DEVICE_LEAVES)),
    *of("devices.modules", *(f"moduleId = '$edgeAgent' and {leaf}" for leaf in MODULE_LEAVES)),
    *of("devices.modules", *(f"moduleId = '$edgeAgent' and not {leaf}" for leaf in MODULE_LEAVES)),
    *of("devices.modules", *(f"moduleId = 'n' and {leaf}" for leaf in MODULE_LEAVES)),
    "select * from devices.modules where moduleId = 'n' and properties.reported.r = 'x'",
    "select * from devices.modules where moduleId = 'n' and not is_defined(properties.reported.r)",
    "select * from devices.modules where moduleId = '$edgeHub' and properties.reported.lastDesiredStatus.code >= 400",
]  # fmt: skip
STEPS: list[list[Command]] = [
    [ReportProperties("d1", {"lastDesiredVersion": 2, "lastDesiredStatus": {"code": 500}}, "$edgeAgent")],
    [ReportProperties("d2", {"lastDesiredVersion": 1}, "$edgeAgent")],
    [ReportProperties("d0", OK, "$edgeHub"), ReportProperties("d3", FAILED, "$edgeHub")],
    [ReportProperties("d1", OK), ReportProperties("d0", {"lastDesiredStatus": {"text": "no code"}})],
    [PatchTags("d0", {"a": "x", "c": 5}), PatchTags("d2", {"a": None})],
    [CreateModule("d0", "n"), ReportProperties("d0", {"r": "x"}, "n")],
    [ReportProperties("d3", {"r": "x"}, "n"), ReportProperties("d1", {"r": "x"}, "n")],
    [DeleteModule("d0", "n")],
    [CreateModule("d0", "n")],
    [UpdateDevice("d3", edge=False)],
    [UpdateDevice("d3", edge=True, enabled=False)],
    [SetConfiguration("d2", base("n"))],
    [RetireDevice("d1")],
    [RegisterDevice("d1"), PatchTags("d1", {"a": "x", "c": 3}), ReportProperties("d1", {"r": "x"})],
    [UpdateDeployment("two", target_condition="tags.c > 3")],
    [UpdateDeployment("one", target_condition="tags.a = 'x'")],
    [DeleteDeployment("two")],
    [CreateDeployment("two", layer("n", x=1), target_condition="*", priority=1)],
    [UpdateDeployment("six", target_condition=OF_N), ReportProperties("d0", {"r": "x"}, "n")],
    [UpdateDeployment("six", target_condition=f"{OF_N} and properties.reported.r = 'x'")],
    [ReportProperties("d3", {"r": "y"}, "n")],
    [UpdateDeployment("six", target_condition=OF_ANY)],
    [PatchTwin("d0", "n", {"a": 1}), PatchTwin("d2", "m", {"a": 1}), PatchTwin("d3", "$edgeAgent", {"a": 1})],
    [PatchTwin("d2", "m", {"a": {"b": 1}}), PatchTwin("d3", "m", {"a": 1})],
    [UpdateDeployment("six", target_condition=OF_M)],
    [DeleteDeployment("one")],
    [DeleteDeployment("six")],
]


@pytest.mark.parametrize("first", shortened([False, True]))
def test_every_kind_of_metric_is_right_at_every_checkpoint(*, first: bool) -> None:
    """Defined before what they count came, or when it is there already."""
    fleet = Fleet()
    defining = [
        CreateDeployment(f"m{start}", layer("z"), metrics={str(one): EVERY_METRIC[one] for one in range(start, end)})
        for start in range(0, len(EVERY_METRIC), 5)
        for end in [min(start + 5, len(EVERY_METRIC))]
    ]
    expected: set[int] = set()
    if first:
        fleet.do(*defining)
    fleet.do(*USUAL)
    for step in STEPS:
        fleet.do(*step)
        if not first and step is STEPS[6]:
            fleet.do(*defining)
        for metrics in fleet.fleet_projection.metrics().values():
            for number, rows in metrics.items():
                assert rows == len(fleet.reference(parse(EVERY_METRIC[int(number)]))), (EVERY_METRIC[int(number)], step)
                expected.add(rows)
    assert len(expected) > 4
    values = {int(number) for metrics in fleet.fleet_projection.metrics().values() for number in metrics}
    assert values == {number for number, text in enumerate(EVERY_METRIC) if plan_of(text) is not None}
    assert len(values) > len(EVERY_METRIC) / 2


@pytest.mark.parametrize(
    ("module", "content", "condition"),
    [
        ("$edgeAgent", base("m"), "*"),
        ("n", {"moduleContent": {"properties.desired.x": 1}}, OF_N),
        ("n", {"moduleContent": {"properties.desired.x": 1}}, "FROM devices.modules WHERE moduleId > 'm'"),
    ],
)
def test_metrics_follow_whom_a_deployment_targets_without_admitting_them(
    module: str, content: dict[str, Any], condition: str
) -> None:
    text = f"select * from devices.modules where moduleId = '{module}' and configurations.late.status = 'Targeted'"  # noqa: S608 - not SQL
    fleet = Fleet()
    fleet.do(*USUAL, CreateDeployment("m", layer("z"), metrics={"late": text}))
    fleet.do(CreateDeployment("late", content, condition, admission=NotStarted()))
    found = []
    for admission in (Admitted(()), Admitted(("d0",)), NotStarted(), Admitted(()), Ended(), Admitted(())):
        fleet.do(ChangeAdmission("late", admission))
        found.append(fleet.fleet_projection.metrics()["m"]["late"])
        assert found[-1] == len(fleet.reference(parse(text))), admission
    assert found[0] > 0
    fleet.do(DeleteDeployment("late"))
    assert fleet.fleet_projection.metrics()["m"]["late"] == 0


def test_groups_and_sums() -> None:
    fleet = Fleet()
    for number, name in enumerate(NAMES):
        fleet.do(RegisterDevice(name), PatchTags(name, {"site": f"s{number % 2}", "n": number}))
    query = parse("select tags.site as s, count() as n, sum(tags.n) as total from devices group by tags.site")
    assert fleet.pages(query, size=10) == [{"s": "s0", "n": 3, "total": 6}, {"s": "s1", "n": 3, "total": 9}]


def test_whoever_comes_between_pages_is_on_none_and_whoever_stays_on_one() -> None:
    fleet = Fleet()
    fleet.do(*(RegisterDevice(f"e{number}") for number in range(20)))
    query = parse("select deviceId from devices")
    seen: list[str] = []
    continuation = None
    for number in range(100):
        page = fleet.query_engine.page(query, size=3, continuation=continuation)
        seen += [row["deviceId"] for row in page.rows]
        continuation = page.continuation
        if continuation is None:
            break
        # One that was shown comes anew, one goes, and one joins.
        fleet.do(RetireDevice(seen[0]), RegisterDevice(seen[0]), RetireDevice("e19"), RegisterDevice(f"late{number}"))
    assert len(seen) == len(set(seen))
    assert {f"e{number}" for number in range(19)} - {seen[0]} <= set(seen)
    assert not any(name.startswith("late") for name in seen)


def test_a_continuation_is_of_its_query() -> None:
    fleet = Fleet()
    fleet.do(*(RegisterDevice(name) for name in NAMES))
    query = parse("select * from devices")
    token = fleet.query_engine.page(query, size=2).continuation
    assert token is not None
    assert len(QueryEngine(fleet.log, fleet.projections).page(query, continuation=token).rows) == 4
    for wrong in (token[:-4], "", "!", "AAAA", token.swapcase()):
        with pytest.raises(ContinuationInvalid):
            fleet.query_engine.page(query, continuation=wrong)
    with pytest.raises(ContinuationInvalid):
        fleet.query_engine.page(parse("select deviceId from devices"), continuation=token)
