"""An API process on a system of a test's own, with workers, and a client to it."""

import contextlib
import socket
from collections.abc import Iterator

import httpx

from services.embedded_redis import EmbeddedRedis
from tests.servers import eventually
from tests.workers.system import System, fresh_system

API_VERSION = {"api-version": "2021-04-12"}

_OPEN = {"TWINFOLD_LOG_LEVEL": "warning", "TWINFOLD_OPEN_ACCESS": "true"}


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def api(system: System, **environment: str) -> Iterator[httpx.Client]:
    """An API process; another port is tried where somebody else was faster."""
    while True:
        port = free_port()
        with (
            system.process("-m", "services.api", **{**_OPEN, "TWINFOLD_PORT": str(port), **environment}) as process,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, params=API_VERSION) as client,
        ):
            eventually(lambda: process.poll() is not None or _answers(client), what="the API answers")
            if process.poll() is None:
                yield client
                return


def _answers(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return client.get("/healthz").is_success
    return False


@contextlib.contextmanager
def served(server: EmbeddedRedis) -> Iterator[tuple[System, httpx.Client]]:
    """A system with workers and an API."""
    with fresh_system(server) as system, system.process("-m", "workers.pool"), api(system) as client:
        yield system, client
