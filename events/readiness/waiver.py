"""Waivers: who accepts which finding, why, and until when."""

import datetime as dt

import msgspec
from typing_extensions import override

from events.readiness.finding import Finding


class Waiver(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A decision to accept the findings of a rule, up to and including the day `until` (UTC).

    `module` and `deployment` restrict it; `None` means any. A deployment is named by its id, or by its file.
    """

    rule: str
    who: str
    why: str
    until: dt.date
    module: str | None = None
    deployment: str | None = None

    @override
    def __str__(self) -> str:
        of = "".join(f" of {name}" for name in (self.module, self.deployment) if name)
        return f"{self.who}, for {self.rule}{of}, until {self.until}: {self.why}"

    def applies(self, finding: Finding, now: int) -> bool:
        """Return whether this waives a finding at a time in milliseconds."""
        return (
            not self.expired(now)
            and self.rule == finding.rule
            and self.module in (None, finding.module)
            and self.deployment in (None, finding.document)
        )

    def expired(self, now: int) -> bool:
        """Return whether the last day is over at a time in milliseconds."""
        return dt.datetime.fromtimestamp(now / 1000, dt.UTC).date() > self.until
