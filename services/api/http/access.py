"""What a route declares of its requests: who may send them, whether they look at the past, and what they cost."""

import enum
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar

import msgspec

from events.access.permissions import Permission
from services.api.http.request_costs import Cost

H = TypeVar("H", bound=Callable[..., Any])


class Open(enum.Enum):
    """Routes that require no permission: without credentials, or with any valid ones."""

    ANYBODY = "anybody"
    AUTHENTICATED = "authenticated"


Permissions = frozenset[Permission] | Open
"""All of the permissions, or none at all."""

REGISTRY_READ, REGISTRY_WRITE = frozenset({Permission.REGISTRY_READ}), frozenset({Permission.REGISTRY_WRITE})
TWIN_READ, TWIN_WRITE = frozenset({Permission.TWIN_READ}), frozenset({Permission.TWIN_WRITE})
ADMIN, AUDIT_READ = frozenset({Permission.ADMIN}), frozenset({Permission.AUDIT_READ})
SERVICE_CONNECT = frozenset({Permission.SERVICE_CONNECT})

DECLARED = "declared_access"
"""The attribute of a handler, or of a route, that has its declaration."""


class Access(msgspec.Struct, frozen=True):
    """The declaration of a route, and the decorator of a handler that attaches it.

    With `own`, credentials of the device that the path names suffice, and those of the module that it names; a text is the
    name of that module where it is no variable of the path.

    `scope` says what becomes of a caller that is limited to a scope: `closed` refuses the request; with `device` the device of
    the path has to be within the scope; with `new device` it may not be registered yet, and the producer decides; with
    `handler` the handler keeps its answer within the scope.

    `at` is True where the route answers for the past, and False where it overlooks the parameter, as any that it does not
    know. A text refuses the parameter for that reason; the empty text has the reason of all such routes.

    `cost` is `None` for what most reads and writes cost.
    """

    permissions: Permissions
    own: bool | str = False
    scope: Literal["closed", "device", "new device", "handler"] = "closed"
    at: bool | str = ""
    cost: Cost | None = None

    def __call__(self, handler: H) -> H:
        """Attach the declaration to a handler, for all of its routes."""
        setattr(handler, DECLARED, self)
        return handler


def access_of(route: object) -> Access | None:
    """What a route declares: its handler, else its router; `None` where neither does."""
    declared: Access | None = getattr(getattr(route, "endpoint", None), DECLARED, None)
    return declared or getattr(route, DECLARED, None)


def is_write(methods: Iterable[str]) -> bool:
    """Whether a route of some methods may write."""
    return not {"GET", "HEAD"} & {method.upper() for method in methods}
