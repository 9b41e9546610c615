"""Authentication and authorization: the caller of a request, and what they are permitted."""
