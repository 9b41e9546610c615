"""Webhooks: receivers of events over HTTP, and the rules for their addresses."""
