"""Who an explanation is for: a caller who is kept to a scope learns nothing about devices outside of it."""

from typing import get_args

import msgspec

from events.explain.verdict import LoggedDeployment
from events.rollout.events import RolloutEvent

_ROLLOUT_EVENTS = frozenset(kind.__name__ for kind in get_args(RolloutEvent))
"""Types of events that tell how a rollout goes, and with it about its devices."""


class Audience(msgspec.Struct, frozen=True):
    """A caller; `scope` is the text of the condition that the caller is kept to, `None` for a caller of all devices."""

    scope: str | None = None

    def may_know_rollout(self, known: LoggedDeployment | None) -> bool:
        """Whether the caller may know how a deployment is rolled out: a scoped caller, where all of its devices are in the scope.

        `None` is a deployment that is gone: nothing says which scope it had.
        """
        return self.scope is None or (known is not None and known.document.scope == self.scope)

    def may_know(self, event_type: str, known: LoggedDeployment | None) -> bool:
        """Whether the caller may know about an event on a deployment."""
        return event_type not in _ROLLOUT_EVENTS or self.may_know_rollout(known)
