"""Events of waivers. Their subject is `waiver:<id>` in the fleet's stream, and their author granted or withdrew the waiver."""

import datetime as dt

import msgspec


class WaiverGranted(msgspec.Struct, frozen=True, tag="WaiverGranted", forbid_unknown_fields=True):
    """The findings of a rule are waived up to and including the day `until` (UTC). A later grant replaces all terms.

    `module` and `deployment` restrict the waiver; `None` means any.
    """

    rule: str
    reason: str
    until: dt.date
    module: str | None = None
    deployment: str | None = None


class WaiverWithdrawn(msgspec.Struct, frozen=True, tag="WaiverWithdrawn", forbid_unknown_fields=True):
    """The findings count again."""


WaiverEvent = WaiverGranted | WaiverWithdrawn
