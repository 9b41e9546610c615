"""A command starts with what it needs: what others need takes longer to import than most commands take."""

import sys
from pathlib import Path

import pytest

from services.cli.app import COMMANDS
from tests import waiting

# Beside typer (with pydantic and rich), which every command needs.
SERVERS = {
    "asyncio",
    "cryptography",
    "duckdb",
    "fastapi",
    "fsspec",
    "numpy",
    "prometheus_client",
    "pyarrow",
    "pyroaring",
    "redis",
    "rq",
    "structlog",
    "uvicorn",
}

LOADED_BY_HELP = """
import sys
from services.cli.app import COMMANDS, app
import typer
program = typer.main.get_command(app)
loaded = {}
for name in COMMANDS:
    before = set(sys.modules)
    program.commands[name]
    loaded[name] = sorted((set(sys.modules) - before) & set(sys.argv[1:]))
print({name: modules for name, modules in loaded.items() if modules})
"""

LOADED_BY_RUNNING = """
import sys
from services.cli.__main__ import main
expected = int(sys.argv.pop(1))
try:
    main()
except SystemExit as end:
    assert (end.code or 0) == expected, end.code
print(*sorted(name for name in sys.modules), file=sys.stderr)
"""


def modules_after(directory: Path, *words: str, code: int = 0) -> set[str]:
    environment = {"TWINFOLD_DATA_DIR": str(directory), "PATH": ""}
    ran = waiting.run(
        [sys.executable, "-c", LOADED_BY_RUNNING, str(code), *words], env=environment, cwd=Path(__file__).parents[2]
    )
    assert ran.returncode == 0, ran.stderr
    return set(ran.stderr.splitlines()[-1].split())


def test_the_help_of_a_command_loads_no_server_and_no_client() -> None:
    ran = waiting.run([sys.executable, "-c", LOADED_BY_HELP, *SERVERS, "httpx"], check=True)
    assert ran.stdout == "{}\n"


def test_the_help_of_the_program_loads_no_command(tmp_path: Path) -> None:
    of_commands = {place.partition(":")[0] for place, _ in COMMANDS.values()}
    assert modules_after(tmp_path, "--help") & (of_commands | SERVERS | {"httpx"}) == set()


def test_a_version_loads_no_command_and_no_help(tmp_path: Path) -> None:
    of_commands = {place.partition(":")[0] for place, _ in COMMANDS.values()}
    assert modules_after(tmp_path, "--version") & (of_commands | SERVERS | {"httpx", "rich.markdown"}) == set()


@pytest.mark.parametrize(
    "words", [("device", "show", "edge-1"), ("explain", "edge-1"), ("rollout", "list")], ids=" ".join
)
def test_a_command_that_asks_the_api_loads_its_client_alone_also_when_it_fails(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    loaded = modules_after(tmp_path, *words, "--api-url", "http://127.0.0.1:1", code=3)
    assert "httpx" in loaded
    # httpx loads asyncio itself.
    assert loaded & (SERVERS - {"asyncio"} | {"rich.markdown"}) == set()
