from collections.abc import Iterator

import pytest

from tests.clients.serving import Hub, hub


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """One hub for the tests of a file, each of which uses names of its own."""
    with hub(tmp_path_factory.mktemp("hub")) as serving:
        yield serving
