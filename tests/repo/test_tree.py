"""What may lie in the repository, and what may stand in its files."""

import ast
import re

from tests.repo.tree import ROOT, files, text

TOP_LEVEL = {
    ".ci",
    ".dockerignore",
    ".gitignore",
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "compose.cluster.yaml",
    "compose.yaml",
    "docs",
    "events",
    "pyproject.toml",
    "services",
    "tests",
    "workers",
}
NOBODY_PLACED = {"utils", "util", "helpers", "common", "base", "manager", "models", "misc"}

# Put together here, or this file would find itself.
REGISTRY_HOSTS = re.compile(
    "|".join(["py" + r"pi\.org", "python" + r"hosted\.org", "npm" + r"js\.org", "crates" + r"\.io"])
)
MACHINE_PATHS = re.compile(
    r"(?<![\w.}])/(?:" + "|".join(["work", "ro" + "ot", "Us" + "ers", "tmp/ve" + "nv"]) + r")/\w"
)


def test_the_top_level_holds_only_what_the_architecture_names() -> None:
    assert {path.parts[0] for path in files()} <= TOP_LEVEL


def test_every_context_and_document_that_newcomers_are_sent_to_exists() -> None:
    for name in ("LICENSE", "CHANGELOG.md", "README.md", "docs/ARCHITECTURE.md", "docs/GLOSSARY.md", ".ci/run"):
        assert (ROOT / name).is_file(), name


def test_no_file_is_named_after_nothing() -> None:
    assert [path for path in files() if path.stem in NOBODY_PLACED] == []


def test_no_file_names_the_host_of_a_package_registry() -> None:
    assert [path for path in files() if REGISTRY_HOSTS.search(text(path))] == []


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    assert [path for path in files() if MACHINE_PATHS.search(text(path))] == []


def test_every_python_file_says_what_it_is_in_its_first_line() -> None:
    silent = [
        path
        for path in files()
        if path.suffix == ".py"
        and text(path).strip()
        and path.parts[0] != "tests"
        and not ast.get_docstring(ast.parse(text(path)))
    ]
    assert silent == []


def test_ci_can_be_run() -> None:
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
