"""Every file and function that docs/ARCHITECTURE.md sends a newcomer to is there."""

import ast
import re
from pathlib import Path

import pytest

from tests.repo.tree import ROOT, files, text

PAGE = text(Path("docs/ARCHITECTURE.md"))
PLACE = re.compile(r"(?<![\w/.])((?:events|services|workers)/[\w./]*\w)(?::([A-Za-z_][\w.]*))?")
PLACES = sorted(set(PLACE.findall(PAGE)))


def names_of(file: Path) -> set[str]:
    """What a module defines: functions, classes, and the methods of these."""
    names = set()
    for node in ast.parse(text(file)).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef))
            names.update(f"{node.name}.{method.name}" for method in methods)
    return names


@pytest.mark.parametrize(("path", "name"), PLACES)
def test_what_the_architecture_names_exists(path: str, name: str) -> None:
    assert (ROOT / path).exists()
    assert not name or name in names_of(Path(path))


def test_the_architecture_names_every_package_of_the_product() -> None:
    packages = {path.parts[1] for path in files() if path.parts[0] == "events" and len(path.parts) > 2}
    packages |= {path.parts[1] for path in files() if path.parts[0] == "services" and len(path.parts) > 2}
    assert [package for package in sorted(packages) if not re.search(rf"`(?:\w+/)?{package}`", PAGE)] == []
