"""What docs/guides/archive.md shows, run as it is written."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import duckdb
import pytest

from events import PatchTags
from events.log.archive.columns import schema
from events.notification.archive_mover import open_mover
from events.producer.errors import Command
from events.settings import read_settings
from services.embedded_redis import EmbeddedRedis
from tests.repo.tree import text
from tests.workers.system import PARTITIONS, base, deploy, fresh_system, join
from workers.projector import Projector

pytestmark = pytest.mark.redis_server

PAGE = text(Path("docs/guides/archive.md"))


def test_the_queries_of_the_page_answer_from_files_alone(
    shared_redis: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = [*join("edge-7", site="north"), *join("edge-8", site="north"), deploy("cameras", base("m"))]
    archive(shared_redis, tmp_path, *commands, PatchTags("edge-7", {"site": "south"}))
    monkeypatch.chdir(tmp_path)
    by_day, of_a_tag = answers()
    assert [(str(day), by, events) for day, by, events in by_day] == [("1970-01-02 00:00:00", "user:ada", 5)]
    assert [site for _, site, _, _ in of_a_tag] == ["north", "south"]
    assert re.search(r"1970-01-02 00:00:00\W+2\b", printed()), printed()


@pytest.mark.parametrize("commands", [join("edge-7"), [deploy("cameras", base("m"))]], ids=["devices", "fleet"])
def test_the_queries_of_the_page_also_answer_from_a_small_archive(
    shared_redis: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: list[Command]
) -> None:
    archive(shared_redis, tmp_path, *commands)
    monkeypatch.chdir(tmp_path)
    answers()
    assert "0 rows" in printed()


def archive(server: EmbeddedRedis, location: Path, *commands: Command) -> None:
    with fresh_system(server, at=86_400_000) as system:
        system.do(*commands)
        projector = Projector(system.log, system.projections, clock=lambda: 86_400_000)
        for number in range(PARTITIONS):
            projector.drain(number, go_on=lambda: True)
        mover = open_mover(system.log, read_settings(archive_url=str(location / "archive"), archive_segment_events=1))
        mover.settle()
        for stream in mover.streams:
            mover.write(stream)


def answers() -> list[list[Any]]:
    return [duckdb.sql(query).fetchall() for query in re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)]


def printed() -> str:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(program, "docs/guides/archive.md", "exec"), {})  # noqa: S102 - our own page
    return output.getvalue()


def test_the_columns_of_the_page_are_those_of_a_segment() -> None:
    assert re.findall(r"^\| `(\w+)` \|", PAGE.partition("## What is in it")[2], re.MULTILINE) == schema().names
