"""The stored form of a partition's state, and the answers that readers derive from it."""
