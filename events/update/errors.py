"""Why a command on updates or groups is refused.

UpdateError
├── UpdateInvalid            a name, a version, a content or a compatibility that cannot be one
├── UpdateExists · UpdateNotFound · UpdateInUse
├── GroupInvalid             a name, a condition, a priority or a policy that cannot be one
├── GroupNotFound · GroupBusy
├── GroupDeploymentExists · GroupDeploymentNotFound
└── GroupDeploymentForbidden not in this state, or not this way
"""


class UpdateError(Exception):
    """Any refusal of a command on updates or groups."""


class UpdateInvalid(UpdateError):
    """The update cannot be like this."""

    def __init__(self, update: str, why: str) -> None:
        super().__init__(f"update {update[:200]!r}: {why}")
        self.update, self.why = update, why


class UpdateExists(UpdateError):
    """A version is imported once; its content never changes."""

    def __init__(self, update: str) -> None:
        super().__init__(f"there is an update {update!r} already; another content is another version")
        self.update = update


class UpdateNotFound(UpdateError):
    """There is no such update."""

    def __init__(self, update: str) -> None:
        super().__init__(f"there is no update {update[:200]!r}")
        self.update = update


class UpdateInUse(UpdateError):
    """An active deployment brings it, or would go back to it."""

    def __init__(self, update: str, group: str, deployment: str) -> None:
        super().__init__(f"update {update!r} is used by the active deployment {deployment!r} of the group {group!r}")
        self.update, self.group, self.deployment = update, group, deployment


class GroupInvalid(UpdateError):
    """A group, or what is to be deployed to it, cannot be like this; `element` names the member."""

    def __init__(self, group: str, element: str, rule: str) -> None:
        super().__init__(f"group {group[:140]!r}: `{element}` {rule}")
        self.group, self.element, self.rule = group, element, rule


class GroupNotFound(UpdateError):
    """There is no such group, and no device is tagged so."""

    def __init__(self, group: str) -> None:
        super().__init__(f"there is no group {group[:140]!r}")
        self.group = group


class GroupBusy(UpdateError):
    """A group does not change under its active deployment."""

    def __init__(self, group: str, deployment: str) -> None:
        super().__init__(f"group {group!r} has the active deployment {deployment!r}; cancel it first")
        self.group, self.deployment = group, deployment


class GroupDeploymentExists(UpdateError):
    """An id names one deployment of a group, for good."""

    def __init__(self, group: str, deployment: str) -> None:
        super().__init__(f"group {group!r} has a deployment {deployment!r} already; another one has another id")
        self.group, self.deployment = group, deployment


class GroupDeploymentNotFound(UpdateError):
    """The group has no such deployment."""

    def __init__(self, group: str, deployment: str) -> None:
        super().__init__(f"group {group[:140]!r} has no deployment {deployment[:140]!r}")
        self.group, self.deployment = group, deployment


class GroupDeploymentForbidden(UpdateError):
    """The command is not for a deployment as it stands, or goes past the group that it belongs to."""

    def __init__(self, deployment: str, why: str) -> None:
        super().__init__(f"deployment {deployment[:140]!r}: {why}")
        self.deployment, self.why = deployment, why
