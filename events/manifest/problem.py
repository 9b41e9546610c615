"""One thing that is wrong with a manifest, and how bad it is."""

import enum

import msgspec
from typing_extensions import override


class Severity(enum.Enum):
    """What follows from a problem."""

    ERROR = "error"
    """The hub or the device would refuse it, or could not do what it says."""
    WARNING = "warning"
    """It would be taken as it stands, which is hardly what was meant."""
    INFO = "info"
    """It works; there is something better, or something to know."""


class Problem(msgspec.Struct, frozen=True):
    """A place in a manifest that breaks a rule.

    `path` is written as `modulesContent.$edgeAgent.properties.desired.modules.temp.status`; `rule` is stable and in
    kebab case, `message` is for people.
    """

    path: str
    rule: str
    message: str
    severity: Severity = Severity.ERROR

    @override
    def __str__(self) -> str:
        return f"{self.path}: {self.message} [{self.rule}]"
