"""What right a request needs: one table for all paths (contract/hub.md §4)."""

import enum
import re

from events.access.commands import AccessCommand
from events.access.rights import BUILT_IN, ROLES, Right, with_implied
from events.device.commands import AcknowledgeDesired, PatchTags, PatchTwin, ReplaceTwin, ReportProperties
from events.producer.errors import Command
from events.webhook.commands import WebhookCommand


class Open(enum.Enum):
    """Paths that anybody may ask, and paths that every caller with valid credentials may ask."""

    ANYBODY = "anybody"
    AUTHENTICATED = "authenticated"


class Own(enum.Enum):
    """Paths of a device itself, and of its modules; others need the right."""

    DEVICE = "device"


Needed = frozenset[Right] | Open | tuple[Own, frozenset[Right]]

_READ_METHODS = {"GET", "HEAD", "OPTIONS"}

_REGISTRY_READ, _REGISTRY_WRITE = frozenset({Right.REGISTRY_READ}), frozenset({Right.REGISTRY_WRITE})
_TWIN_READ, _TWIN_WRITE = frozenset({Right.TWIN_READ}), frozenset({Right.TWIN_WRITE})
_ADMIN, _AUDIT = frozenset({Right.ADMIN}), frozenset({Right.AUDIT_READ})
_FLEET_READ = frozenset({Right.REGISTRY_READ, Right.SERVICE_CONNECT})

_SCOPE_CALLS = (
    r"(devicesAndModulesInTargetDeviceScope|getDeviceAndModuleOnBehalfOf"
    r"|devicesAndModulesInDeviceScope|deviceAndModuleInDeviceScope)"
)
"""What edgeHub asks about the devices below its own; their keys are in the answers."""
_SCOPE_CALL = re.compile(rf"/devices/[^/]+/modules/\$edgeHub/{_SCOPE_CALLS}")

_ASKED_BY_POST: tuple[tuple[re.Pattern[str], Needed], ...] = (
    # A PUT of the same path is about a device or a deployment of that name.
    (re.compile(r"/devices/query"), _TWIN_READ),
    (re.compile(r"/configurations/testQueries"), _REGISTRY_READ),
    (_SCOPE_CALL, (Own.DEVICE, _REGISTRY_READ)),
)
_OPEN = re.compile(r"/(healthz|readyz|openapi\.json|docs|docs/[^/]+)")
_TABLE: tuple[tuple[re.Pattern[str], Needed, Needed], ...] = (
    # path, to read it, to write it
    (_OPEN, Open.ANYBODY, Open.ANYBODY),
    (re.compile(r"/v1/me"), Open.AUTHENTICATED, Open.AUTHENTICATED),
    (re.compile(r"/v1/(policies|tokens|webhooks)(/.*)?"), _ADMIN, _ADMIN),
    (re.compile(r"/v1/audit/.*"), _AUDIT, _AUDIT),
    (re.compile(r"/v1/stream"), _FLEET_READ, _FLEET_READ),
    # Going on without a fact changes what history means.
    (re.compile(r"/v1/blocked(/.*)?"), _REGISTRY_READ, _ADMIN),
    (re.compile(r"/v1/diff"), _REGISTRY_READ | _TWIN_READ, _REGISTRY_WRITE),
    (re.compile(r"/v1/devices/[^/]+/(desired|reports)"), (Own.DEVICE, _TWIN_READ), (Own.DEVICE, _TWIN_WRITE)),
    # Each line of the body needs the right of its command, too.
    (re.compile(r"/v1/(facts|preview)"), _ADMIN, frozenset({Right.SERVICE_CONNECT})),
    (re.compile(r"/v1/devices/[^/]+/personal"), _ADMIN, _ADMIN),
    (re.compile(r"/v1/devices(/.*)?"), _TWIN_READ, _TWIN_WRITE),
    (re.compile(r"/twins(/.*)?"), _TWIN_READ, _TWIN_WRITE),
    (re.compile(r"/devices/[^/]+/modules(/.*)?"), (Own.DEVICE, _REGISTRY_READ), (Own.DEVICE, _REGISTRY_WRITE)),
)


def needed(method: str, path: str) -> Needed:
    """What a request needs, all of it; the first line of the tables that fits, else rights on the registry."""
    if method == "POST":
        for pattern, asked in _ASKED_BY_POST:
            if pattern.fullmatch(path):
                return asked
    rest = (_REGISTRY_READ, _REGISTRY_WRITE)
    read, write = next(((read, write) for pattern, read, write in _TABLE if pattern.fullmatch(path)), rest)
    return read if method in _READ_METHODS else write


def device_of(method: str, path: str) -> str | None:
    """The one device that a request is about; `None` where it is about others, or several, or none."""
    if _SCOPE_CALL.fullmatch(path) or (
        method == "POST" and any(pattern.fullmatch(path) for pattern, _ in _ASKED_BY_POST)
    ):
        return None
    found = re.fullmatch(r"(?:/v1)?/(?:devices|twins)/([^/]+)(?:/.*)?", path)
    return None if found is None else found[1]


_WITHIN_A_SCOPE = re.compile(
    r"/devices|/devices/query|/statistics/(devices|service)|/configurations(/.*)?"
    r"|/v1/devices|/v1/deployments(/.*)?|/v1/rollouts|/v1/readiness(/.*)?|/v1/facts|/v1/preview"
)


def heeds_scopes(method: str, path: str) -> bool:
    """Whether a path answers whoever is scoped within their scope; one that is not listed here is closed to them."""
    return device_of(method, path) is not None or _WITHIN_A_SCOPE.fullmatch(path) is not None


def registers(method: str, path: str) -> bool:
    """Whether a request may be about a device that is not there yet."""
    return method == "PUT" and re.fullmatch(r"/devices/[^/]+", path) is not None


_OF_TWINS = (PatchTags, PatchTwin, ReplaceTwin, ReportProperties, AcknowledgeDesired)


def needed_for(command: Command) -> frozenset[Right]:
    """What a command needs, as its own path does."""
    if isinstance(command, AccessCommand | WebhookCommand):
        return _ADMIN
    return _TWIN_WRITE if isinstance(command, _OF_TWINS) else _REGISTRY_WRITE


def lacking(need: frozenset[Right], has: frozenset[Right]) -> str:
    """Which rights are missing to somebody, and which roles of tokens and built-in policies have all that is needed."""
    missing = sorted(right.value for right in need - has)
    roles = [name for name, rights in ROLES.items() if need <= with_implied(rights)]
    policies = [name for name, rights in BUILT_IN.items() if need <= with_implied(rights)]
    able = [("role", roles), ("policy", policies)]
    enough = "; ".join(f"{what} {' or '.join(names)}" for what, names in able if names)
    return (
        f"they lack the right {' and '.join(missing)}, which come{'s' if len(missing) == 1 else ''} with the {enough}"
    )


def owner(path: str) -> tuple[str, str | None] | None:
    """Whose path it is: `/v1/devices/d/desired` is d's, `/devices/d/modules/m` and what is below also that of the module."""
    found = re.fullmatch(r"(?:/v1)?/devices/([^/]+)(?:/modules(?:/([^/]+)(?:/[^/]+)?)?|/desired|/reports)", path)
    return None if found is None else (found[1], found[2])
