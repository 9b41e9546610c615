"""The state of a waiver: the document that results from replaying its events."""

import datetime as dt

import msgspec

from events.readiness.events import WaiverEvent, WaiverWithdrawn
from events.readiness.waiver import Waiver

WAIVER = "waiver:"
"""The prefix of waiver subjects. It cannot be a deployment, because deployment ids have no colon."""


class WaiverDocument(msgspec.Struct, frozen=True):
    """A waiver after its events; `who` granted it last, at `granted_at` (milliseconds)."""

    version: int
    rule: str
    reason: str
    until: dt.date
    module: str | None
    deployment: str | None
    who: str
    granted_at: int

    @property
    def waiver(self) -> Waiver:
        """The waiver in the form that a check needs."""
        return Waiver(self.rule, self.who, self.reason, self.until, self.module, self.deployment)


decode = msgspec.json.Decoder(WaiverDocument).decode
"""Read a document from its canonical bytes."""


def evolve(event: WaiverEvent, *, version: int, at: int, by: str) -> WaiverDocument | None:
    """Return the waiver after one more event of the author `by`; `None` after its withdrawal."""
    if isinstance(event, WaiverWithdrawn):
        return None
    return WaiverDocument(version, event.rule, event.reason, event.until, event.module, event.deployment, by, at)
