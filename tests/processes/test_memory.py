"""What the processes of a system do not load, because it would take memory in each of them."""

import os
import sys

import pytest

from tests import waiting

NOWHERE = {"TWINFOLD_REDIS_URL": "redis://127.0.0.1:1"}
"""They end after their imports: no Redis is there."""


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("workers", ("rich.segment", "httpx._client", "fastapi")),
        ("workers.pool", ("rich.segment", "httpx._client", "fastapi")),
        ("services.scheduler", ("rich.segment", "fastapi")),
        ("services.api", ("rich.segment",)),
    ],
)
def test_a_process_does_not_load_what_it_never_uses(module: str, absent: tuple[str, ...]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", module]
    ran = waiting.run(command, env={**os.environ, **NOWHERE}, seconds_max=2 * waiting.SECONDS_MAX)
    loaded = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines() if line.startswith("import time:")}
    assert ran.returncode == 3
    assert "structlog.dev" in loaded
    assert loaded.isdisjoint(absent)
