"""The rows of queries: a large fleet whose devices have tags and say something of themselves, asked in the API's way."""

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from events import CreateDeployment, PatchTags, RegisterDevice, ReportProperties
from events.projection_store.query_engine import QueryEngine
from events.query.parse import parse
from tests.benchmarks import fleets
from tests.benchmarks.large_fleet import Fleet
from tests.benchmarks.measuring import Figure, at_most, quantile, seconds_of
from tests.benchmarks.scale import Scale, counted, print_lines
from tests.servers import redis_server

MODELS = [f"model-{number}" for number in range(20)]
LOADS = 1000
DEPLOYMENTS = 20
ROUNDS = 15
CHUNK = 2000

BY_TAG = "SELECT deviceId FROM devices WHERE tags.site = 'site-007'"
BY_REPORT = "SELECT deviceId FROM devices WHERE properties.reported.load = 7"
COUNTED = "SELECT COUNT() AS n FROM devices WHERE"
GROUPED = "SELECT tags.site, COUNT() AS n FROM devices GROUP BY tags.site"


def run(scale: Scale) -> Iterator[Figure]:
    """Grow the fleet, and ask."""
    with redis_server(appendfsync="everysec") as server:
        fleet = Fleet(server, scale)
        with fleet.pool():
            grow(fleet)
        yield from measured(fleet)


def grow(fleet: Fleet) -> None:
    """Register everyone, with five tags and a small report; the deployments name the tags, so that they are indexed."""
    print_lines(f"growing a fleet of {fleet.scale.devices:,} devices that report")
    names, draw = list(fleets.device_ids(fleet.scale.devices)), random.Random(1)
    commands = (
        command
        for name in names
        for command in (
            RegisterDevice(name),
            PatchTags(name, fleets.tags_of(draw)),
            ReportProperties(name, {"model": draw.choice(MODELS), "load": draw.randrange(LOADS)}),
        )
    )
    fleet.producer.submit(
        CreateDeployment(name, content, target_condition=condition, priority=priority)
        for name, content, condition, priority in fleets.deployments(DEPLOYMENTS)
    ).raise_if_refused()
    fleet.producer.submit(counted("written", commands)).raise_if_refused()
    fleet.settle()


def measured(fleet: Fleet) -> Iterator[Figure]:
    """Indexed tags, and what no index knows."""
    query_engine = QueryEngine(fleet.log, fleet.projections)
    setting = f"{fleet.scale.devices:,} devices"

    def page(text: str, size: int = 100) -> Callable[[], object]:
        query = parse(text)
        return lambda: query_engine.page(query, size=size)

    rows = (
        ("first page of 100 by an indexed tag", BY_TAG, 50),
        ("COUNT by an indexed tag", f"{COUNTED} tags.site = 'site-007'", 20),
        ("COUNT by group of an indexed tag", GROUPED, 200),
        ("first page by a reported property without index", BY_REPORT, 200),
    )
    for what, text, aim in rows:
        milliseconds = [1000 * seconds_of(page(text)) for _ in range(ROUNDS)]
        beside = f"worst of {ROUNDS}: {max(milliseconds):.0f} ms"
        yield at_most(what, setting, quantile(milliseconds, 0.5), "ms", aim=aim, beside=beside)
    raw = seconds_of(lambda: _read_and_decode(fleet))
    seconds, found, pages = pages_of(query_engine, BY_REPORT)
    beside = f"{found:,} rows on {pages} pages; all documents read and decoded, no more: {raw:.1f} s"
    yield at_most("all pages by a reported property without index", setting, seconds, "s", aim=8, beside=beside)
    alone = seconds_of(page(f"{COUNTED} properties.reported.load = 7"))
    yield at_most("COUNT by a reported property without index", setting, alone, "s", aim=8)


def _read_and_decode(fleet: Fleet) -> None:
    """What no query without an index can do without; any decoder needs as long."""
    decoder = msgspec.json.Decoder(_Document)
    for number in range(fleet.log.partitions):
        pages = fleet.projections.read(number, hashes=("ids",)).hashes["ids"].values()
        names = [name for page in pages for name in msgspec.json.decode(page, type=list[str])]
        for start in range(0, len(names), CHUNK):
            for snapshot in fleet.log.snapshots(number, names[start : start + CHUNK]):
                assert snapshot is not None
                decoder.decode(snapshot)


class _Document(msgspec.Struct, frozen=True):
    reported: dict[str, Any] = {}


def pages_of(query_engine: QueryEngine, text: str, *, size: int = 1000) -> tuple[float, int, int]:
    """How long all pages take, how many rows they have, and how many pages there are."""
    query, continuation = parse(text), None
    found = pages = 0
    start = time.perf_counter()
    while pages == 0 or continuation is not None:
        page = query_engine.page(query, size=size, continuation=continuation)
        continuation, found, pages = page.continuation, found + len(page.rows), pages + 1
    return time.perf_counter() - start, found, pages
