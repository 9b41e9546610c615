"""Which permissions a command requires, and who has those that a caller lacks."""

from events.access.commands import AccessCommand
from events.access.rights import BUILT_IN, ROLES, Right, with_implied
from events.device.commands import AcknowledgeDesired, PatchTags, PatchTwin, ReplaceTwin, ReportProperties
from events.producer.errors import Command
from events.webhook.commands import WebhookCommand
from services.api.http.access import ADMIN, REGISTRY_WRITE, TWIN_WRITE

_OF_TWINS = (PatchTags, PatchTwin, ReplaceTwin, ReportProperties, AcknowledgeDesired)


def needed_for(command: Command) -> frozenset[Right]:
    """What a command needs, as its own path does."""
    if isinstance(command, AccessCommand | WebhookCommand):
        return ADMIN
    return TWIN_WRITE if isinstance(command, _OF_TWINS) else REGISTRY_WRITE


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
