"""A scope: the target condition that limits a token to some devices."""

import msgspec

from events.access.errors import OutOfScope
from events.device.state import DeviceDocument, section
from events.query.condition import parse_condition
from events.query.evaluate import Test, row_test, twin_row
from events.query.tree import Expression
from events.text_cache import by_text


# Compiled once for each text: a list of devices tests the scope on every one of them.
@by_text
def _test_of(text: str) -> Test:
    return row_test(parse_condition(text))


class Scope(msgspec.Struct, frozen=True):
    """A scope by its text, which is a valid target condition. Scopes with the same text are equal."""

    text: str

    @property
    def condition(self) -> Expression:
        """The parsed condition."""
        return parse_condition(self.text)

    def holds(self, device_id: str, document: DeviceDocument | None) -> bool:
        """Whether a device is in the scope; a missing or retired device is in no scope."""
        if document is None or document.retired:
            return False
        row = twin_row(device_id, section(document.tags), section(document.reported))
        return _test_of(self.text)(row)

    def insist(self, device_id: str, document: DeviceDocument) -> None:
        """Raise OutOfScope if a device is outside the scope after a change; `document` is the device after it."""
        if not self.holds(device_id, document):
            raise OutOfScope(device_id, "would be outside the scope of these credentials; they do not allow that")
