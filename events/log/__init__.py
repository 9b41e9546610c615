"""The log: every fact, in Redis Streams, and nothing else."""
