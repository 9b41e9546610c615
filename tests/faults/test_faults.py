"""Ten minutes of faults without outside help; `TWINFOLD_TEST_FAULT_SECONDS` makes it another time."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.run import run

pytestmark = [pytest.mark.redis_server, pytest.mark.long]

SECONDS = float(os.environ.get("TWINFOLD_TEST_FAULT_SECONDS", "600"))


@pytest.fixture
def data() -> Iterator[Path]:
    """Short, as a socket's path must be."""
    with tempfile.TemporaryDirectory(prefix="t-") as directory:
        yield Path(directory) / "data"


def test_no_acknowledged_write_is_lost_doubled_or_wrong_whatever_is_killed_or_stopped(data: Path) -> None:
    course = run(data, seconds=SECONDS, seed=1, print_lines=print)
    assert course.acknowledged > 0
    assert course.wrong == []
