"""What the short run leaves out of a test with many parameters."""

from collections.abc import Iterable
from typing import Any

import pytest


def shortened(values: Iterable[Any], *, keep: int = 1) -> list[Any]:
    """Parameters of which the short run takes the first few only: the others show the same in another place."""
    listed = list(values)
    return listed[:keep] + [_in_full(value) for value in listed[keep:]]


def _in_full(value: Any) -> Any:
    if isinstance(value, tuple):
        return pytest.param(*value, marks=pytest.mark.full)
    return pytest.param(value, marks=pytest.mark.full)
