"""Rollouts: a deployment reaches a fleet in phases, each judged by what devices report, and rolls back on failure."""
