"""Limits on the depth and the number of values of JSON, checked on its bytes before it is decoded.

Decoding makes an object of every value, so that a few megabytes of `{"a":0,…` become hundreds, and block the process
meanwhile. Counting bytes runs at the speed of memory.
"""

import itertools
import re

DEPTH_MAX = 64
"""How deep JSON may be nested in a body. Twins may be 10 deep; no manifest is deeper than a few more."""

# A string that is not closed matches up to the end. Without that, the search would restart at each quote within it: quadratic.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_OPENING, _CLOSING, _SEPARATORS = (b"{", b"["), (b"}", b"]"), (b",", b":")
_STEPS = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}
_NO_BRACKETS = bytes(set(range(256)) - set(_STEPS))


class JsonOutOfBounds(Exception):
    """JSON that is not decoded."""


class JsonTooLarge(JsonOutOfBounds):
    """It holds more values than its path accepts."""

    def __init__(self, values: int, values_max: int) -> None:
        super().__init__(f"it has {values} names and values, and the limit of this path is {values_max}")


class JsonTooDeep(JsonOutOfBounds):
    """It is nested deeper than any valid body."""

    def __init__(self) -> None:
        super().__init__(f"it is nested deeper than {DEPTH_MAX} levels")


def check_bounds(text: bytes, *, values_max: int) -> None:
    """Reject JSON that is too large to be decoded; names of members count as values. Text that is no JSON passes.

    Takes about 1 ms per megabyte, and 10 ms if strings are full of brackets, colons and commas.

    Raises:
        JsonTooLarge: it holds more than `values_max` values.
        JsonTooDeep: it is nested deeper than `DEPTH_MAX`.
    """
    if _count(text, _OPENING + _SEPARATORS) < values_max and _count(text, _OPENING) <= DEPTH_MAX:
        return  # Brackets and separators in strings were counted as well, so that the true numbers are not higher.
    bare = _STRING.sub(b"", text)
    values = _count(bare, _OPENING + _SEPARATORS) + 1
    if values > values_max:
        raise JsonTooLarge(values, values_max)
    opening = _count(bare, _OPENING)
    # With more closing than opening brackets it is no JSON, and the decoder stops at the first surplus bracket.
    if opening > DEPTH_MAX and _count(bare, _CLOSING) <= opening:
        steps = map(_STEPS.__getitem__, bare.translate(None, _NO_BRACKETS))
        if max(itertools.accumulate(steps)) > DEPTH_MAX:
            raise JsonTooDeep


def _count(text: bytes, parts: tuple[bytes, ...]) -> int:
    return sum(map(text.count, parts))
