"""A package of somebody else's under one of our names is found before anything of it runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from services import shadow
from tests import waiting
from tests.repo.tree import ROOT

FOREIGN = 'raise RuntimeError("foreign code ran")\n'


def twinfold(*path: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`twinfold --version` by an interpreter that looks for packages in these places first."""
    return waiting.run(
        [sys.executable, "-c", "from services.cli.__main__ import main; main()", "--version"],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
    )


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    made = tmp_path / "elsewhere"
    made.mkdir()
    return made


def test_our_own_packages_pass() -> None:
    shadow.check()


def test_the_program_starts_where_nothing_shadows_it(elsewhere: Path) -> None:
    ran = twinfold(ROOT, cwd=elsewhere)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("name", ["events", "workers"])
def test_a_foreign_package_earlier_on_the_path_is_named_with_the_remedy(
    tmp_path: Path, elsewhere: Path, name: str
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text(FOREIGN)
    ran = twinfold(tmp_path, ROOT, cwd=elsewhere)
    assert ran.returncode == 1
    assert str(tmp_path / name / "__init__.py") in ran.stderr
    assert "virtual environment" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


@pytest.mark.full
def test_a_foreign_module_file_is_found_too(tmp_path: Path, elsewhere: Path) -> None:
    (tmp_path / "events.py").write_text(FOREIGN)
    ran = twinfold(tmp_path, ROOT, cwd=elsewhere)
    assert ran.returncode == 1
    assert str(tmp_path / "events.py") in ran.stderr


@pytest.mark.full
def test_a_package_that_was_installed_over_ours_is_found(tmp_path: Path, elsewhere: Path) -> None:
    for name in shadow.PACKAGES:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "events" / "__init__.py").write_text(FOREIGN)
    ran = twinfold(tmp_path, cwd=elsewhere)
    assert ran.returncode == 1
    assert "'events'" in ran.stderr
    assert "foreign code ran" not in ran.stderr
