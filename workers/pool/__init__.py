"""The pool: keeps worker processes alive, and wakes partitions that are behind."""
