"""How deep JSON is nested and how many values it holds, told from its bytes before anything is built of them.

Decoding makes an object of every value, so that a few megabytes of `{"a":0,…` become hundreds, and hold up the process
meanwhile. Counting bytes runs at the speed of memory.
"""

import itertools
import re

DEPTH_MAX = 64
"""How deep JSON may be nested in a body. Twins may be 10 deep; no manifest is deeper than a few more."""

# One that is not closed reaches to the end. If it did not match, the search would begin anew at each quote within it.
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_OPENING, _CLOSING, _SEPARATORS = (b"{", b"["), (b"}", b"]"), (b",", b":")
_STEPS = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}
_NO_BRACKETS = bytes(set(range(256)) - set(_STEPS))


class JsonOutOfBounds(Exception):
    """JSON that is not decoded."""


class JsonTooLarge(JsonOutOfBounds):
    """It holds more values than are read in its place."""

    def __init__(self, values: int, values_max: int) -> None:
        super().__init__(f"it holds {values} names and values; at most {values_max} are read here")


class JsonTooDeep(JsonOutOfBounds):
    """It is nested deeper than anything valid."""

    def __init__(self) -> None:
        super().__init__(f"it is nested deeper than {DEPTH_MAX}")


def check_bounds(text: bytes, *, values_max: int) -> None:
    """Refuse JSON that is too large to be decoded; names of members count as values. What is no JSON passes.

    Takes about a millisecond for each megabyte, and ten where strings are full of brackets, colons and commas.

    Raises:
        JsonTooLarge: it holds more than `values_max` values.
        JsonTooDeep: it is nested deeper than `DEPTH_MAX`.
    """
    if _count(text, _OPENING + _SEPARATORS) < values_max and _count(text, _OPENING) <= DEPTH_MAX:
        return  # What stands in strings was counted as well.
    bare = _STRING.sub(b"", text)
    values = _count(bare, _OPENING + _SEPARATORS) + 1
    if values > values_max:
        raise JsonTooLarge(values, values_max)
    if _depth(bare) > DEPTH_MAX:
        raise JsonTooDeep


def _count(text: bytes, parts: tuple[bytes, ...]) -> int:
    return sum(map(text.count, parts))


def _depth(bare: bytes) -> int:
    if _count(bare, _OPENING) <= DEPTH_MAX or _count(bare, _CLOSING) > _count(bare, _OPENING):
        return 0  # With too many closing ones it is no JSON, and the decoder stops at the first of them.
    brackets = bare.translate(None, _NO_BRACKETS)
    return max(itertools.accumulate(map(_STEPS.__getitem__, brackets)), default=0)
