"""What applies to every request: limits, errors, connections, continuation tokens, OpenAPI."""
