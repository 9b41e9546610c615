"""The HTTP API: the hub's paths and shapes, and our own under `/v1`."""
