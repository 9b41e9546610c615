"""Secrets: references in facts, ciphertext beside the log, keys outside Redis."""
