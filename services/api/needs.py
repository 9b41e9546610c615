"""What right a request needs: one table for all paths (contract/hub.md §4)."""

import enum
import re

from events.access.commands import AccessCommand
from events.access.rights import Right
from events.device.commands import PatchTags, PatchTwin, ReplaceTwin, ReportProperties
from events.producer.errors import Command


class Open(enum.Enum):
    """Paths that anybody may ask."""

    ANYBODY = "anybody"


class Own(enum.Enum):
    """Paths of a device itself, and of its modules; others need the right."""

    DEVICE = "device"


Needed = Right | Open | tuple[Own, Right]

_READ = {"GET", "HEAD", "OPTIONS"}


def _paths(pattern: str) -> re.Pattern[str]:
    # A line feed is a character of a path like any other: it must not lead past a line of the table.
    return re.compile(pattern, re.DOTALL)


_OPEN = _paths(r"/(healthz|readyz|openapi\.json|docs|docs/oauth2-redirect)")
_TABLE: tuple[tuple[re.Pattern[str], Needed, Needed], ...] = (
    # path, to read it, to write it
    (_OPEN, Open.ANYBODY, Open.ANYBODY),
    (_paths(r"/v1/(policies|tokens)(/.*)?"), Right.ADMIN, Right.ADMIN),
    (_paths(r"/v1/devices/[^/]+/(desired|reports)"), (Own.DEVICE, Right.TWIN_READ), (Own.DEVICE, Right.TWIN_WRITE)),
    # Each line of the body needs the right of its command, too.
    (_paths(r"/v1/facts"), Right.ADMIN, Right.SERVICE_CONNECT),
    (_paths(r"/v1/devices(/.*)?"), Right.TWIN_READ, Right.TWIN_WRITE),
    (_paths(r"/devices/query"), Right.TWIN_READ, Right.TWIN_READ),
    (_paths(r"/configurations/testQueries"), Right.REGISTRY_READ, Right.REGISTRY_READ),
    (_paths(r"/twins(/.*)?"), Right.TWIN_READ, Right.TWIN_WRITE),
    (
        _paths(r"/devices/[^/]+/modules(/.*)?"),
        (Own.DEVICE, Right.REGISTRY_READ),
        (Own.DEVICE, Right.REGISTRY_WRITE),
    ),
    (_paths(r".*"), Right.REGISTRY_READ, Right.REGISTRY_WRITE),
)


def needed(method: str, path: str) -> Needed:
    """What a request needs; the first line of the table that fits."""
    # The router takes a path with one line feed behind it for the path itself.
    plain = path.removesuffix("\n")
    read, write = next((read, write) for pattern, read, write in _TABLE if pattern.fullmatch(plain))
    return read if method in _READ else write


_OF_TWINS = (PatchTags, PatchTwin, ReplaceTwin, ReportProperties)


def needed_for(command: Command) -> Right:
    """The right that a command needs, as its own path does."""
    if isinstance(command, AccessCommand):
        return Right.ADMIN
    return Right.TWIN_WRITE if isinstance(command, _OF_TWINS) else Right.REGISTRY_WRITE


def device_of(path: str) -> str | None:
    """The one device that a path is about; `None` where it is about others as well."""
    found = re.fullmatch(r"/(?:v1/)?(?:devices|twins)/(?!query\Z)([^/]+)(?:/.*)?", path, re.DOTALL)
    return None if found is None else found[1]


def owner(path: str) -> tuple[str, str | None] | None:
    """Whose path it is: `/v1/devices/d/desired` is d's, `/devices/d/modules/m` that of the module, too."""
    found = re.fullmatch(r"(?:/v1)?/devices/([^/]+)(?:/modules(?:/([^/]+))?|/desired|/reports)", path)
    return None if found is None else (found[1], found[2])
