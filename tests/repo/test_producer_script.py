"""The producer script of docs/guides/producers.md, as a user would run it."""

import csv
import re
import sys
from pathlib import Path

import pytest

from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.repo.tree import text
from tests.workers.system import base as content
from tests.workers.system import deploy, fresh_system

pytestmark = pytest.mark.redis_server

DEVICES = 10_000


def script() -> str:
    found = re.search(r"<!-- producer-script.*?```python\n(.*?)```", text(Path("docs/guides/producers.md")), re.DOTALL)
    assert found is not None
    assert len([line for line in found[1].splitlines() if line.strip()]) <= 16
    return found[1]


def test_the_script_of_the_page_tags_ten_thousand_devices(
    shared_redis: EmbeddedRedis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, table = tmp_path / "script.py", tmp_path / "devices.csv"
    program.write_text(script())
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["device", "site", "line"])
        writer.writerows([f"edge-{number}", f"site-{number % 7}", number % 3 or ""] for number in range(DEVICES))
        writer.writerow(["not an id", "site-0", "1"])
        writer.writerow(["edge-1", "site\nof two lines", "x" * 5000])
    with fresh_system(shared_redis) as system, system.process("-m", "workers.pool"):
        system.do(deploy("a", content("temp"), "tags.site = 'site-3' AND is_defined(tags.line)"))
        command = [sys.executable, str(program), system.url, str(table)]
        monkeypatch.setenv("TWINFOLD_DATA_DIR", str(tmp_path))
        first = waiting.run(command, check=True)
        assert first.stdout == f"{2 * DEVICES} events are in the log\n"
        refused = first.stderr.splitlines()
        assert refused[0].startswith(f"{table}, line {DEVICES + 2}: device id 'not an id'")
        assert refused[-1].startswith(
            f"{table}, line {DEVICES + 4}: edge-1: tags.line: a string has at most 4096 bytes"
        )
        system.settle()
        wanted = [number for number in range(DEVICES) if number % 7 == 3 and number % 3]
        assert sorted(system.fleet_projection.members("a", "actual")) == sorted(f"edge-{number}" for number in wanted)
        again = waiting.run(command, check=True)
        assert again.stdout == "0 events are in the log\n"
