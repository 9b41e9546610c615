"""`twinfold demo`: the story of an edge fleet on a real log with real processes; every number is read back."""
