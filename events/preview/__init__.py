"""Previews: what commands would do to the fleet, computed by the code that would do it, with nothing written."""
