"""Which snapshots may go: the further back they lie, the fewer are needed."""

from collections.abc import Sequence
from itertools import pairwise

DENSITY = 32
"""What is folded to a moment is at most this part of the facts since then, or what lay between two snapshots when they were taken."""


def dispensable(positions: Sequence[int]) -> list[int]:
    """Of the rising positions of some snapshots, the indices of those that are not needed; the newest always is.

    One may go if the two beside it are no further apart than a `DENSITY`-th of the facts since the later of them. Before the
    first one there is the beginning of the log. Whatever goes, that stays true of those that are left, as they only get older:
    at most some 2 * DENSITY of them for every time that the log becomes e times as long.
    """
    gone: list[int] = []
    before = 0
    for index, (position, following) in enumerate(pairwise(positions)):
        if (following - before) * DENSITY <= positions[-1] - following:
            gone.append(index)
        else:
            before = position
    return gone
