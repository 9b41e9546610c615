"""`twinfold backtest`: recorded devices in virtual time, under other deployments, plans or rollback policies."""

STEP_SECONDS = 60
"""Seconds of virtual time between two rounds of the scheduler."""
