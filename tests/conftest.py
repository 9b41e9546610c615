import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from services.embedded_redis import EmbeddedRedis
from tests.servers import redis_cluster, redis_server

# The same examples each time, however slow the machine is at the moment.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")


def pytest_configure() -> None:
    """Who started these in the background ignores Ctrl-C, and so would every process that a test interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[EmbeddedRedis]:
    """One real server for the tests that leave it standing; each empties it first."""
    with redis_server() as server:
        yield server


@pytest.fixture(scope="session")
def cluster_url() -> Iterator[str]:
    """One cluster of three nodes for the tests that leave it standing; each empties it first."""
    with redis_cluster() as url:
        yield url
