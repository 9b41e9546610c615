"""Which devices of a partition have which parent: the scope of a parent → the ordinals of its children."""

from collections.abc import Mapping

from pyroaring import BitMap


class Children:
    """A device has at most one parent, which may be in another partition and is known by its scope alone."""

    def __init__(self) -> None:
        self.of: dict[str, BitMap] = {}
        self._parent_of: dict[int, str] = {}
        self.changed: set[str] = set()
        """The scopes that got or lost a child since this was emptied."""

    def restore(self, of: Mapping[str, BitMap]) -> None:
        """Become what was kept."""
        self.of = dict(of)
        self._parent_of = {ordinal: scope for scope, members in of.items() for ordinal in members}

    def put(self, ordinal: int, scope: str) -> None:
        """Give a device a parent; none with an empty scope."""
        previous_scope = self._parent_of.get(ordinal, "")
        if previous_scope == scope:
            return
        if previous_scope:
            self._leave(ordinal, previous_scope)
        if scope:
            self._parent_of[ordinal] = scope
            self.of.setdefault(scope, BitMap()).add(ordinal)
            self.changed.add(scope)

    def _leave(self, ordinal: int, scope: str) -> None:
        del self._parent_of[ordinal]
        self.of[scope].discard(ordinal)
        if not self.of[scope]:
            del self.of[scope]
        self.changed.add(scope)
