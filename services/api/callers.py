"""Who calls, and what they are allowed."""

import msgspec

from events.access.rights import Right
from events.envelope import Principal
from events.query.conditions import expression_of
from events.query.tree import Expression
from events.targeting.tree import Condition


class Caller(msgspec.Struct, frozen=True):
    """Whoever is behind a request.

    `device_id` and `module_id` are set where it is a device or a module itself, `policy` where they signed with its key.
    `scope` is the target condition that a scoped token is limited to; `None` for everybody else.
    """

    principal: Principal
    rights: frozenset[Right]
    device_id: str | None = None
    module_id: str | None = None
    policy: str | None = None
    scope: Condition | None = None

    @property
    def limit(self) -> Expression | None:
        """The scope as a condition of queries; `None` where there is none."""
        return None if self.scope is None else expression_of(self.scope)

    def may(self, rights: frozenset[Right]) -> bool:
        """Whether all of these rights are theirs."""
        return rights <= self.rights


NOBODY = Caller(Principal.parse("user:nobody"), frozenset())
"""Whoever was not let in."""

ANYBODY = Caller(Principal.parse("user:anybody"), frozenset(Right))
"""Everybody, where the API is open to its machine."""
