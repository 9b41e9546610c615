"""The kinds of entries that webhooks and event streams deliver: event types, assignment changes, unreadable entries."""

from typing import get_args

from events.access.events import AccessEvent
from events.log.port import Event
from events.webhook.events import WebhookEvent

ASSIGNMENT_CHANGE = "AssignmentChange"
UNREADABLE = "Unreadable"
"""The kind that replaces an entry that does not decode, so that a receiver learns of the gap."""

KINDS = frozenset({*(kind.__name__ for kind in get_args(Event)), ASSIGNMENT_CHANGE, UNREADABLE})

RESTRICTED_KINDS = frozenset(kind.__name__ for union in (AccessEvent, WebhookEvent) for kind in get_args(union))
"""Kinds that show who has access and which webhooks exist; only callers who may manage both receive them."""
