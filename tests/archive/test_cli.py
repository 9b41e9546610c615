"""`twinfold archive` as people and programs use it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from events.clock import now_ms
from events.log.keys import key
from events.log.object_store import ObjectStore
from events.log.redis import RedisLog
from services.cli.app import app
from services.embedded_redis import EmbeddedRedis
from tests.archive.streams import fresh_log, seal_all, write_events

pytestmark = pytest.mark.redis_server


@pytest.fixture
def log(shared_redis: EmbeddedRedis) -> Iterator[RedisLog]:
    # Of this hour: a rest that fills no file is written once it is old.
    at = now_ms() - 3_600_000
    with fresh_log(shared_redis, at=at) as made:
        write_events(made, 20, at=at)
        seal_all(made)
        # Projections that have seen everything.
        made.client.set("{p00}:projection:checkpoint", json.dumps({"vector": [100, 1], "assignment_changes": 0}))
        yield made


def _run(log: RedisLog, location: Path, *words: str, code: int = 0) -> str:
    host = log.client.connection_pool.connection_kwargs  # type: ignore[union-attr]
    url = f"unix://{host['path']}" if "path" in host else f"redis://{host['host']}:{host['port']}"
    moving = () if words[:1] in {("list",), ("verify",)} else ("--archive-url", str(location), "--segment-events", "30")
    ran = CliRunner().invoke(app, ["archive", *words, "--redis-url", url, *moving])
    assert ran.exit_code == code, ran.output
    return ran.output


def _json(log: RedisLog, location: Path, *words: str, code: int = 0) -> Any:
    return json.loads(_run(log, location, *words, "--json", code=code))


def test_a_dry_run_says_what_would_be_done_and_does_nothing(log: RedisLog, tmp_path: Path) -> None:
    _run(log, tmp_path, "--write-only")
    log.client.hset("{p00}:log:holders", "sealer", "40")
    (waiting,) = [one for one in _json(log, tmp_path, "--dry-run", "--keep-days", "0") if one["stream"] == "p00"]
    assert waiting == {
        "stream": "p00",
        "head": 100,
        "written": 90,
        "wouldBeWritten": 90,
        "trimmed": 0,
        "wouldBeTrimmed": 30,
        "holders": {"projections": 100, "sealer": 40},
        "heldBy": "sealer",
    }
    assert "sealer, at 40" in _run(log, tmp_path, "--dry-run", "--keep-days", "0")
    assert log.client.xlen(key(0, "log")) == 100


def test_moving_listing_and_verifying(log: RedisLog, tmp_path: Path) -> None:
    assert _run(log, tmp_path, "list") == "nothing is archived yet\n"
    (written,) = [one for one in _json(log, tmp_path) if one["written"]]
    assert written.keys() == {"stream", "segments", "written", "bytes", "trimmed", "heldBy"}
    assert (written["segments"], written["written"], written["trimmed"]) == (3, 90, 0)
    assert "p00: 0 written in 0 files (0.0 MB), 90 removed from Redis" in _run(log, tmp_path, "--keep-days", "0")
    nothing = _run(log, tmp_path, "--keep-days", "0")
    assert nothing.startswith("nothing to do\n")
    assert "all archived events are removed already" in nothing
    listed = _json(log, tmp_path, "list")
    assert listed["url"] == str(tmp_path)
    (stream,) = [one for one in listed["streams"] if one["segments"]]
    assert (stream["written"], stream["trimmed"]) == (90, 90)
    first, second, _ = stream["segments"]
    assert first.keys() == {
        "name",
        "stream",
        "first",
        "last",
        "bytes",
        "sha256",
        "before",
        "after",
        "firstAt",
        "lastAt",
    }
    name = second["name"]
    assert name in _run(log, tmp_path, "list")
    assert _json(log, tmp_path, "verify") == {"verified": 90, "faults": []}
    ObjectStore(str(tmp_path)).delete(name)
    (fault,) = _json(log, tmp_path, "verify", code=1)["faults"]
    assert (fault["fault"], name in fault["message"]) == ("SegmentMissing", True)
    assert "90 events and assignment changes in the archive, 1 fault\n" in _run(log, tmp_path, "verify", code=1)


def test_an_archive_that_moves_nothing_says_why(log: RedisLog, tmp_path: Path) -> None:
    def reasons(*words: str) -> str:
        _run(log, tmp_path, *words)
        again = _run(log, tmp_path, *words)
        assert _run(log, tmp_path, *words, "--dry-run").endswith(again)
        return again

    written = reasons("--write-only")
    assert "a file takes 30 events of one stream" in written
    assert "p00 has the most: 10" in written
    assert "Redis" not in written
    assert "--keep-days (TWINFOLD_ARCHIVE_KEEP_DAYS) is inf, so everything stays there" in reasons("--keep-days", "inf")
    assert "in 1 stream the next file has events younger than --keep-days 7" in reasons()
    assert "in 1 stream the next file has events younger than --keep-days 30000" in reasons("--keep-days", "30000")
    log.client.hset("{p00}:log:holders", "sealer", "20")
    assert "p00 is still needed by sealer, which is at position 20" in reasons("--keep-days", "0")


def test_a_stream_that_lost_entries_is_named_and_every_other_is_moved_all_the_same(
    log: RedisLog, tmp_path: Path
) -> None:
    log.client.xdel("{p00}:log", "3-0")
    for number in range(1, 41):
        log.client.xadd("{p00}:assignments", {"at": str(number), "cause": "p00:1", "data": "{}"}, id=f"{number}-0")
    said = _run(log, tmp_path, "--write-only", code=1)
    assert "p00: expected position 3" in said
    assert "p00:assignments: 30 written in 1 file" in said
