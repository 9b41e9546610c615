"""Why a command on updates or groups is rejected.

UpdateError
├── UpdateInvalid            an invalid name, version, content or compatibility
├── UpdateExists · UpdateNotFound · UpdateInUse
├── GroupInvalid             an invalid name, condition, priority or policy
├── GroupNotFound · GroupBusy
├── GroupDeploymentExists · GroupDeploymentNotFound
└── GroupDeploymentForbidden not allowed in this state, or not by this command
"""


class UpdateError(Exception):
    """The base of every rejection of a command on updates or groups."""


class UpdateInvalid(UpdateError):
    """An update has an invalid name, version, content or compatibility."""

    def __init__(self, update: str, why: str) -> None:
        super().__init__(f"update {update[:200]!r}: {why}")
        self.update, self.why = update, why


class UpdateExists(UpdateError):
    """A version is imported once; its content never changes."""

    def __init__(self, update: str) -> None:
        super().__init__(f"update {update!r} exists already; import changed content under another version")
        self.update = update


class UpdateNotFound(UpdateError):
    """There is no such update."""

    def __init__(self, update: str) -> None:
        super().__init__(f"update {update[:200]!r} does not exist")
        self.update = update


class UpdateInUse(UpdateError):
    """An active deployment uses the update, or would roll back to it."""

    def __init__(self, update: str, group: str, deployment: str) -> None:
        super().__init__(f"update {update!r} is used by the active deployment {deployment!r} of the group {group!r}")
        self.update, self.group, self.deployment = update, group, deployment


class GroupInvalid(UpdateError):
    """A group or a deployment of an update to it is invalid; `element` names the member."""

    def __init__(self, group: str, element: str, rule: str) -> None:
        super().__init__(f"group {group[:140]!r}: `{element}` {rule}")
        self.group, self.element, self.rule = group, element, rule


class GroupNotFound(UpdateError):
    """There is no such group, and no device has its tag."""

    def __init__(self, group: str) -> None:
        super().__init__(f"group {group[:140]!r} does not exist")
        self.group = group


class GroupBusy(UpdateError):
    """A group cannot change while a deployment of it is active."""

    def __init__(self, group: str, deployment: str) -> None:
        super().__init__(f"group {group!r} has the active deployment {deployment!r}; cancel it first")
        self.group, self.deployment = group, deployment


class GroupDeploymentExists(UpdateError):
    """An id of a deployment is used once per group."""

    def __init__(self, group: str, deployment: str) -> None:
        super().__init__(f"group {group!r} has a deployment {deployment!r} already; choose another id")
        self.group, self.deployment = group, deployment


class GroupDeploymentNotFound(UpdateError):
    """A group has no deployment of this id."""

    def __init__(self, group: str, deployment: str) -> None:
        super().__init__(f"group {group[:140]!r} has no deployment {deployment[:140]!r}")
        self.group, self.deployment = group, deployment


class GroupDeploymentForbidden(UpdateError):
    """The current state of a deployment does not allow the command, or only its group allows it."""

    def __init__(self, deployment: str, why: str) -> None:
        super().__init__(f"deployment {deployment[:140]!r}: {why}")
        self.deployment, self.why = deployment, why
