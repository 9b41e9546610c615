"""The history replayed again from events alone, beside what is stored: compared with it, or put in its place."""
