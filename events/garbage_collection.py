"""Runs Python's garbage collector rarely while much state is built."""

import contextlib
import gc
from collections.abc import Iterator

_OBJECTS = 200_000
"""The number of new objects between two collections."""


# State has no reference cycles, so there is almost nothing to collect, and each collection walks the whole partition again. A
# third of the time of applying events went there; reading stopped 33 ms each time (docs/how-it-works/performance.md).
@contextlib.contextmanager
def rare_collection() -> Iterator[None]:
    """Collect garbage rarely within the block."""
    threshold = gc.get_threshold()
    gc.set_threshold(_OBJECTS, 50, 50)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
