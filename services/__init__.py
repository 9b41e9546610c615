"""twinfold's processes for people and clients: the command line, the API, and what they start."""
