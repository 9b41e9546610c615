"""Shared access policies and tokens, as events. Their keys are sealed beside the log, never in it."""
