"""Simulated edge devices: each process answers for many edge agents."""
