"""Secrets: events have references, Redis has the ciphertext, and the key is in a file outside Redis."""
