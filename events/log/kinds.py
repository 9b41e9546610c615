"""The kinds of what there is to be told of: every event, every assignment change, and what cannot be read."""

from typing import get_args

from events.access.events import AccessEvent
from events.log.port import Event
from events.webhook.events import WebhookEvent

ASSIGNMENT_CHANGE = "AssignmentChange"
UNREADABLE = "Unreadable"
"""Stands where an entry of the log does not decode: nobody is told nothing in silence."""

KINDS = frozenset({*(kind.__name__ for kind in get_args(Event)), ASSIGNMENT_CHANGE, UNREADABLE})

RESTRICTED_KINDS = frozenset(kind.__name__ for union in (AccessEvent, WebhookEvent) for kind in get_args(union))
"""Those that tell who may come in and who is told: for whoever may manage that."""
