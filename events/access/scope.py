"""A scope: the target condition that a token's holder is kept within."""

import msgspec

from events.access.errors import OutOfScope
from events.device.state import DeviceDocument, section
from events.query.condition import parse_condition
from events.query.evaluate import Test, row_test, twin_row
from events.query.tree import Expression
from events.text_cache import by_text


@by_text
def _test_of(text: str) -> Test:
    return row_test(parse_condition(text))


class Scope(msgspec.Struct, frozen=True):
    """Two scopes are the same if their texts are. The text is a condition that was accepted once."""

    text: str

    @property
    def condition(self) -> Expression:
        """The tree of it."""
        return parse_condition(self.text)

    def holds(self, device_id: str, document: DeviceDocument | None) -> bool:
        """Whether a device is in the scope; one that is not there, or retired, is in none."""
        if document is None or document.retired:
            return False
        assignment = twin_row(device_id, section(document.tags), section(document.reported))
        return _test_of(self.text)(assignment)

    def insist(self, device_id: str, document: DeviceDocument) -> None:
        """Insist that a device is in the scope with a document that it is about to have.

        Raises:
            OutOfScope: it is not.
        """
        if not self.holds(device_id, document):
            raise OutOfScope(device_id, "would be outside the scope of these credentials; they do not allow that")
