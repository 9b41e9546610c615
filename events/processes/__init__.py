"""Supervised child processes: they end with their parent, and are started again when they end before it."""
