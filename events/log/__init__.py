"""The log: every event, in Redis Streams; the only source of all projections."""
