"""The names to re-evaluate when sets of the index change."""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from events.fleet.column import ValueKey
from events.query.tree import Path

N = TypeVar("N", bound=Hashable)
Values = frozenset[tuple[Path, ValueKey]]


class Watch(Generic[N]):
    """Names by what they watch: (path, value) pairs if only these matter, otherwise whole paths, with `None` as the value."""

    # With pairs, a report re-evaluates only the conditions on its own values and not all conditions on its path.
    def __init__(self) -> None:
        self.names: dict[Path, dict[ValueKey | None, set[N]]] = {}

    def add(self, name: N, paths: Iterable[Path], values: Values | None) -> None:
        """Watch pairs, or paths if `values` is `None`."""
        for path, key in _pairs(paths, values):
            self.names.setdefault(path, {}).setdefault(key, set()).add(name)

    def remove(self, name: N, paths: Iterable[Path], values: Values | None) -> None:
        """Undo an `add` with the same arguments."""
        for path, key in _pairs(paths, values):
            names = self.names[path]
            names[key].discard(name)
            if not names[key]:
                del names[key]
            if not names:
                del self.names[path]

    def adopt(self, other: "Watch[N]") -> None:
        """Become an independent copy of another watch."""
        self.names = {path: {key: set(names) for key, names in of.items()} for path, of in other.names.items()}

    def affected(self, touched: Mapping[Path, set[ValueKey]]) -> set[N]:
        """The names that watch at least one of these sets."""
        affected: set[N] = set()
        for path, keys in touched.items():
            if names := self.names.get(path):
                affected.update(names.get(None, ()), *(names[key] for key in names.keys() & keys))
        return affected


def _pairs(paths: Iterable[Path], values: Values | None) -> Iterator[tuple[Path, ValueKey | None]]:
    return ((path, None) for path in paths) if values is None else iter(values)
