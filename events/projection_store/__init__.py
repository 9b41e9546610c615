"""Where projections are kept: Redis, or memory for tests."""
