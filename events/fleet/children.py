"""The children of parent devices: the scope of a parent → the ordinals of its children in a partition."""

from collections.abc import Mapping

from pyroaring import BitMap


class Children:
    """The children by parent. A device has at most one parent, which can be in another partition; only its scope is stored."""

    def __init__(self) -> None:
        self.of: dict[str, BitMap] = {}
        self._parent_of: dict[int, str] = {}
        self.changed: set[str] = set()
        """The scopes that gained or lost a child since the last commit."""

    def restore(self, of: Mapping[str, BitMap]) -> None:
        """Restore the stored children."""
        self.of = dict(of)
        self._parent_of = {ordinal: scope for scope, members in of.items() for ordinal in members}

    def put(self, ordinal: int, scope: str) -> None:
        """Set a device's parent; an empty scope removes it."""
        previous_scope = self._parent_of.get(ordinal, "")
        if previous_scope == scope:
            return
        if previous_scope:
            del self._parent_of[ordinal]
            self.of[previous_scope].discard(ordinal)
            if not self.of[previous_scope]:
                del self.of[previous_scope]
            self.changed.add(previous_scope)
        if scope:
            self._parent_of[ordinal] = scope
            self.of.setdefault(scope, BitMap()).add(ordinal)
            self.changed.add(scope)
