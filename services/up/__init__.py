"""`twinfold up`: an embedded Redis, the API, the workers and the scheduler on one machine."""
