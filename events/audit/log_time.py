"""How far the log's time is ahead of a clock: it never goes back, and a clock that was ahead for a while may."""

from events.audit.errors import SealUnreadable
from events.audit.seal_store import Seals
from events.log.keys import FLEET
from events.log.port import Log

TOLERANCE_MS = 5000
"""Clocks of several machines differ by less; and so far apart two looks at one clock may be from what passed meanwhile."""


def ahead_ms(log: Log, seals: Seals, *, clock: int) -> int:
    """By how much the newest event of the fleet, or the newest seal, is ahead of a clock, in milliseconds; 0 within the tolerance.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    head = log.head(FLEET)
    newest = log.read(FLEET, after=head - 1, limit=1) if head else ()
    last = seals.last()
    try:
        sealed_at = 0 if last is None else last.seal().at
    except SealUnreadable:
        # Verification tells of it.
        sealed_at = 0
    ahead = max(sealed_at, *(envelope.at for envelope in newest), 0) - clock
    return ahead if ahead > TOLERANCE_MS else 0
