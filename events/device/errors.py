"""Why a command on a device is refused.

DeviceError
├── DeviceIdInvalid · ModuleIdInvalid · IdentityTextInvalid · AuthenticationInvalid
├── DeviceExists · DeviceNotFound
├── ModuleExists · ModuleNotFound · TooManyModules
├── DeviceScopeInvalid · ParentNotFound · ParentNotEdgeCapable · HierarchyCyclic · HierarchyTooDeep
├── SystemModuleReserved   only deployments write it
├── EtagMismatch
└── TwinLimitExceeded      with every problem
"""

from collections.abc import Sequence

from events.properties import LimitProblem

_SHOWN = 20


class DeviceError(Exception):
    """Base of all refusals of a command on a device."""


class DeviceIdInvalid(DeviceError):
    """The device id is invalid (contract/hub.md §6)."""

    def __init__(self, device_id: str, why: str) -> None:
        super().__init__(f"device id {device_id[:140]!r}: {why}")
        self.device_id, self.why = device_id, why


class ModuleIdInvalid(DeviceError):
    """The module id is invalid (contract/hub.md §6)."""

    def __init__(self, module_id: str, why: str) -> None:
        super().__init__(f"module id {module_id[:140]!r}: {why}")
        self.module_id, self.why = module_id, why


class IdentityTextInvalid(DeviceError):
    """A text of an identity (`statusReason`, `managedBy`) is not a text, or too long."""

    def __init__(self, device_id: str, member: str, why: str) -> None:
        super().__init__(f"{device_id}: `{member}` {why}")
        self.device_id, self.member, self.why = device_id, member, why


class AuthenticationInvalid(DeviceError):
    """The authentication of an identity is invalid; `why` begins with the member."""

    def __init__(self, device_id: str, why: str) -> None:
        super().__init__(f"{device_id}: authentication{'' if why.startswith('.') else ' '}{why}")
        self.device_id, self.why = device_id, why


class DeviceExists(DeviceError):
    """The device is registered already."""

    def __init__(self, device_id: str) -> None:
        super().__init__(f"A device with ID {device_id!r} is already registered.")
        self.device_id = device_id


class DeviceNotFound(DeviceError):
    """The device is not registered, or is retired; `near` are similar device ids, if the caller searched for them."""

    def __init__(self, device_id: str, *, near: Sequence[str] = ()) -> None:
        meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        super().__init__(f"no device {device_id!r} is registered{meant}")
        self.device_id, self.near = device_id, tuple(near)


class ModuleExists(DeviceError):
    """The device already has a module of this id."""

    def __init__(self, device_id: str, module_id: str) -> None:
        super().__init__(f"device {device_id!r} already has a module {module_id!r}")
        self.device_id, self.module_id = device_id, module_id


class ModuleNotFound(DeviceError):
    """The device has no module of this id that was made by hand."""

    def __init__(self, device_id: str, module_id: str) -> None:
        super().__init__(f"device {device_id!r} has no module {module_id!r}")
        self.device_id, self.module_id = device_id, module_id


class TooManyModules(DeviceError):
    """The device has the maximum number of modules made by hand (contract/hub.md §6)."""

    def __init__(self, device_id: str, modules_max: int) -> None:
        super().__init__(f"device {device_id!r} has {modules_max} modules made by hand, the maximum; delete one first")
        self.device_id, self.modules_max = device_id, modules_max


class SystemModuleReserved(DeviceError):
    """Only deployments write the desired properties of `$edgeAgent` and `$edgeHub` (contract/hub.md §1.6)."""

    def __init__(self, device_id: str, module_id: str) -> None:
        super().__init__(
            f"Unauthorized to modify reserved module. {device_id}/{module_id} is a system module: create a deployment to "
            "change its desired properties"
        )
        self.device_id, self.module_id = device_id, module_id


class EtagMismatch(DeviceError):
    """The twin has changed since the etag was read."""

    def __init__(self, subject: str, *, expected: str, actual: str) -> None:
        super().__init__(f"{subject}: the etag is {actual}, not {expected[:64]}; read the twin again")
        self.subject, self.expected, self.actual = subject, expected, actual


class TwinLimitExceeded(DeviceError):
    """The twin would exceed limits (contract/hub.md §6); each problem names path, limit and actual size."""

    def __init__(self, subject: str, problems: tuple[LimitProblem, ...]) -> None:
        lines = "; ".join(f"{problem.path}: {problem.message}" for problem in problems[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        super().__init__(f"{subject}: {lines}{more}")
        self.subject, self.problems = subject, problems


class DeliveryInvalid(DeviceError):
    """A device acknowledges an invalid version; `member` is the invalid member, `rule` says what is allowed."""

    def __init__(self, device_id: str, member: str, rule: str) -> None:
        super().__init__(f"{device_id}: {member[:64]!r} {rule}")
        self.device_id, self.member, self.rule = device_id, member, rule


class NotEdgeCapable(DeviceError):
    """The device is not an edge device, and only edge devices run modules."""

    def __init__(self, device_id: str) -> None:
        super().__init__(f"{device_id} is not an edge device; set capabilities.iotEdge to true first")
        self.device_id = device_id


class DeviceScopeInvalid(DeviceError):
    """`deviceScope` or `parentScopes` of an identity is invalid; `why` continues the sentence."""

    def __init__(self, device_id: str, member: str, why: str) -> None:
        super().__init__(f"{device_id}: {member} {why}")
        self.device_id, self.member = device_id, member


class ParentNotFound(DeviceError):
    """No device has the scope of the parent: it is not registered, or was registered again since."""

    def __init__(self, device_id: str, scope: str) -> None:
        super().__init__(
            f"{device_id}: no edge device has the scope {scope[:300]!r}; read the deviceScope of the parent and send that"
        )
        self.device_id, self.scope = device_id, scope


class ParentNotEdgeCapable(DeviceError):
    """The parent is not an edge device."""

    def __init__(self, device_id: str, parent: str) -> None:
        super().__init__(
            f"{device_id}: its parent {parent!r} is not an edge device; set capabilities.iotEdge of {parent!r} to true first"
        )
        self.device_id, self.parent = device_id, parent


class HierarchyCyclic(DeviceError):
    """A device would be its own ancestor; `above` are the devices from its parent up to itself."""

    def __init__(self, device_id: str, above: tuple[str, ...]) -> None:
        super().__init__(
            f"{device_id} would be its own ancestor: {' < '.join((device_id, *above))}; first remove the parent of one of these"
        )
        self.device_id, self.above = device_id, above


class HierarchyTooDeep(DeviceError):
    """The hierarchy would have too many layers of edge devices."""

    def __init__(self, device_id: str, parent: str, layers_max: int) -> None:
        super().__init__(
            f"{device_id}: an edge device has at most {layers_max} layers of edge devices below it, and with the parent"
            f" {parent!r} there would be more; choose a parent further up"
        )
        self.device_id, self.parent, self.layers_max = device_id, parent, layers_max
