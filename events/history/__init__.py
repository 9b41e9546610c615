"""Time travel: the log and the projections as they were at a point in time (decisions/0029)."""
