"""The scheduler: what happens by itself, and when."""
