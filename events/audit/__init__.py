"""Whether history is as it was written, and what it says: seals, their verification, search, and the tree of causes."""
