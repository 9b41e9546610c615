"""Callers of the API, authors of events, and what they reach."""

import functools
from collections.abc import Mapping

import msgspec

from events.access.permissions import Permission
from events.access.scope import Scope
from events.deployment.state import DeploymentDocument
from events.envelope import Principal
from events.producer.keys import CommandKey
from events.projection_store.fleet_projection import Within
from events.projection_store.query_engine import QueryEngine
from events.query.tree import Expression


class ListPage(msgspec.Struct, frozen=True):
    """A page of one of a preview's lists; `continuation` is sealed."""

    name: str
    top: int
    continuation: str | None


class PreviewRequest(msgspec.Struct, eq=False):
    """What a request asks of previews: a dry run, or a write with the token of a preview.

    With a `page`, a dry run answers that page of a list instead of the whole preview. `between` is set once a token was
    accepted: the positions of the events since the preview.
    """

    is_dry_run: bool
    token: str
    page: ListPage | None
    between: str | None = None


class Author(msgspec.Struct, frozen=True):
    """The author of events. `scope` limits what they write; `key` is the Idempotency-Key of their request."""

    by: Principal
    scope: Scope | None = None
    preview_request: PreviewRequest | None = None
    key: CommandKey | None = None


class Caller(msgspec.Struct, frozen=True):
    """The caller of a request.

    `device_id` and `module_id` are set if the caller is a device or a module, `policy` if the request is signed with a policy's
    key. `scope` is that of a scoped token; `None` for every other credential.
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
    """When the token expires, in milliseconds since 1970; 0 is never."""

    @property
    def limit(self) -> Expression | None:
        """The scope as a condition of queries; `None` without a scope."""
        return None if self.scope is None else self.scope.condition

    def sees(self, document: DeploymentDocument, counts: Mapping[str, int]) -> bool:
        """Whether the caller owns a deployment, or it targets a device in their scope; `counts` are of those devices."""
        return self.owns(document) or counts["target"] > 0

    def owns(self, document: DeploymentDocument) -> bool:
        """Whether a deployment was made within the caller's scope, so that they see all of its devices and its rollout."""
        return self.scope is None or document.scope == self.scope.text

    def may(self, permissions: frozenset[Permission]) -> bool:
        """Whether the caller has all of these permissions."""
        return permissions <= self.permissions


NO_CALLER = Caller(Principal.parse("user:nobody"), frozenset())
"""The caller of a request that was not authenticated."""

ANYBODY = Caller(Principal.parse("user:anybody"), frozenset(Permission))
"""Every caller of an API with open access."""


def within_scope(query_engine: QueryEngine, scope: Scope | None) -> Within | None:
    """The ordinals in a scope, by partition, each read once; `None` without a scope: all devices. For one request."""
    if scope is None:
        return None
    condition = scope.condition
    return functools.cache(lambda number: query_engine.within(number, condition))
