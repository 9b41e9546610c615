"""Whether the packages Python finds under our names are ours; others may be installed as `events`, too."""

import ast
import importlib.util
from pathlib import Path

PACKAGES = ("events", "services", "workers")

_ROOT = Path(__file__).resolve().parent.parent


class PackageShadowed(Exception):
    """Another package goes by a name of ours. Install twinfold into an environment of its own."""

    def __init__(self, name: str, *, actual: Path | None, expected: Path) -> None:
        if actual is None:
            what = "Python finds none"
        elif actual.parent == expected:
            what = f"another distribution has put its own {actual.name} there"
        else:
            what = f"Python finds {actual}"
        super().__init__(
            f"twinfold's package {name!r} belongs at {expected}, but {what};"
            f" uninstall what else provides {name!r}, clear PYTHONPATH,"
            " or install twinfold into a virtual environment of its own"
        )
        self.name, self.found, self.expected = name, actual, expected


def check() -> None:
    """Make sure that importing our packages gets ours, without importing them.

    Raises:
        PackageShadowed: one is elsewhere, missing, or overwritten in place by another distribution's.
    """
    for name in PACKAGES:
        expected = _ROOT / name
        actual = _found(name)
        if actual is None or actual.parent != expected or not _is_ours(actual):
            raise PackageShadowed(name, actual=actual, expected=expected)


def _found(name: str) -> Path | None:
    """The file that `import name` would run first; `None` for no package or one without such a file."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).resolve()


def _is_ours(init: Path) -> bool:
    """Whether a package's first file says in its docstring that it is twinfold's; another distribution's would not."""
    return "twinfold" in (ast.get_docstring(ast.parse(init.read_bytes())) or "")
