"""Time travel: the log, the views and what readers make of them, as they were at a moment."""
