"""The kinds of what there is to be told of: every fact, every outcome, and what cannot be read."""

from typing import get_args

from events.access.facts import AccessFact
from events.log.port import Fact
from events.webhook.facts import WebhookFact

OUTCOME = "Outcome"
UNREADABLE = "Unreadable"
"""Stands where an entry of the log does not decode: nobody is told nothing in silence."""

KINDS = frozenset({*(kind.__name__ for kind in get_args(Fact)), OUTCOME, UNREADABLE})

GUARDED_KINDS = frozenset(kind.__name__ for union in (AccessFact, WebhookFact) for kind in get_args(union))
"""Those that tell who may come in and who is told: for whoever may manage that."""
