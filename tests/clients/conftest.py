import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.serving import Hub, hub


@pytest.fixture(scope="module")
def running() -> Iterator[Hub]:
    """One hub for the tests of a file, each of which uses names of its own; its path is short, as a socket's must be."""
    with tempfile.TemporaryDirectory(prefix="t-") as directory, hub(Path(directory) / "data") as serving:
        yield serving
