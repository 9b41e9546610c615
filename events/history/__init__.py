"""Time travel: the log, the projections and what readers make of them, as they were at a moment."""
