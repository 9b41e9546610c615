"""A search finds what looking at every entry would, wherever entries are, in either order, however little it looks at a time."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pyroaring import BitMap

from events import Producer
from events.audit.errors import LocationInvalid
from events.audit.search import FoundEntry, LogSearcher, Search, SearchOrder, location_of, locations_of
from events.envelope import Principal
from events.log.archive.mover import Mover
from events.log.entries import stream_names
from events.log.events import LogInitialised
from events.log.object_store import ObjectStore
from events.log.raw import RawStreams
from services.embedded_redis import EmbeddedRedis
from tests.workers.system import PARTITIONS, System, base, deploy, fresh_system, join
from workers.projector import Projector

pytestmark = pytest.mark.redis_server

Holds = Callable[[str, dict[bytes, bytes]], bool]
SEARCHES: tuple[tuple[Search, Holds], ...] = (
    (Search(), lambda _stream, _fields: True),
    (Search(device="d7"), lambda _stream, fields: fields[b"subject"] == b"d7"),
    (Search(deployment="prod"), lambda _stream, fields: fields[b"subject"] == b"prod"),
    (Search(by="ada"), lambda _stream, fields: fields[b"by"] == b"user:ada"),
    (Search(by="system:log"), lambda _stream, fields: fields[b"by"] == b"system:log"),
    (Search(kinds=frozenset({"TwinPatched"})), lambda _stream, fields: fields[b"type"] == b"TwinPatched"),
    (Search(since=2_000, until=3_000), lambda _stream, fields: 2_000 <= int(fields[b"at"]) <= 3_000),
    (Search(streams=("p01",)), lambda stream, _fields: stream == "p01"),
    (Search(device="nobody"), lambda _stream, _fields: False),
)


@pytest.fixture(scope="module", params=["in Redis", "archived"])
def system(
    request: pytest.FixtureRequest, shared_redis: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """Thirty devices in three batches, a second apart."""
    with fresh_system(shared_redis) as made:
        for number in range(3):
            at = 1_000 * (number + 1)
            producer = Producer(made.log, by=Principal.parse("user:ada"), clock=lambda at=at: at)
            names = [f"d{10 * number + one}" for one in range(10)]
            producer.submit(command for name in names for command in join(name, site=name)).raise_if_refused()
        made.do(deploy("prod", base("m")))
        if request.param == "archived":
            _archive(made, tmp_path_factory.mktemp("archive"))
        yield made


def _archive(system: System, location: Path) -> None:
    initialisation = LogInitialised(system.log.epoch, system.log.partitions)
    mover = Mover(system.log.client, ObjectStore(str(location)), initialisation=initialisation, segment_entries=4)
    mover.settle()
    for stream in ("fleet", *(f"p{number:02d}" for number in range(PARTITIONS))):
        mover.write(stream)
        assert mover.trim(stream, before_at=2**53).trimmed or stream == "fleet"


def nobody(_device: str, _partition: int, _ordinals: BitMap) -> bool:
    return False


def found(system: System, search: Search, order: SearchOrder, *, limit: int, scanned_max: int) -> list[FoundEntry]:
    """All pages, one after the other."""
    streams = RawStreams(system.log.client)
    searching = LogSearcher(
        streams, names=stream_names(PARTITIONS), partitions=PARTITIONS, among=nobody, device_ids=lambda *_: frozenset()
    )
    rest, every = searching.begin(search), list[FoundEntry]()
    while rest:
        page = searching.page(search, rest, order=order, limit=limit, scanned_max=scanned_max)
        assert len(page.entries) <= limit
        every += page.entries
        rest = page.unread
    return every


@pytest.mark.parametrize("order", get_args(SearchOrder))
@pytest.mark.parametrize("bounds", [(1000, 10**6), (3, 10**6), (1000, 1)])
@pytest.mark.parametrize(("search", "holds"), SEARCHES)
def test_it_finds_each_wanted_entry_once_and_in_order(
    system: System, search: Search, holds: Holds, bounds: tuple[int, int], order: SearchOrder
) -> None:
    limit, scanned_max = bounds
    streams = RawStreams(system.log.client)
    wanted = {
        (stream, entry.position)
        for stream in stream_names(PARTITIONS)
        for entry in streams.entries(stream)
        if holds(stream, entry.fields)
    }
    some = found(system, search, order, limit=limit, scanned_max=scanned_max)
    assert len(some) == len(wanted)
    assert {(one.stream, one.entry.position) for one in some} == wanted
    for stream in stream_names(PARTITIONS):
        positions = [one.entry.position for one in some if one.stream == stream]
        assert positions == sorted(positions, reverse=order == "newest")
    times = [int(one.entry.fields[b"at"]) for one in some]
    assert times == sorted(times, reverse=order == "newest")


def test_a_page_looks_into_no_more_assignment_changes_than_it_shows(shared_redis: EmbeddedRedis) -> None:
    asked: list[BitMap] = []

    def everyone(_device: str, _partition: int, ordinals: BitMap) -> bool:
        asked.append(ordinals)
        return True

    with fresh_system(shared_redis) as system:
        system.do(join("d1", site="x"))
        projector = Projector(system.log, system.projections, clock=lambda: 1000)
        for number in range(8):
            system.do(deploy(f"prod{number}", base("m"), priority=number))
            for partition in range(PARTITIONS):
                assert projector.drain(partition, go_on=lambda: True)
        searching = LogSearcher(
            RawStreams(system.log.client),
            names=stream_names(PARTITIONS),
            partitions=PARTITIONS,
            among=everyone,
            device_ids=lambda *_: frozenset(),
        )
        search = Search(device="d1", kinds=frozenset({"AssignmentChange"}))
        for order in get_args(SearchOrder):
            asked.clear()
            page = searching.page(search, searching.begin(search), order=order, limit=2)
            assert (len(page.entries), len(asked)) == (2, 2)


@pytest.mark.parametrize("harm", [{b"data": b'{"subjects":5}'}, {b"data": b"{"}, {b"data": b"\xff"}, {}])
def test_a_damaged_read_of_secrets_is_nobody_s_and_ends_no_search(
    shared_redis: EmbeddedRedis, harm: dict[bytes, bytes]
) -> None:
    with fresh_system(shared_redis, waking=False) as system:
        system.do(*join("d1", site="x"))
        before = found(system, Search(device="d1"), "oldest", limit=100, scanned_max=1000)
        client: Any = system.log.client
        ((last, fields),) = client.xrevrange("{fleet}:log", count=1)
        stored = {name: value for name, value in fields.items() if name != b"data"} | {b"type": b"SecretsRead"}
        client.xadd("{fleet}:log", stored | harm, id=f"{int(last.partition(b'-')[0]) + 1}-0")
        assert found(system, Search(device="d1"), "oldest", limit=100, scanned_max=1000) == before != []


@pytest.mark.parametrize("text", ["p00:9007199254740992", "p00:" + "9" * 23, "p00:" + "9" * 5000, "p00:0" + "1" * 40])
def test_a_position_that_no_stream_can_have_is_no_place(text: str) -> None:
    with pytest.raises(LocationInvalid, match="is not a position in the log"):
        location_of(text)
    assert list(locations_of(f"p00:1-{text.partition(':')[2]}")) == []
    assert location_of("p00:9007199254740991") == ("p00", 2**53 - 1)


def test_the_places_in_a_cause_are_read_and_other_words_are_not() -> None:
    (first, second) = locations_of("p03:5-9 fleet:2 ticket:7 p1:x :3 north")
    assert (first.stream, first.first, first.last) == ("p03", 5, 9)
    assert (second.stream, second.first, second.last) == ("fleet", 2, 2)
