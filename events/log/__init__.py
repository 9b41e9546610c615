"""The log: every event, in Redis Streams, and nothing else."""
