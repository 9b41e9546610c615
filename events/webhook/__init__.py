"""Webhooks: whom to tell over HTTP of what happens, as facts, and the rules of where they may lead."""
