"""A problem of a manifest, and its severity."""

import enum

import msgspec
from typing_extensions import override


class Severity(enum.Enum):
    """The consequence of a problem; in order, the worst first."""

    ERROR = "error"
    """IoT Hub or the device rejects it, or cannot do it."""
    WARNING = "warning"
    """It is accepted, but is probably a mistake."""
    INFO = "info"
    """It works, but there is a better way, or something to consider."""


class Problem(msgspec.Struct, frozen=True):
    """A place in a manifest that breaks a rule.

    `path` has the form `modulesContent.$edgeAgent.properties.desired.modules.temp.status`. `rule` is a stable name in
    kebab case, and `message` is for people.
    """

    path: str
    rule: str
    message: str
    severity: Severity = Severity.ERROR

    @override
    def __str__(self) -> str:
        return f"{self.path}: {self.message} [{self.rule}]"
