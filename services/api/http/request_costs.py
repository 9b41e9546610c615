"""What a request may weigh and how much work it is, by its method and path: one table (docs/reference/api.md has it in words)."""

import re

import msgspec

from services.api.http.turns import Work

KIB, MIB = 1024, 1024 * 1024


class Cost(msgspec.Struct, frozen=True):
    """What a request is held to.

    `bytes_max` is that of its body, `values_max` that of names and values in its JSON; with `lines` a body is read line by
    line, and each line held to the latter (services/api/v1/fleet.py).
    """

    work: Work
    bytes_max: int = 64 * KIB
    values_max: int = 4000
    lines: bool = False


# Near to what can be valid: a twin's tags have 8 KiB and its desired properties 32 KiB, by the count of contract/hub.md §6. JSON
# may write a character of them with six; whole twins come back with `$metadata`, which has a time for each value. What is
# written becomes one fact, of 1 MiB at most.
_REPORT = Cost(Work.WRITE, 256 * KIB, 20_000)
_TWIN = Cost(Work.WRITE, 1 * MIB, 60_000)
_CONTENT = Cost(Work.LONG, 2 * MIB, 60_000)
_MANY = Cost(Work.LONG, 4 * MIB, 100_000)
_QUERY = Cost(Work.LONG, 256 * KIB)
_LINES = Cost(Work.LONG, 8 * MIB, 60_000, lines=True)
_READ, _WRITE, _LONG, _NONE = (Cost(work) for work in (Work.READ, Work.WRITE, Work.LONG, Work.NONE))

_WRITES: tuple[tuple[re.Pattern[str], Cost], ...] = (
    (re.compile(r"/v1/(facts|preview)"), _LINES),
    (re.compile(r"/devices"), _MANY),
    (re.compile(r"/devices/query|/configurations/testQueries"), _QUERY),
    (re.compile(r"/v1/devices/[^/]+/reports"), _REPORT),
    (re.compile(r"/twins/.*"), _TWIN),
    (re.compile(r"/devices/[^/]+/applyConfigurationContent|/configurations/[^/]+"), _CONTENT),
    (re.compile(r"/v1/deployments/[^/]+(/rollout)?|/v1/updates/.*|/v1/groups/.*|/deviceUpdate/.*"), _CONTENT),
)
_READS: tuple[tuple[re.Pattern[str], Cost], ...] = (
    (re.compile(r"/v1/devices/[^/]+/desired|/v1/stream|/healthz"), _NONE),
    (re.compile(r"/v1/devices/[^/]+/(explain|outcomes|readiness)|/v1/(diff|audit/.*|rollouts|readiness.*)"), _LONG),
    (re.compile(r"/devices|/configurations|/v1/deployments(/[^/]+/series)?|/metrics"), _LONG),
)


def cost_of(method: str, path: str, query: bytes) -> Cost:
    """What a request is held to; looking at the past and previews are long work on every path."""
    rows, otherwise = (_READS, _READ) if method in {"GET", "HEAD", "OPTIONS"} else (_WRITES, _WRITE)
    cost = next((cost for pattern, cost in rows if pattern.fullmatch(path)), otherwise)
    if b"at=" in query or b"preview=" in query:
        return msgspec.structs.replace(cost, work=Work.LONG)
    return cost
