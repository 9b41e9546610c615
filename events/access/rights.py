"""What a caller may be allowed: the rights of shared access policies, and the roles of tokens (contract/hub.md §4)."""

import enum
from collections.abc import Mapping


class Right(enum.Enum):
    """One thing that can be allowed. The first four are the hub's."""

    REGISTRY_READ = "RegistryRead"
    REGISTRY_WRITE = "RegistryWrite"
    SERVICE_CONNECT = "ServiceConnect"
    DEVICE_CONNECT = "DeviceConnect"
    TWIN_READ = "TwinRead"
    TWIN_WRITE = "TwinWrite"
    AUDIT_READ = "AuditRead"
    ADMIN = "Admin"


POLICY_RIGHTS = (Right.REGISTRY_READ, Right.REGISTRY_WRITE, Right.SERVICE_CONNECT, Right.DEVICE_CONNECT)
"""Those that a policy can have."""

_IMPLIED: Mapping[Right, frozenset[Right]] = {
    Right.SERVICE_CONNECT: frozenset({Right.TWIN_READ, Right.TWIN_WRITE}),
    Right.REGISTRY_WRITE: frozenset({Right.REGISTRY_READ}),
    Right.ADMIN: frozenset({Right.AUDIT_READ}),
}

OWNER = "iothubowner"

BUILT_IN: Mapping[str, tuple[Right, ...]] = {
    OWNER: (*POLICY_RIGHTS, Right.ADMIN),
    "service": (Right.SERVICE_CONNECT,),
    "device": (Right.DEVICE_CONNECT,),
    "registryRead": (Right.REGISTRY_READ,),
    "registryReadWrite": (Right.REGISTRY_READ, Right.REGISTRY_WRITE),
}
"""The policies that every hub has. The owner's may also manage policies and tokens."""

_READ = (Right.REGISTRY_READ, Right.TWIN_READ)
_OPERATE = (*_READ, Right.REGISTRY_WRITE, Right.SERVICE_CONNECT, Right.TWIN_WRITE)

ROLES: Mapping[str, tuple[Right, ...]] = {
    "read": _READ,
    "operate": _OPERATE,
    "admin": (*_OPERATE, Right.DEVICE_CONNECT, Right.ADMIN),
    # Not the registry: who may read that is shown keys.
    "audit": (Right.AUDIT_READ,),
}
"""What each role of a token allows."""


def with_implied(rights: tuple[Right, ...]) -> frozenset[Right]:
    """Rights with those that come along."""
    return frozenset(rights).union(*(_IMPLIED.get(right, frozenset()) for right in rights))
