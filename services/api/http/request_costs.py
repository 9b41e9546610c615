"""What a request may weigh and how much work it is, as its route declares it (docs/reference/api.md has it in words)."""

import msgspec

from services.api.http.turns import Work

KIB, MIB = 1024, 1024 * 1024


class Cost(msgspec.Struct, frozen=True):
    """What a request is held to.

    `bytes_max` is that of its body, `values_max` that of names and values in its JSON; with `lines` a body is read line by
    line, and each line held to the latter (services/api/v1/facts.py).
    """

    work: Work
    bytes_max: int = 64 * KIB
    values_max: int = 4000
    lines: bool = False


READ, WRITE, LONG, NO_WORK = (Cost(work) for work in (Work.READ, Work.WRITE, Work.LONG, Work.NONE))

# Near to what can be valid: a twin's tags have 8 KiB and its desired properties 32 KiB, by the count of contract/hub.md §6. JSON
# may write a character of them with six; whole twins come back with `$metadata`, which has a time for each value. What is
# written becomes one fact, of 1 MiB at most.
REPORT = Cost(Work.WRITE, 256 * KIB, 20_000)
TWIN = Cost(Work.WRITE, 1 * MIB, 60_000)
CONTENT = Cost(Work.LONG, 2 * MIB, 60_000)
MANY_DEVICES = Cost(Work.LONG, 4 * MIB, 100_000)
QUERY = Cost(Work.LONG, 256 * KIB)
LINES = Cost(Work.LONG, 8 * MIB, 60_000, lines=True)
