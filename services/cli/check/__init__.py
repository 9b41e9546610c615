"""`twinfold check`: its files, fixes and reports. The rules are in `events.readiness`."""
