"""What a route declares of its requests: the permissions they require, whether they take `at`, and what they cost."""

import enum
from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar

import msgspec

from events.access.permissions import Permission
from services.api.http.request_costs import Cost

H = TypeVar("H", bound=Callable[..., Any])


class Open(enum.Enum):
    """Routes that require no permission: they accept requests without credentials, or with any valid credentials."""

    ANYBODY = "anybody"
    AUTHENTICATED = "authenticated"


Permissions = frozenset[Permission] | Open
"""All of these permissions, or none."""

REGISTRY_READ, REGISTRY_WRITE = frozenset({Permission.REGISTRY_READ}), frozenset({Permission.REGISTRY_WRITE})
TWIN_READ, TWIN_WRITE = frozenset({Permission.TWIN_READ}), frozenset({Permission.TWIN_WRITE})
ADMIN, AUDIT_READ = frozenset({Permission.ADMIN}), frozenset({Permission.AUDIT_READ})
SERVICE_CONNECT = frozenset({Permission.SERVICE_CONNECT})

DECLARED = "declared_access"
"""The attribute of a handler, or of a route, that has its declaration."""


class Access(msgspec.Struct, frozen=True):
    """The declaration of a route, and the decorator of a handler that attaches it.

    With `own`, the credentials of the device or module that the path names suffice; a text is the name of that module if the
    path has no variable for it.

    `scope` decides on a caller that is limited to a scope: `closed` rejects the request; with `device` the device of the path
    must be within the scope; with `new device` it may not be registered yet, and the producer decides; with `handler` the
    handler limits its answer to the scope.

    `at` is True if the route answers as of a point in time, and False if it ignores the parameter, like any unknown one. A text
    rejects the parameter for that reason; the empty text stands for the usual reason.

    `cost` is `None` for the usual cost of a read or write.
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
    """The declaration of a route's handler, else of its router; `None` if there is none."""
    declared: Access | None = getattr(getattr(route, "endpoint", None), DECLARED, None)
    return declared or getattr(route, DECLARED, None)


def is_write(methods: Iterable[str]) -> bool:
    """Whether a route with these methods may write."""
    return not {"GET", "HEAD"} & {method.upper() for method in methods}
