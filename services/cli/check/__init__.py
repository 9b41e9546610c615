"""What `twinfold check` reads, mends and prints; the rules are in `events.readiness`."""
