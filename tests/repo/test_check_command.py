"""The commands about readiness in README, its page and the first steps, as they are written."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from events.canonical import encode
from services.cli.app import app
from services.demo.manifests import base, camera_layer
from tests.repo.tree import text

PAGES = (Path("README.md"), Path("docs/reference/readiness.md"), Path("docs/start/first-steps.md"))
COMMANDS = [line for page in PAGES for line in re.findall(r"^(?:    )?twinfold (check .*)$", text(page), re.MULTILINE)]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_pages_works_as_it_is_written(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.chdir(tmp_path)
    for name, content in {
        "deployment.json": base("1.0.0"),
        "deployment.template.json": base("1.0.0"),
        "base.json": base("1.0.0"),
        "camera.json": camera_layer(),
    }.items():
        Path(name).write_bytes(encode(content))
    ran = CliRunner().invoke(app, shlex.split(command, comments=True))
    assert ran.exit_code in (0, 1), ran.output
    assert ran.output.splitlines()[-1].startswith("1 file: ")


def test_the_pages_have_commands() -> None:
    assert len(COMMANDS) == 6


def test_the_pipeline_of_the_page_has_flags_that_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (script,) = re.findall(r"twinfold (check --baseline .*?) > readiness.sarif", text(PAGES[1]), re.DOTALL)
    (waivers,) = re.findall(r"```toml\n(.*?)```", text(PAGES[1]), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("deployments").mkdir()
    Path("deployments/line.json").write_text("{}")
    Path(".readiness-waivers.toml").write_text(waivers)
    runner = CliRunner()
    words = shlex.split(script.replace("\\\n", " ").replace("*", "line"))
    assert (
        runner.invoke(app, ["check", "deployments/line.json", "--write-baseline", ".readiness-baseline.json"]).exit_code
        == 0
    )
    ran = runner.invoke(app, words)
    assert (ran.exit_code, '"version": "2.1.0"' in ran.output) == (0, True)
