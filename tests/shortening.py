"""What the short run leaves out of tests with many parameters or many drawn examples."""

from collections.abc import Iterable
from typing import Any

import pytest

SHORT = "not full and not long"
"""The tests of the short run, as pytest's `-m` has it."""

is_short = False
"""Whether this is the short run; set before tests are collected (tests/conftest.py)."""


def examples(count: int) -> int:
    """How many examples a property is tried on: a third of `count` in the short run."""
    return count // 3 if is_short else count


def shortened(values: Iterable[Any], *, keep: int = 1) -> list[Any]:
    """Parameters of which the short run takes the first few only: the others show the same in another place."""
    listed = list(values)
    return listed[:keep] + [_in_full(value) for value in listed[keep:]]


def _in_full(value: Any) -> Any:
    if isinstance(value, tuple):
        return pytest.param(*value, marks=pytest.mark.full)
    return pytest.param(value, marks=pytest.mark.full)
