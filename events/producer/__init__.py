"""Producers: typed commands, decided on the current state and appended to the log in batches."""
