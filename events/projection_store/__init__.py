"""Stores projections in Redis (in memory for tests), and reads them for the API, the scheduler and previews."""
