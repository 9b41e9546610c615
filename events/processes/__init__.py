"""Child processes: they end with their parent, however it ends, and are started again when they end before it."""
