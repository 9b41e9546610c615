import atexit
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

from services.embedded_redis import EmbeddedRedis
from tests import shortening
from tests.redis_cluster import cluster
from tests.servers import oldest_server, redis_server

# Tests start hundreds of processes: none of them compiles anew what another one has compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# What a test's own settings do not name a place for, such as a key file, goes into a directory of this process.
if "TWINFOLD_DATA_DIR" not in os.environ:
    os.environ["TWINFOLD_DATA_DIR"] = tempfile.mkdtemp(prefix="twinfold-test-data-")
    atexit.register(shutil.rmtree, os.environ["TWINFOLD_DATA_DIR"], ignore_errors=True)

# The same examples each time, however slow the machine is at the moment.
settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores: tests wait for processes as often as they compute. Parts of the suite start none."""
    return len(os.sched_getaffinity(0)) + 1 if config.args == config.getini("testpaths") else 0


def pytest_configure(config: pytest.Config) -> None:
    """Let `-m full` choose every test that does not take minutes, and any other choice than the short run's try all examples.

    And who started these in the background ignores Ctrl-C, and so would every process that a test interrupts.
    """
    shortening.is_short = config.option.markexpr == shortening.SHORT
    if config.option.markexpr == "full":
        config.option.markexpr = "not long"
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# Folders whose files take longest. They start first, so that no process ends with such a file while the others have nothing
# left: that took a fifth of the short run's time.
_SLOWEST_FIRST = ("cli", "fleet", "projection_store", "history", "clients", "workers", "api")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the folders that take longest."""
    ranks = {folder: rank for rank, folder in enumerate(_SLOWEST_FIRST)}
    items.sort(key=lambda item: ranks.get(item.path.parent.name, len(ranks)))


@pytest.fixture(autouse=True)
def _logging_of_its_own() -> Iterator[None]:
    """What a test sets up for log lines ends with it: a command that runs in this process may silence them."""
    clients = logging.getLogger("httpx")
    level = clients.level
    yield
    structlog.reset_defaults()
    clients.setLevel(level)


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[EmbeddedRedis]:
    """One real server for the tests that leave it standing; each empties it first."""
    with redis_server() as server:
        yield server


@pytest.fixture(scope="session")
def oldest_redis() -> Iterator[EmbeddedRedis]:
    """As `shared_redis`, of the oldest version that is supported."""
    with redis_server(binary=oldest_server()) as server:
        yield server


@pytest.fixture(scope="session")
def cluster_url() -> Iterator[str]:
    """One cluster of three nodes for the tests that leave it standing; each empties it first."""
    with cluster() as nodes:
        yield nodes.url
