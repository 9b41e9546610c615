"""The scheduler: starts and ends deployments at their times, advances rollouts, and seals the log."""
