"""The log and the projections on a Redis Cluster of three, the queue on a single server (DESIGN §2)."""

from typing import Any

import pytest

from events import open_producer
from events.log.connect import connect
from events.log.keys import key
from services.embedded_redis import EmbeddedRedis
from tests.servers import flush
from tests.workers.groups import AT, GROUPS, write
from tests.workers.system import PARTITIONS, System, answer, assert_rebuilt, base, deploy, join

pytestmark = pytest.mark.redis_server


def test_events_reach_projections_on_a_cluster_through_real_workers(
    shared_redis: EmbeddedRedis, cluster_url: str
) -> None:
    nodes = connect(cluster_url)
    flush(nodes)
    nodes.close()
    system = System(cluster_url, queue_url=shared_redis.url, at=AT)
    with system.process("-m", "workers.pool"):
        for number in range(GROUPS):
            write(system.url, system.queue_url, number)
            system.settle()
        system.do(*join("late", environment="prod"), deploy("all", base("z"), "*", priority=99))
        system.settle()
        system.do(answer(system, "late", z="running"))
        system.settle()
    assert system.status("all")["healthy"] == 1
    assert system.status("all")["actual"] == system.status("all")["target"] > 20
    assert_rebuilt(system)
    client: Any = system.log.client
    assert len({client.keyslot(key(number, "log")) for number in range(-1, PARTITIONS)}) == PARTITIONS + 1
    with pytest.raises(ValueError, match="queue_url"):
        open_producer(cluster_url)
    with open_producer(cluster_url, queue_url=shared_redis.url) as producer:
        producer.send(join("more")[0])
    system.close()
