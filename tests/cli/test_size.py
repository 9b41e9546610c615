"""`twinfold size` and `twinfold document`, against a real server."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from events.log.keys import FLEET, key, partition_of
from events.log.log_factory import initialise
from events.log.storage_size import KINDS, sizes_of
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.archive.streams import mover
from tests.servers import flush
from tests.stored_subjects import store
from tests.workers.system import PARTITIONS, System, base, deploy, fresh_system, join
from workers.projector import Projector

pytestmark = pytest.mark.redis_server
DEVICES = 12


@pytest.fixture
def system(shared_redis: EmbeddedRedis) -> Iterator[System]:
    with fresh_system(shared_redis, waking=False) as system:
        system.do(*(one for number in range(DEVICES) for one in join(f"d{number}", site=number)))
        system.do(deploy("a", base("m"), "*"))
        projector = Projector(system.log, system.projections, clock=lambda: 5)
        for number in range(PARTITIONS):
            assert projector.drain(number, go_on=lambda: True)
        yield system


def ran(system: System, *words: str) -> subprocess.CompletedProcess[str]:
    return waiting.run([sys.executable, "-m", "services.cli", *words, "--redis-url", system.url])


def size(system: System, *words: str) -> Any:
    done = ran(system, "size", "--json", "--samples", "0", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_key_of_the_server_is_counted_once(system: System) -> None:
    client: Any = system.log.client
    client.set("rq:something", "of the queue")
    client.hset("{fleet}:secrets", "s1", "x" * 100)
    measured = size(system)
    used = {redis_key.decode(): client.memory_usage(redis_key, samples=0) for redis_key in client.scan_iter()}
    assert sum(measured["bytes"].values()) == sum(used.values())
    for kind in ("log", "subjects"):
        assert measured["bytes"][kind] == sum(used[key(stream, kind)] for stream in (FLEET, *range(PARTITIONS)))
    assert measured["bytes"]["index"] == sum(used.get(key(n, "projection:index"), 0) for n in range(PARTITIONS))
    assert measured["bytes"]["secrets"] == used["{fleet}:secrets"]
    assert measured["devices"] == DEVICES
    assert {stream["stream"]: stream["devices"] for stream in measured["streams"]} == {
        "fleet": 0,
        **{f"p{n:02d}": sum(partition_of(f"d{d}", PARTITIONS) == n for d in range(DEVICES)) for n in range(PARTITIONS)},
    }
    for kind in KINDS:
        assert measured["bytes"][kind] == sum(stream["bytes"][kind] for stream in measured["streams"])


def test_one_partition_and_the_archive_are_measured_alone(system: System, tmp_path: Path) -> None:
    moving = mover(system.log, tmp_path, segment_entries=2)
    for stream in moving.streams:
        moving.write(stream)
    whole = size(system)
    assert whole["bytes"]["archive"] == sum(path.stat().st_size for path in tmp_path.rglob("*.parquet"))
    number = partition_of("d1", PARTITIONS)
    (alone,) = size(system, "--partition", f"p{number:02d}")["streams"]
    assert alone == next(stream for stream in whole["streams"] if stream["stream"] == alone["stream"])


def test_people_get_a_table_per_device_and_a_wrong_partition_is_named(system: System) -> None:
    shown = ran(system, "size")
    assert (shown.returncode, f"{DEVICES} devices" in shown.stdout) == (0, True), shown.stderr
    assert all(kind in shown.stdout for kind in KINDS)
    wrong = ran(system, "size", "--partition", "p99")
    assert (wrong.returncode, "p99" in wrong.stderr) == (2, True)


def test_a_stored_document_is_shown_as_json_with_its_version(system: System) -> None:
    shown = json.loads(ran(system, "document", "d1").stdout)
    assert (shown["d1"]["version"], shown["d1"]["generation"]) == (2, 1)
    assert shown["d1"]["document"]["tags"] == {"site": 1}
    fleet = json.loads(ran(system, "document", "a", "--fleet").stdout)
    assert fleet["a"]["document"]["target_condition"] == "*"
    store(system.log.client, partition_of("d1", PARTITIONS), "d1", document=b"{")
    assert "twinfold blocked documents" in json.loads(ran(system, "document", "d1").stdout)["d1"]["document"]
    unknown = ran(system, "document", "d1", "nobody")
    assert (unknown.returncode, json.loads(unknown.stdout)["nobody"]["document"]) == (1, None)


def test_the_keys_of_a_cluster_are_counted(cluster_url: str) -> None:
    log = initialise(cluster_url, partitions=2, at=0)
    flush(log.client)
    log = initialise(cluster_url, partitions=2, at=0)
    sizes = list(sizes_of(log.client, (FLEET, 0, 1), 0))
    assert sizes[0].bytes["log"] == log.client.memory_usage(key(FLEET, "log"), samples=0)
    log.client.close()
