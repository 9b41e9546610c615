"""A backup of one server is restored into a cluster, and one of a cluster into one server, with the same bytes."""

import contextlib
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest

from events import PatchTags
from events.access.commands import DefinePolicy
from events.backup.backup import take
from events.backup.errors import TargetNotEmpty
from events.backup.location import BackupLocation
from events.backup.restore import claim, finish, restore, verify
from events.log.connect import connect
from events.log.errors import LogUnavailable
from events.producer.secrecy import LazyVault
from events.secrets.redis import RedisSecretStore
from services.embedded_redis import EmbeddedRedis
from tests.backup.test_take_and_restore import beside, cli, drain, rebuild_projections
from tests.redis_cluster import cluster, slots_of
from tests.servers import flush
from tests.workers.system import PARTITIONS, System, assert_rebuilt, base, deploy, fresh_system, join

pytestmark = [pytest.mark.redis_server, pytest.mark.full]

KEY = "MDEyMzQ1Njc4OTAxMjM0NQ=="


def test_one_server_into_a_cluster_and_back(shared_redis: EmbeddedRedis, cluster_url: str, tmp_path: Path) -> None:
    with contextlib.closing(connect(cluster_url)) as nodes:
        flush(nodes)
    location = str(tmp_path / "backups")
    with fresh_system(shared_redis, waking=False) as system:
        for number in range(20):
            system.do(*join(f"d{number}", on=number % 3 == 0, n=number))
        system.do(deploy("a", base("m"), "tags.on = true"), deploy("b", base("n"), "tags.n > 10", priority=5))
        vault = LazyVault(RedisSecretStore(system.log.client), tmp_path / "master.key")
        secret = vault.take_out(DefinePolicy("p", ("RegistryRead",), KEY, KEY))
        system.do(secret)
        system.log.client.hset("{fleet}:webhooks:progress", "w", b"{}")
        system.log.client.xadd("{fleet}:series:a", {"at": "5", "data": "{}"}, id="5-3")
        drain(system)
        before, projections = beside(system), system.everything_kept()
        made = cli(system, "backup", "--to", location)
        assert made.returncode == 0, made.stderr
        data = str(tmp_path / "data")
        restored = cli(system, "restore", "--from", location, "--redis-url", cluster_url, "--data", data)
        assert restored.returncode == 0, restored.stderr
        again = cli(
            system, "restore", "--from", location, "--redis-url", cluster_url, "--data", str(tmp_path / "other")
        )
        assert "not empty" in again.stderr
    with contextlib.closing(System(cluster_url, queue_url=shared_redis.url, waking=False)) as system:
        assert beside(system) == before
        assert system.log.client.xrange("{fleet}:series:a") == [(b"5-3", {b"at": b"5", b"data": b"{}"})]
        assert system.everything_kept() == projections
        vault = LazyVault(RedisSecretStore(system.log.client), tmp_path / "master.key")
        assert vault.opened.reveal(msgspec.to_builtins(secret.primary_key)) == KEY
        # It goes on there, and comes back with what was written there.
        system.do(*(PatchTags(f"d{number}", {"on": True}) for number in range(10)))
        drain(system)
        before, projections = beside(system), system.everything_kept()
        assert_rebuilt(system)
        made = cli(system, "backup", "--to", location)
        assert made.returncode == 0, made.stderr
        flush(system.queue)
        back = cli(
            system, "restore", "--from", location, "--redis-url", shared_redis.url, "--data", str(tmp_path / "back")
        )
        assert back.returncode == 0, back.stderr
    with contextlib.closing(System(shared_redis.url, waking=False)) as system:
        assert beside(system) == before
        assert system.everything_kept() == projections
        assert_rebuilt(system)


def test_a_backup_while_slots_move_is_whole_or_says_that_it_cannot_be(
    shared_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    with cluster() as nodes, contextlib.closing(System(nodes.url, queue_url=shared_redis.url, waking=False)) as system:
        for number in range(20):
            system.do(*join(f"d{number}", n=number))
        system.do(deploy("a", base("m"), "tags.n > 3"))
        drain(system)
        client: Any = system.log.client
        for number in range(200):
            client.xadd(f"{{fleet}}:series:x{number}", {"at": "5", "data": "{}"}, id="5-1")
        before = beside(system)
        ended = threading.Event()

        def move() -> None:
            round_number = 0
            while not ended.is_set():
                round_number += 1
                for number, slot in enumerate(slots_of(PARTITIONS).values()):
                    nodes.move(slot, nodes.masters[(number + round_number) % 3])

        mover = threading.Thread(target=move)
        mover.start()
        location = BackupLocation(str(tmp_path))
        made = []
        try:
            for attempt in range(8):
                with contextlib.suppress(LogUnavailable):
                    made.append(take(system.log, location, at=1_800_000_000_000 + attempt))
        finally:
            ended.set()
            mover.join()
        # Once nothing moves, a backup needs one attempt more at most: the first may find that slots have moved since.
        for attempt in range(2):
            with contextlib.suppress(LogUnavailable):
                made.append(take(system.log, location, at=1_900_000_000_000 + attempt))
        assert made
        for manifest in made:
            flush(client)
            verify(manifest, location, keys=None)
            claim(manifest, client)
            restore(manifest, location, client)
            rebuild_projections(system)
            finish(client)
            assert beside(system) == before
            assert len(list(client.scan_iter(match="{fleet}:series:*"))) == 200
        with pytest.raises(TargetNotEmpty):
            claim(made[0], client)
