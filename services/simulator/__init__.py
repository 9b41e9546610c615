"""Simulated edge devices: processes that answer for many edge agents at once."""
