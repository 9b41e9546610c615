"""Checks that the packages which Python finds under twinfold's names are twinfold's."""

import ast
import importlib.util
from pathlib import Path

PACKAGES = ("events", "services", "workers")

_ROOT = Path(__file__).resolve().parent.parent


class PackageShadowed(Exception):
    """Another package has a name of twinfold's. Install twinfold into a virtual environment of its own."""

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
        self.name, self.actual, self.expected = name, actual, expected


def check() -> None:
    """Check twinfold's packages without importing them.

    Raises:
        PackageShadowed: one is elsewhere, missing, or overwritten by another distribution.
    """
    # The names are common words. With another distribution's `events`, an import would fail far from the cause.
    for name in PACKAGES:
        expected = _ROOT / name
        spec = importlib.util.find_spec(name)
        # The file that `import name` would run first. Ours names twinfold in its docstring.
        actual = Path(spec.origin).resolve() if spec is not None and spec.origin is not None else None
        if (
            actual is None
            or actual.parent != expected
            or "twinfold" not in (ast.get_docstring(ast.parse(actual.read_bytes())) or "")
        ):
            raise PackageShadowed(name, actual=actual, expected=expected)
