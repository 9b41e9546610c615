"""Where views are kept: Redis, or memory for tests."""
