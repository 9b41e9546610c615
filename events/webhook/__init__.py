"""Webhooks: whom to tell over HTTP of what happens, as events, and the rules of where they may lead."""
