"""Replays the history from events alone, and compares the result with what is stored, or replaces it."""
