"""How far the log's time is ahead of a clock. The log's time never goes back; a clock that was ahead can."""

from events.audit.errors import SealUnreadable
from events.audit.seal_store import Seals
from events.log.keys import FLEET
from events.log.port import Log

TOLERANCE_MS = 5000
"""Smaller differences are normal: between the clocks of several machines, and from the time that the reads take."""


def ahead_ms(log: Log, seals: Seals, *, clock: int) -> int:
    """Returns how far the newest event of the fleet, or the newest seal, is ahead of a clock, in milliseconds; 0 within the tolerance.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    head = log.head(FLEET)
    newest = log.read(FLEET, after=head - 1, limit=1) if head else ()
    last = seals.last()
    try:
        sealed_at = 0 if last is None else last.seal().at
    except SealUnreadable:
        # Verification reports it; a wrong clock is still visible in the events.
        sealed_at = 0
    ahead = max(sealed_at, *(envelope.at for envelope in newest), 0) - clock
    return ahead if ahead > TOLERANCE_MS else 0
