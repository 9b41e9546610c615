"""What is made of texts, remembered: many short ones and few long ones, so that what is kept has an end in bytes."""

import functools
from collections.abc import Callable
from typing import TypeVar

V = TypeVar("V")

_SIZES = ((96, 20_000), (1024, 256), (8192, 32))
"""Characters, and how many texts of at most so many are remembered: 2.4 million characters in all.

What is parsed of a text takes about a hundred bytes for each of its characters. A cache that counts texts alone is filled with
gigabytes by a caller that sends a long one after another.
"""


def by_text(made_of: Callable[[str], V]) -> Callable[[str], V]:
    """The function, with its newest results remembered; longer texts than any of the sizes are not."""
    remembered = [(characters, functools.lru_cache(count)(made_of)) for characters, count in _SIZES]

    @functools.wraps(made_of)
    def recall(text: str) -> V:
        length = len(text)
        for characters, cached in remembered:
            if length <= characters:
                return cached(text)
        return made_of(text)

    return recall
