"""The permissions of shared access policies, and the roles of tokens (contract/hub.md §4)."""

import enum
from collections.abc import Mapping


class Permission(enum.Enum):
    """A permission. The first four are the hub's."""

    REGISTRY_READ = "RegistryRead"
    REGISTRY_WRITE = "RegistryWrite"
    SERVICE_CONNECT = "ServiceConnect"
    DEVICE_CONNECT = "DeviceConnect"
    TWIN_READ = "TwinRead"
    TWIN_WRITE = "TwinWrite"
    AUDIT_READ = "AuditRead"
    ADMIN = "Admin"


POLICY_PERMISSIONS = (
    Permission.REGISTRY_READ,
    Permission.REGISTRY_WRITE,
    Permission.SERVICE_CONNECT,
    Permission.DEVICE_CONNECT,
)
"""The permissions that a policy can have."""

# Our permissions split the hub's: the role `read` reads twins without changing them (docs/decisions/0015).
_IMPLIED: Mapping[Permission, frozenset[Permission]] = {
    Permission.SERVICE_CONNECT: frozenset({Permission.TWIN_READ, Permission.TWIN_WRITE}),
    Permission.REGISTRY_WRITE: frozenset({Permission.REGISTRY_READ}),
    Permission.ADMIN: frozenset({Permission.AUDIT_READ}),
}

OWNER = "iothubowner"

BUILT_IN: Mapping[str, tuple[Permission, ...]] = {
    OWNER: (*POLICY_PERMISSIONS, Permission.ADMIN),
    "service": (Permission.SERVICE_CONNECT,),
    "device": (Permission.DEVICE_CONNECT,),
    "registryRead": (Permission.REGISTRY_READ,),
    "registryReadWrite": (Permission.REGISTRY_READ, Permission.REGISTRY_WRITE),
}
"""The policies that every hub has. The owner's policy may also manage policies and tokens."""

_READ = (Permission.REGISTRY_READ, Permission.TWIN_READ)
_OPERATE = (*_READ, Permission.REGISTRY_WRITE, Permission.SERVICE_CONNECT, Permission.TWIN_WRITE)

ROLES: Mapping[str, tuple[Permission, ...]] = {
    "read": _READ,
    "operate": _OPERATE,
    "admin": (*_OPERATE, Permission.DEVICE_CONNECT, Permission.ADMIN),
    # Without RegistryRead, which shows the keys of devices.
    "audit": (Permission.AUDIT_READ,),
}
"""The permissions of each role of a token."""


def with_implied(permissions: tuple[Permission, ...]) -> frozenset[Permission]:
    """Permissions, and those that they imply."""
    return frozenset(permissions).union(*(_IMPLIED.get(permission, frozenset()) for permission in permissions))
