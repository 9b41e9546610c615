"""Reading on over all streams: in order, and past what cannot be read, but not in silence."""

from collections.abc import Iterator

import msgspec
import pytest

from events import PatchTags, RegisterDevice
from events.log.errors import LogLostItsTail
from events.log.keys import partition_of
from events.notification.feed import Feed
from events.notification.positions import Positions, moved
from services.embedded_redis import EmbeddedRedis
from tests.workers.system import PARTITIONS, System, fresh_system

pytestmark = pytest.mark.redis_server


@pytest.fixture
def system(shared_redis: EmbeddedRedis) -> Iterator[System]:
    with fresh_system(shared_redis, waking=False) as system:
        yield system


def read_on(feed: Feed, positions: Positions, *, limit: int) -> list[tuple[str, str]]:
    read = []
    heads = feed.heads()
    while some := feed.read(positions, heads, limit=limit):
        for one in some:
            positions = moved(positions, one.location.index, one.location.position)
            read.append((one.location.event_id, one.kind))
    assert positions == heads
    return read


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_everything_is_read_once_however_little_at_a_time(system: System, limit: int) -> None:
    system.do(*(RegisterDevice(f"d{number}") for number in range(20)))
    read = read_on(Feed(system.log, system.projections), (0,) * (1 + 2 * PARTITIONS), limit=limit)
    assert len(read) == len(set(read)) == 21


def test_an_entry_that_cannot_be_read_is_told_of_as_such_and_those_behind_it_as_ever(system: System) -> None:
    system.do(RegisterDevice("d"), PatchTags("d", {"a": 1}), PatchTags("d", {"a": 2}))
    number = partition_of("d", PARTITIONS)
    name = f"{{p{number:02d}}}:log"
    entries = system.log.client.xrange(name)
    system.log.client.delete(name)
    for position, fields in entries:  # type: ignore[union-attr]
        broken = {**fields, b"data": b'{"type":"FromTomorrow"}'} if position == b"2-0" else fields
        system.log.client.xadd(name, broken, id=position)
    read = read_on(Feed(system.log, system.projections), (0,) * (1 + 2 * PARTITIONS), limit=1000)
    of_device = [kind for location, kind in read if location.startswith("p")]
    assert of_device == ["DeviceRegistered", "Unreadable", "TwinPatched"]
    (unreadable,) = Feed(system.log, system.projections).of_stream(1 + number, 1, 2)
    event = msgspec.json.decode(unreadable.body)
    assert (event["type"], event["position"], "data" in event) == ("twinfold.Unreadable", 2, False)


def test_positions_that_are_missing_are_told_and_not_passed_over(system: System) -> None:
    system.do(RegisterDevice("d"), PatchTags("d", {"a": 1}))
    number = partition_of("d", PARTITIONS)
    feed = Feed(system.log, system.projections)
    system.log.client.xtrim(f"{{p{number:02d}}}:log", maxlen=0)
    with pytest.raises(LogLostItsTail):
        read_on(feed, (0,) * (1 + 2 * PARTITIONS), limit=1000)
