"""README, decisions and compose.yaml say what they must, and what they point at is there."""

import re
import tomllib
from pathlib import Path

import pytest

from events.settings import ENV_PREFIX, Settings
from services.cli.app import COMMANDS
from tests.repo.tree import ROOT, files, text

README = text(Path("README.md"))
DECISIONS = sorted((ROOT / "docs/decisions").glob("*.md"))
PAGES = [path for path in files() if path.suffix == ".md" and path.parts[0] == "docs" and "decisions" not in path.parts]
ONE_SCREEN_LINES = 60
README_WORDS_MAX = 700
LINE_CHARACTERS_MAX = 120
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
MENTION = re.compile(r"(?<![\w/.-])docs/[\w/.-]+\.(?:md|json)\b")
VARIABLE = re.compile(r"TWINFOLD_[A-Z_]*[A-Z]")


@pytest.mark.parametrize("command", ["pip install . && twinfold demo", "pip install -e '.[test]' && pytest"])
def test_the_readme_has_the_two_commands(command: str) -> None:
    assert command in [line.strip() for line in README.splitlines()]


@pytest.mark.parametrize("word", ["appendfsync always", "everysec", "failover"])
def test_the_page_for_operators_says_what_can_be_lost(word: str) -> None:
    assert word in text(Path("docs/guides/operating.md"))


def test_the_readme_has_at_most_700_words() -> None:
    assert len(README.split()) <= README_WORDS_MAX


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_the_first_paragraph_of_a_page_says_whom_it_is_for(page: Path) -> None:
    assert text(page).split("\n\n")[1].startswith("For ")


def test_lines_of_text_have_at_most_120_characters() -> None:
    long = [
        (page, number)
        for page in [Path("README.md"), *PAGES]
        for number, line in enumerate(text(page).splitlines(), 1)
        if len(line) > LINE_CHARACTERS_MAX and not line.startswith("|")
    ]
    assert long == []


def test_every_setting_has_a_row() -> None:
    known = {f"{ENV_PREFIX}{name}".upper() for name in Settings.model_fields}
    rows = [line for line in text(Path("docs/reference/settings.md")).splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in VARIABLE.findall(row.split("|")[1])} == known


def test_every_command_has_a_row() -> None:
    rows = [line for line in text(Path("docs/reference/cli.md")).splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`([a-z-]+)`", row.split("|")[1])} == set(COMMANDS)


@pytest.mark.parametrize("document", [path for path in files() if path.suffix == ".md"], ids=str)
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    for target, anchor in LINK.findall(text(document)):
        page = ROOT / document.parent / target if target else ROOT / document
        assert page.exists(), target
        assert not anchor or anchor in anchors(page), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The anchors that a reader's browser finds on a page: its headings in lower case, with hyphens for spaces."""
    headings = HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_that_a_file_mentions_exists() -> None:
    mentions = {(file, page) for file in files() if file.name != "CHANGELOG.md" for page in MENTION.findall(text(file))}
    assert [(file, page) for file, page in sorted(mentions) if not (ROOT / page).is_file()] == []


def test_the_table_of_contents_lists_every_page() -> None:
    contents = text(Path("docs/README.md"))
    listed = {(ROOT / "docs" / target).resolve() for target, _ in LINK.findall(contents)}
    assert {ROOT / page for page in PAGES if page.name != "README.md"} - listed == set()


@pytest.mark.parametrize(
    "document",
    [*(path for path in files() if path.suffix == ".md"), Path("compose.yaml"), Path("compose.cluster.yaml")],
    ids=str,
)
def test_every_variable_in_a_document_is_a_setting(document: Path) -> None:
    known = {f"{ENV_PREFIX}{name}".upper() for name in Settings.model_fields}
    assert set(VARIABLE.findall(text(document))) <= known


def test_no_two_decisions_have_the_same_number() -> None:
    numbers = [path.name[:4] for path in DECISIONS]
    assert sorted(set(numbers)) == numbers


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda path: path.name)
def test_a_decision_fits_a_screen_and_begins_with_its_number(decision: Path) -> None:
    lines = decision.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith(f"# {decision.name[:4]} ")
    assert any(line.startswith("**Decision.**") for line in lines)
    assert len(lines) <= ONE_SCREEN_LINES


def test_every_dependency_has_a_row_with_its_reason() -> None:
    project = tomllib.loads(text(Path("pyproject.toml")))["project"]
    rows = [line for line in text(Path("docs/decisions/0001-dependencies.md")).splitlines() if line.startswith("| ")]
    explained = {name.strip() for row in rows for name in row.split("|")[1].split(",")}
    required = {re.split(r"[>=<;\[ ]", requirement)[0] for requirement in project["dependencies"]}
    assert required - explained == set()


def test_no_dependency_is_explained_that_is_not_required() -> None:
    project = tomllib.loads(text(Path("pyproject.toml")))["project"]
    rows = [line for line in text(Path("docs/decisions/0001-dependencies.md")).splitlines() if line.startswith("| ")]
    explained = {name.strip() for row in rows[1:] for name in row.split("|")[1].split(",")}
    required = {re.split(r"[>=<;\[ ]", requirement)[0] for requirement in project["dependencies"]}
    assert explained - required == set()
