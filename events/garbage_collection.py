"""Python's collector of garbage, kept from looking at a whole partition's state again and again while that is made."""

import contextlib
import gc
from collections.abc import Iterator

_OBJECTS = 200_000
"""Between two looks at what is new; state has no cycles, so that there is next to nothing to find."""


@contextlib.contextmanager
def rare_collection() -> Iterator[None]:
    """Collect seldom within the block: of the time that applying takes, a third went there."""
    threshold = gc.get_threshold()
    gc.set_threshold(_OBJECTS, 50, 50)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
