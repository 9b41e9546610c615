"""The names to re-evaluate when sets of the index change."""

from collections.abc import Hashable, Iterable, Mapping
from typing import Generic, TypeVar

from events.fleet.column import ValueKey
from events.query.tree import Path

N = TypeVar("N", bound=Hashable)
Values = frozenset[tuple[Path, ValueKey]]


class Watch(Generic[N]):
    """Names by what they watch: (path, value) pairs if only these matter, otherwise whole paths."""

    # With pairs, a report re-evaluates only the conditions on its own values and not all conditions on its path.
    def __init__(self) -> None:
        self.by_path: dict[Path, set[N]] = {}
        self.by_value: dict[tuple[Path, ValueKey], set[N]] = {}

    def add(self, name: N, paths: Iterable[Path], values: Values | None) -> None:
        """Watch pairs, or paths if `values` is `None`."""
        if values is None:
            for path in paths:
                self.by_path.setdefault(path, set()).add(name)
        else:
            for pair in values:
                self.by_value.setdefault(pair, set()).add(name)

    def remove(self, name: N, paths: Iterable[Path], values: Values | None) -> None:
        """Undo an `add` with the same arguments."""
        if values is None:
            for path in paths:
                _discard(self.by_path, path, name)
        else:
            for pair in values:
                _discard(self.by_value, pair, name)

    def adopt(self, other: "Watch[N]") -> None:
        """Become an independent copy of another watch."""
        self.by_path = {path: set(names) for path, names in other.by_path.items()}
        self.by_value = {pair: set(names) for pair, names in other.by_value.items()}

    def affected(self, touched: Mapping[Path, set[ValueKey]]) -> set[N]:
        """The names that watch at least one of these sets."""
        affected: set[N] = set()
        for path, keys in touched.items():
            affected |= self.by_path.get(path, frozenset())
            if len(self.by_value) < len(keys):
                affected.update(
                    *(names for (where, key), names in self.by_value.items() if where == path and key in keys)
                )
            else:
                for key in keys:
                    affected |= self.by_value.get((path, key), frozenset())
        return affected


K = TypeVar("K", bound=Hashable)


def _discard(names_by: dict[K, set[N]], key: K, name: N) -> None:
    names = names_by[key]
    names.discard(name)
    if not names:
        del names_by[key]
