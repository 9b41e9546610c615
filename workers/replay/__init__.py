"""The history folded again from facts alone, beside what is stored: compared with it, or put in its place."""
