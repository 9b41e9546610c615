"""The permissions that a command requires, and the roles and policies that have those that a caller lacks."""

from events.access.commands import AccessCommand
from events.access.permissions import BUILT_IN, ROLES, Permission, with_implied
from events.device.commands import AcknowledgeDesired, PatchTags, PatchTwin, ReplaceTwin, ReportProperties
from events.producer.errors import Command
from events.webhook.commands import WebhookCommand
from services.api.http.access import ADMIN, REGISTRY_WRITE, TWIN_WRITE

_OF_TWINS = (PatchTags, PatchTwin, ReplaceTwin, ReportProperties, AcknowledgeDesired)


def needed_for(command: Command) -> frozenset[Permission]:
    """The permissions that a command requires, the same as its own path."""
    if isinstance(command, AccessCommand | WebhookCommand):
        return ADMIN
    return TWIN_WRITE if isinstance(command, _OF_TWINS) else REGISTRY_WRITE


def lacking(need: frozenset[Permission], has: frozenset[Permission]) -> str:
    """The missing permissions, and the roles and built-in policies that have all required ones; the end of a sentence."""
    missing = sorted(permission.value for permission in need - has)
    roles = [name for name, permissions in ROLES.items() if need <= with_implied(permissions)]
    policies = [name for name, permissions in BUILT_IN.items() if need <= with_implied(permissions)]
    able = [("role", roles), ("policy", policies)]
    enough = "; ".join(f"{what} {' or '.join(names)}" for what, names in able if names)
    return f"they lack the permission {' and '.join(missing)}, which come{'s' if len(missing) == 1 else ''} with the {enough}"
