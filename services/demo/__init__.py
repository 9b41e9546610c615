"""`twinfold demo`: the story of an edge fleet, told on a real log by real processes, with every number read back."""
