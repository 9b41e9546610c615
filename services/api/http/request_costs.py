"""What a request may weigh and how much work it is, as its route declares it (docs/reference/api.md has it in words)."""

import msgspec

from services.api.http.turns import RequestKind

KIB, MIB = 1024, 1024 * 1024


class Cost(msgspec.Struct, frozen=True):
    """What a request is held to.

    `bytes_max` is that of its body, `values_max` that of names and values in its JSON; with `lines` a body is read line by
    line, and each line held to the latter (services/api/v1/events.py).
    """

    work: RequestKind
    bytes_max: int = 64 * KIB
    values_max: int = 4000
    lines: bool = False


READ, WRITE, LONG, NO_WORK = (
    Cost(work) for work in (RequestKind.READ, RequestKind.WRITE, RequestKind.LONG, RequestKind.NONE)
)

# Near to what can be valid: a twin's tags have 8 KiB and its desired properties 32 KiB, by the count of contract/hub.md §6. JSON
# may write a character of them with six; whole twins come back with `$metadata`, which has a time for each value. What is
# written becomes one event, of 1 MiB at most.
REPORT = Cost(RequestKind.WRITE, 256 * KIB, 20_000)
TWIN = Cost(RequestKind.WRITE, 1 * MIB, 60_000)
CONTENT = Cost(RequestKind.LONG, 2 * MIB, 60_000)
MANY_DEVICES = Cost(RequestKind.LONG, 4 * MIB, 100_000)
QUERY = Cost(RequestKind.LONG, 256 * KIB)
LINES = Cost(RequestKind.LONG, 8 * MIB, 60_000, lines=True)
