"""Commands on waivers."""

import datetime as dt

import msgspec


class GrantWaiver(msgspec.Struct, frozen=True):
    """Waive the findings of a rule up to and including the day `until` (UTC), or replace the terms of a waiver."""

    waiver_id: str
    rule: str
    reason: str
    until: dt.date
    module: str | None = None
    deployment: str | None = None


class WithdrawWaiver(msgspec.Struct, frozen=True):
    """Withdraw a waiver."""

    waiver_id: str


WaiverCommand = GrantWaiver | WithdrawWaiver
