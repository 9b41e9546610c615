"""What can happen to waivers. Subject: `waiver:<id>`, in the fleet's stream; who grants one is the author of the event."""

import datetime as dt

import msgspec


class WaiverGranted(msgspec.Struct, frozen=True, tag="WaiverGranted", forbid_unknown_fields=True):
    """Findings of a rule may stand up to and including the day `until` (UTC); granted again, the former terms are gone.

    `module` and `deployment` confine it; `None` stands for any.
    """

    rule: str
    reason: str
    until: dt.date
    module: str | None = None
    deployment: str | None = None


class WaiverWithdrawn(msgspec.Struct, frozen=True, tag="WaiverWithdrawn", forbid_unknown_fields=True):
    """The findings count again."""


WaiverEvent = WaiverGranted | WaiverWithdrawn
