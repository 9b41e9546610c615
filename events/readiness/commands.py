"""What can be asked of waivers."""

import datetime as dt

import msgspec


class GrantWaiver(msgspec.Struct, frozen=True):
    """Let findings of a rule stand up to and including the day `until` (UTC), or change on what terms they do."""

    waiver_id: str
    rule: str
    reason: str
    until: dt.date
    module: str | None = None
    deployment: str | None = None


class WithdrawWaiver(msgspec.Struct, frozen=True):
    """Take a waiver back."""

    waiver_id: str


WaiverCommand = GrantWaiver | WithdrawWaiver
