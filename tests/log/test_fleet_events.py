"""What processes hold of the fleet's stream: every event that somebody applies, and of reads next to nothing."""

import contextlib
import tracemalloc
from collections.abc import Iterator

import pytest

from events.access.events import SecretsRead
from events.deployment.events import DeploymentCreated
from events.envelope import Principal
from events.log.connect import connect
from events.log.fleet_events import FleetEventReader
from events.log.keys import FLEET
from events.log.log_factory import initialise
from events.log.port import Proposed
from events.log.redis import RedisLog
from services.embedded_redis import EmbeddedRedis
from tests.servers import flush

ADA, SIEM = Principal.parse("user:ada"), Principal.parse("user:siem")
BATCH = 500

pytestmark = pytest.mark.redis_server


@pytest.fixture
def log(shared_redis: EmbeddedRedis) -> Iterator[RedisLog]:
    with contextlib.closing(connect(shared_redis.url)) as client:
        flush(client)
    opened = initialise(shared_redis.url, partitions=2, allow_volatile=True, at=0)
    yield opened
    opened.client.close()


def read_secrets(log: RedisLog, by: Principal, *, after: int, count: int, at: int) -> None:
    """Note that somebody read keys `count` times, having done so `after` times before."""
    event = SecretsRead(("edge-1",), 1, "keys", "GET /devices/{device_id}")
    subject = f"reader:{by}"
    batch = [Proposed(subject, after + number, event) for number in range(count)]
    log.append(batch, command_id=f"{by}-{after}", by=by, at=at)


def deploy(log: RedisLog, name: str, *, at: int) -> None:
    log.append([Proposed(name, 0, DeploymentCreated(content={}))], command_id=name, by=ADA, at=at)


def test_who_read_secrets_costs_a_process_no_more_than_a_place_in_a_row(log: RedisLog) -> None:
    events = FleetEventReader(log)
    for one in range(2):
        # What is needed once is there after the first.
        for number in range(10):
            after = (one * 10 + number) * BATCH
            read_secrets(log, SIEM, after=after, count=BATCH, at=1000 + after)
        tracemalloc.start()
        events.refresh()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert held < 10 * BATCH * 100


def test_events_stand_among_reads_as_in_the_log_and_reads_keep_their_time_and_reader(log: RedisLog) -> None:
    read_secrets(log, ADA, after=0, count=3, at=1000)
    deploy(log, "a", at=2000)
    read_secrets(log, SIEM, after=0, count=2, at=3000)
    deploy(log, "b", at=4000)
    read_secrets(log, ADA, after=3, count=1, at=5000)
    events = FleetEventReader(log)
    events.refresh()
    stand = log.read(FLEET, after=0, limit=100)
    assert [len(events.between(0)), len(events.between(2, 6)), len(events.between(9))] == [len(stand), 4, 0]
    everything = events.between(0)
    expected = [(entry.position, entry.subject, entry.at, entry.by, entry.cause, type(entry.event)) for entry in stand]
    assert [
        (entry.position, entry.subject, entry.at, entry.by, entry.cause, type(entry.event)) for entry in everything
    ] == expected
    page = events.between(2, 6)
    assert [(entry.position, entry.at) for entry in (page[0], page[-1])] == [(3, 1000), (6, 3000)]
    assert [entry for entry in everything if not isinstance(entry.event, SecretsRead)] == [
        entry for entry in stand if not isinstance(entry.event, SecretsRead)
    ]
