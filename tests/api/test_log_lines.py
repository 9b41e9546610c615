"""What an API process says while it serves: lines for people on a terminal, JSON elsewhere."""

import json
import os
import pty
from pathlib import Path

import pytest

from services.embedded_redis import EmbeddedRedis
from tests.api.serving import api
from tests.workers.system import fresh_system

pytestmark = pytest.mark.redis_server

LEVEL = {"TWINFOLD_LOG_LEVEL": "info"}


def test_a_terminal_shows_no_line_for_each_request(shared_redis: EmbeddedRedis) -> None:
    master, terminal = pty.openpty()
    with fresh_system(shared_redis) as system:
        with open(terminal, "wb") as says, api(system, says=says, **LEVEL) as http:  # noqa: PTH123 - a descriptor
            assert http.get("/devices").is_success
        os.set_blocking(master, False)
        try:
            said = os.read(master, 1 << 16)
        except OSError:
            said = b""
        os.close(master)
    assert b"/devices" not in said
    assert b"{" not in said


@pytest.mark.full
def test_elsewhere_each_request_is_a_line_of_json_unless_it_is_declined(
    shared_redis: EmbeddedRedis, tmp_path: Path
) -> None:
    for declined in ("", "false"):
        file = tmp_path / f"said-{declined}"
        with (
            fresh_system(shared_redis) as system,
            file.open("wb") as says,
            api(system, says=says, **LEVEL, TWINFOLD_LOG_REQUESTS=declined) as http,
        ):
            assert http.get("/devices").is_success
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert bool([line for line in lines if line.get("path") == "/devices"]) is not bool(declined)
