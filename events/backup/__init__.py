"""Backup and restore of a whole system: its log, what lies beside it, its archive, and the files that make it itself."""
