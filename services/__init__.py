"""twinfold's processes that someone talks to."""
