"""Notifications: events and assignment changes for readers of the event stream and for webhooks."""
