"""`twinfold up`: an embedded Redis, the API and the workers, on one machine."""
