"""The limits of a request and the kind of work it is, as its route declares them (docs/reference/api.md describes them)."""

import msgspec

from services.api.http.turns import RequestKind

KIB, MIB = 1024, 1024 * 1024


class Cost(msgspec.Struct, frozen=True):
    """The limits of a request.

    `bytes_max` limits its body, `values_max` the names and values in its JSON. With `lines` a body is read line by line, and
    `values_max` applies to each line (services/api/v1/events.py).
    """

    work: RequestKind
    bytes_max: int = 64 * KIB
    values_max: int = 4000
    lines: bool = False


READ, WRITE, LONG, NO_WORK = (
    Cost(work) for work in (RequestKind.READ, RequestKind.WRITE, RequestKind.LONG, RequestKind.NONE)
)

# Close to the largest valid bodies: a twin's tags have 8 KiB and its desired properties 32 KiB, by the count of contract/hub.md
# §6. JSON may write one character of them with six, and clients send twins back with `$metadata`, which has a time for each
# value. A write becomes one event of at most 1 MiB.
REPORT = Cost(RequestKind.WRITE, 256 * KIB, 20_000)
TWIN = Cost(RequestKind.WRITE, 1 * MIB, 60_000)
CONTENT = Cost(RequestKind.LONG, 2 * MIB, 60_000)
MANY_DEVICES = Cost(RequestKind.LONG, 4 * MIB, 100_000)
QUERY = Cost(RequestKind.LONG, 256 * KIB)
LINES = Cost(RequestKind.LONG, 8 * MIB, 60_000, lines=True)
