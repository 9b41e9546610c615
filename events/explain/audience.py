"""The caller of an explanation: a caller limited to a scope learns nothing about devices outside of it."""

from typing import get_args

import msgspec

from events.explain.verdict import LoggedDeployment
from events.rollout.events import RolloutEvent

_ROLLOUT_EVENTS = frozenset(kind.__name__ for kind in get_args(RolloutEvent))
"""Event types that reveal how a rollout progresses, and so something about its devices."""


class Audience(msgspec.Struct, frozen=True):
    """A caller; `scope` is the text of the condition that limits the caller, `None` for a caller with access to all devices."""

    scope: str | None = None

    def may_know_rollout(self, logged: LoggedDeployment | None) -> bool:
        """Returns whether the caller may know how a deployment is rolled out: for a scoped caller, only if it has the same scope."""
        # `None` is a deleted deployment: its scope is unknown, so a scoped caller learns nothing of its rollout.
        return self.scope is None or (logged is not None and logged.document.scope == self.scope)

    def may_know(self, event_type: str, logged: LoggedDeployment | None) -> bool:
        """Returns whether the caller may know about an event on a deployment."""
        return event_type not in _ROLLOUT_EVENTS or self.may_know_rollout(logged)
