"""Caches results by text: many short texts and few long ones, so that the cache is limited in bytes."""

import functools
from collections.abc import Callable
from typing import TypeVar

V = TypeVar("V")

_SIZES = ((96, 20_000), (1024, 256), (8192, 32))
"""The number of texts in the cache by their length in characters; 2.4 million characters in all."""
# A parsed text takes about 100 bytes per character. A caller could fill a cache that counts only texts with gigabytes by sending
# long texts.


def by_text(made_of: Callable[[str], V]) -> Callable[[str], V]:
    """The function with a cache of its latest results; texts longer than 8,192 characters are not cached."""
    remembered = [(characters, functools.lru_cache(count)(made_of)) for characters, count in _SIZES]

    @functools.wraps(made_of)
    def recall(text: str) -> V:
        length = len(text)
        for characters, cached in remembered:
            if length <= characters:
                return cached(text)
        return made_of(text)

    return recall
