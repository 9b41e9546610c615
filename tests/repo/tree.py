"""The files of the repository, as git would commit them."""

from functools import cache
from pathlib import Path

from tests import waiting

ROOT = Path(__file__).resolve().parents[2]


@cache
def files() -> tuple[Path, ...]:
    """Every file that is tracked, or would be by `git add`; relative to the root."""
    # The clone may belong to another user than the one who runs the tests.
    git = ["git", "-c", "safe.directory=*", "-C", str(ROOT)]
    listed = waiting.run([*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"], check=True).stdout
    return tuple(Path(name) for name in sorted(set(listed.split("\0"))) if name and (ROOT / name).is_file())


def text(path: Path) -> str:
    """A file's text; bytes that are not UTF-8 show as replacement characters."""
    return (ROOT / path).read_text(encoding="utf-8", errors="replace")
