"""Read models as data: what a partition's state looks like when it is kept, and what readers make of it."""
