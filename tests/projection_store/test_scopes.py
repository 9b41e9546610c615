"""What somebody scoped reads is what everybody reads, without what is outside: nothing more, nothing less, no count of it."""

import functools

from hypothesis import given, settings
from hypothesis import strategies as st

from events import CreateDeployment, PatchTags, RegisterDevice, ReportProperties, UpdateDeployment
from events.access.scope import Scope
from events.device.state import decode_device
from events.fleet.deployment_status import STATUSES
from events.log.keys import partition_of
from events.producer.errors import Command
from events.projection_store.fleet_projection import Within
from events.query.parse import parse
from tests.projection_store.test_query_engine import NAMES, PARTITIONS, USUAL, Fleet, histories
from tests.shortening import examples
from tests.workers.system import base

SCOPES = [
    *("*", " ", "tags.a = 'x'", "NOT tags.a = 'x'", "tags.a != 'x' OR tags.c > 1", "is_defined(tags.a.b)"),
    *("properties.reported.r = 'x'", "deviceId > 'd2'", "deviceId = 'd1' OR properties.reported.s = 1"),
    *("properties.reported.lastDesiredVersion >= 1", "NOT properties.reported.lastDesiredStatus.code = 200"),
]


def within(fleet: Fleet, scope: Scope) -> Within:
    return functools.cache(lambda number: fleet.query_engine.within(number, scope.condition))


def inside(fleet: Fleet, scope: Scope) -> set[str]:
    """The devices that a scope holds for, document by document."""
    stored = zip(NAMES, fleet.log.load(NAMES), strict=True)
    return {name for name, one in stored if one.snapshot and scope.holds(name, decode_device(one.snapshot))}


def every_page(fleet: Fleet, limit: int, seen: Within | None = None) -> list[str]:
    names, location = fleet.fleet_projection.devices(limit=limit, within=seen)
    while location is not None:
        more, location = fleet.fleet_projection.devices(after=location, limit=limit, within=seen)
        assert more
        names += more
    return names


@settings(deadline=None, max_examples=examples(50))
@given(histories, st.sampled_from(SCOPES), st.integers(1, 4))
def test_reading_within_a_scope_is_reading_everything_and_leaving_out_the_rest(
    history: list[Command], text: str, limit: int
) -> None:
    fleet = Fleet()
    fleet.do(*USUAL)
    fleet.do(*history)
    scope = Scope(text)
    seen, expected = within(fleet, scope), inside(fleet, scope)
    everybody = every_page(fleet, limit)
    assert every_page(fleet, limit, seen) == [name for name in everybody if name in expected]
    assert fleet.fleet_projection.totals(within=seen)[0] == len(expected)
    counts = fleet.fleet_projection.status(within=seen)
    assert counts.keys() == fleet.fleet_projection.status().keys()
    for name, by_status in counts.items():
        for status in STATUSES:
            members = [device for device in fleet.fleet_projection.members(name, status) if device in expected]
            in_status = fleet.fleet_projection.in_status(name, status)
            assert fleet.fleet_projection.page_of(in_status, limit=10, within=seen) == (members, None)
            assert by_status[status] == len(members)
    for source in ("devices", "devices.modules"):
        query, count = (parse(f"select {what} from {source}") for what in ("*", "count() as n"))  # noqa: S608 - not SQL
        rows = [row for row in fleet.pages(query, size=limit) if row["deviceId"] in expected]
        assert fleet.pages(query, size=limit, scope=scope.condition) == rows
        assert fleet.query_engine.page(count, scope=scope.condition).rows == (
            [{"n": len(rows)}] if rows else [{"n": 0}]
        )


def test_a_continuation_of_somebody_else_shows_no_more() -> None:
    fleet = Fleet()
    fleet.do(*(RegisterDevice(name) for name in NAMES), *(PatchTags(name, {"a": "x"}) for name in NAMES[::2]))
    query, scope = parse("select * from devices"), Scope("tags.a = 'x'")
    first = fleet.query_engine.page(query, size=1)
    rows = fleet.query_engine.page(query, continuation=first.continuation, scope=scope.condition).rows
    assert {row["deviceId"] for row in (*first.rows, *rows)} >= set(NAMES[::2])
    assert {row["deviceId"] for row in rows} <= set(NAMES[::2])
    _, location = fleet.fleet_projection.devices(limit=1)
    assert location is not None
    assert set(fleet.fleet_projection.devices(after=location, limit=9, within=within(fleet, scope))[0]) <= set(
        NAMES[::2]
    )


def test_a_document_that_left_the_scope_is_not_shown_though_the_projections_are_behind() -> None:
    fleet = Fleet()
    fleet.do(RegisterDevice("d0"), PatchTags("d0", {"a": "x"}))
    fleet.write(PatchTags("d0", {"a": "y"}))
    scope = Scope("tags.a = 'x'")
    for text in ("select * from devices", "select deviceId from devices", "select * from devices.modules"):
        assert fleet.pages(parse(text), size=5) != []
        assert fleet.pages(parse(text), size=5, scope=scope.condition) == []


def test_a_deployment_with_a_scope_targets_within_it_whatever_its_condition_becomes() -> None:
    fleet = Fleet()
    fleet.do(*(RegisterDevice(name) for name in NAMES), *(PatchTags(name, {"a": "x"}) for name in NAMES[:3]))
    fleet.do_within(Scope("tags.a = 'x'"), CreateDeployment("mine", base("m"), "tags.a = 'y'", priority=1))
    assert list(fleet.fleet_projection.members("mine", "target")) == []
    fleet.do(UpdateDeployment("mine", "*"))
    assert sorted(fleet.fleet_projection.members("mine", "actual")) == NAMES[:3]
    fleet.do(PatchTags("d0", {"a": "y"}), PatchTags("d5", {"a": "x"}), ReportProperties("d4", {"r": 1}))
    assert sorted(fleet.fleet_projection.members("mine", "target")) == ["d1", "d2", "d5"]
    assert {partition_of(name, PARTITIONS) for name in NAMES} == set(range(PARTITIONS))
