"""Secrets: references in events, ciphertext beside the log, keys outside Redis."""
