"""Who calls, and what they are allowed."""

from collections.abc import Mapping

import msgspec

from events.access.permissions import Permission
from events.access.scope import Scope
from events.deployment.state import DeploymentDocument
from events.envelope import Principal
from events.producer.keys import CommandKey
from events.query.tree import Expression


class ListPage(msgspec.Struct, frozen=True):
    """A page of one of a preview's lists; `continuation` is sealed."""

    name: str
    top: int
    continuation: str | None


class PreviewRequest:
    """What a request says of previews: it only looks, or shows the token of one.

    With a `page`, who only looks sees that instead of the whole. `between` is told once a token held: where events came in
    since it was given.
    """

    def __init__(self, *, looks: bool, token: str, page: ListPage | None) -> None:
        self.looks, self.token, self.page = looks, token, page
        self.between: str | None = None


class Author(msgspec.Struct, frozen=True):
    """Whoever is behind events, the scope that what they write is kept within, whether they look first, and the key of their request."""

    by: Principal
    scope: Scope | None = None
    asked: PreviewRequest | None = None
    key: CommandKey | None = None


class Caller(msgspec.Struct, frozen=True):
    """Whoever is behind a request.

    `device_id` and `module_id` are set where it is a device or a module itself, `policy` where they signed with its key.
    `scope` is what a scoped token is limited to; `None` for everybody else.
    """

    principal: Principal
    permissions: frozenset[Permission]
    device_id: str | None = None
    module_id: str | None = None
    policy: str | None = None
    scope: Scope | None = None
    role: str = ""
    """The role of a token; empty for every other credential."""
    expires_at: int = 0
    """When the token ends, in milliseconds since 1970; 0 is never."""

    @property
    def limit(self) -> Expression | None:
        """The scope as a condition of queries; `None` where there is none."""
        return None if self.scope is None else self.scope.condition

    def sees(self, document: DeploymentDocument, counts: Mapping[str, int]) -> bool:
        """Whether a deployment is theirs, or targets anybody of those counted, whom they reach."""
        return self.owns(document) or counts["target"] > 0

    def owns(self, document: DeploymentDocument) -> bool:
        """Whether all devices of a deployment are theirs: they see how it is rolled out, too."""
        return self.scope is None or document.scope == self.scope.text

    def may(self, permissions: frozenset[Permission]) -> bool:
        """Whether all of these permissions are theirs."""
        return permissions <= self.permissions


NOBODY = Caller(Principal.parse("user:nobody"), frozenset())
"""Whoever was not let in."""

ANYBODY = Caller(Principal.parse("user:anybody"), frozenset(Permission))
"""Everybody, where the API is open to its machine."""
