"""Authentication and authorization: which caller a request is from, and what the caller is permitted."""
