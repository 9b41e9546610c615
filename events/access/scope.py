"""A scope: the target condition that a token's holder is kept within."""

import msgspec

from events.access.errors import OutOfScope
from events.device.state import DeviceDocument, section
from events.query.conditions import expression_of
from events.query.tree import Expression
from events.targeting.evaluate import evaluate
from events.targeting.parse import parse
from events.targeting.tree import Condition


class _Twin(msgspec.Struct, frozen=True):
    device_id: str
    tags: dict[str, object]
    reported: dict[str, object]


class Scope(msgspec.Struct, frozen=True):
    """Two scopes are the same if their texts are. The text is a condition that was accepted once."""

    text: str

    @property
    def condition(self) -> Condition:
        """The tree of it."""
        return parse(self.text)

    @property
    def expression(self) -> Expression:
        """The same as a condition of queries."""
        return expression_of(self.condition)

    def holds(self, device_id: str, document: DeviceDocument | None) -> bool:
        """Whether a device is in the scope; one that is not there, or retired, is in none."""
        if document is None or document.retired:
            return False
        twin = _Twin(device_id, section(document.tags), section(document.reported))
        return evaluate(self.condition, twin) is True

    def insist(self, device_id: str, document: DeviceDocument) -> None:
        """Insist that a device is in the scope with a document that it is about to have.

        Raises:
            OutOfScope: it is not.
        """
        if not self.holds(device_id, document):
            raise OutOfScope(device_id, "would be outside the scope of these credentials; they do not allow that")
