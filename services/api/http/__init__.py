"""What holds for every request, whatever it asks: limits, errors, connections, continuation tokens, OpenAPI."""
