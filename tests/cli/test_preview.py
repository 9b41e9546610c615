"""`--preview` and `--preview-token` as an operator types them."""

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from events.canonical import encode
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.api.serving import served
from tests.shortening import shortened
from tests.workers.system import System, base, deploy, join

pytestmark = pytest.mark.redis_server

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def serving(shared_redis: EmbeddedRedis) -> Iterator[tuple[System, httpx.Client]]:
    with served(shared_redis) as (system, http):
        for number in range(5):
            system.do(*join(f"d{number}", site="north" if number < 3 else "south"))
        system.do(deploy("ground", base("a"), "*", 1), deploy("north", base("b"), "tags.site = 'north'", 5))
        system.settle()
        yield system, http


@pytest.fixture
def system(serving: tuple[System, httpx.Client]) -> System:
    return serving[0]


@pytest.fixture
def command(serving: tuple[System, httpx.Client]) -> Callable[..., list[str]]:
    _, http = serving
    return lambda *words: [sys.executable, "-m", "services.cli", *words, "--api-url", str(http.base_url)]


@pytest.fixture
def twinfold(command: Callable[..., list[str]]) -> Run:
    def run(*words: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
        ran = waiting.run(command(*words))
        assert ran.returncode == code, ran
        return ran

    return run


def test_what_changes_for_how_many_comes_first_and_nothing_is_done(system: System, twinfold: Run) -> None:
    heads = system.log.heads()
    first, *rest = twinfold("deployment", "delete", "north", "--preview").stdout.splitlines()
    assert first == "3 devices would get another configuration"
    assert any("modules.b" in line and line.strip().startswith("-") for line in rest)
    assert system.log.heads() == heads


def test_with_the_token_of_a_preview_it_is_done_once_more_people_looked(
    system: System, twinfold: Run, tmp_path: Path
) -> None:
    manifest = tmp_path / "south.json"
    manifest.write_bytes(encode(base("c")))
    words = ["deployment", "create", "south", str(manifest), "--condition", "tags.site = 'south'", "--priority", "7"]
    shown = twinfold(*words, "--preview").stdout
    (token,) = re.findall(r"--preview-token (\S+)", shown)
    twinfold(*words, "--preview-token", token)
    system.settle()
    assert sorted(system.fleet_projection.members("south", "actual")) == ["d3", "d4"]


@pytest.mark.full
def test_another_effect_than_was_shown_exits_with_1_and_says_what_differs(system: System, twinfold: Run) -> None:
    words = ["deployment", "update", "north", "--priority", "9", "--condition", "tags.site = 'west'"]
    (token,) = re.findall(r"--preview-token (\S+)", twinfold(*words, "--preview").stdout)
    system.do(*join("d9", site="west"))
    system.settle()
    refused = twinfold(*words, "--preview-token", token, code=1)
    assert "differs from the preview" in refused.stderr


@pytest.mark.parametrize(("answer", "is_done"), shortened([("y", True), ("n", False)]))
def test_at_a_terminal_it_is_shown_and_asked(
    system: System, command: Callable[..., list[str]], answer: str, *, is_done: bool
) -> None:
    device, site = ("d0", "elsewhere") if is_done else ("d1", "nowhere")
    words = ["device", "tag", device, f"site={site}", "--preview"]
    main, other = pty.openpty()
    process = subprocess.Popen(command(*words), stdin=other, stdout=other, stderr=other)
    os.close(other)
    os.write(main, f"{answer}\n".encode())
    said = b""
    try:
        while more := os.read(main, 1000):
            said += more
    except OSError:  # So the end of a terminal is told on Linux.
        pass
    os.close(main)
    assert waiting.exit_code(process) == 0, said
    assert b"would get another configuration" in said
    tags = system.log.load([device])[0].snapshot or b""
    assert (b"elsewhere" in tags) is is_done
