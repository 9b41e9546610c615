"""An API process on a system of a test's own, with workers, and a client to it."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import httpx
import msgspec
from prometheus_client.parser import text_string_to_metric_families

from events.access.commands import DefinePolicy
from events.access.permissions import BUILT_IN
from events.envelope import Principal
from events.log.keys import FLEET
from events.log.raw import RawStreams
from events.producer.producer import Producer
from events.producer.secrecy import LazyVault
from events.secrets.redis import RedisSecretStore
from services.credentials import device_key, issue_token, policy_key
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.api.signing import signed
from tests.servers import eventually
from tests.workers.system import System, fresh_system

# An idle connection is not used again for longer than any of these processes keeps it.
_LIMITS = httpx.Limits(keepalive_expiry=1.0)
API_VERSION = {"api-version": "2021-04-12"}
NDJSON = {"Content-Type": "application/x-ndjson"}

_OPEN = {"TWINFOLD_LOG_LEVEL": "warning", "TWINFOLD_OPEN_ACCESS": "true"}


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def api(system: System, *, says: IO[bytes] | None = None, **environment: str) -> Iterator[httpx.Client]:
    """An API process; another port is tried where somebody else was faster."""
    while True:
        port = free_port()
        with (
            system.process(
                "-m", "services.api", says=says, **{**_OPEN, "TWINFOLD_PORT": str(port), **environment}
            ) as process,
            httpx.Client(
                base_url=f"http://127.0.0.1:{port}", timeout=waiting.seconds(), params=API_VERSION, limits=_LIMITS
            ) as client,
        ):
            eventually(lambda: process.poll() is not None or _answers(client), what="the API answers")
            if process.poll() is None:
                yield client
                return


def _answers(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return client.get("/healthz").is_success
    return False


def counted(http: httpx.Client) -> dict[str, float]:
    """The samples of /metrics by name, summed over their labels."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(http.get("/metrics").text):
        for sample in family.samples:
            name = sample.name.removeprefix("twinfold_")
            sums[name] = sums.get(name, 0) + sample.value
    return sums


def rows_of(http: httpx.Client, query: str, **headers: str) -> list[Any]:
    """The rows of a query on all its pages: on a slow machine a page may end before it is full."""
    rows: list[Any] = []
    while True:
        page = http.post("/devices/query", json={"query": query}, headers=headers).raise_for_status()
        rows += page.json()
        if "x-ms-continuation" not in page.headers:
            return rows
        headers["x-ms-continuation"] = page.headers["x-ms-continuation"]


def written(system: System) -> dict[int, int]:
    """The number of events of each stream, without the records of reads of keys, which change nothing."""
    entries = RawStreams(system.log.client).entries("fleet")
    reads = sum(one.fields[b"type"] == b"SecretsRead" for one in entries)
    heads = dict(system.log.heads())
    return {**heads, FLEET: heads[FLEET] - reads}


@contextlib.contextmanager
def served(server: EmbeddedRedis) -> Iterator[tuple[System, httpx.Client]]:
    """A system with workers and an API."""
    with fresh_system(server) as system, system.process("-m", "workers.pool"), api(system) as client:
        yield system, client


class Guarded(msgspec.Struct, frozen=True):
    """A system whose API asks everybody who they are, and what whoever keeps its keys can do."""

    system: System
    http: httpx.Client
    vault: LazyVault
    producer: Producer
    directory: Path

    @property
    def host(self) -> str:
        """As a connection string names it."""
        return self.http.base_url.netloc.decode()

    def key(self, policy: str) -> str:
        return policy_key(self.system.log, self.vault, policy)

    def policy(self, name: str = "iothubowner") -> dict[str, str]:
        """The header of a client with a policy's connection string."""
        return {"Authorization": signed(self.key(name), self.host, policy=name)}

    def device(self, device_id: str, module_id: str | None = None, *, key: str = "") -> dict[str, str]:
        """The header of a device, or of a module, with its own connection string or somebody's key."""
        key = key or device_key(self.system.log, self.vault, device_id, module_id)
        module = "" if module_id is None else f"/modules/{module_id}"
        return {"Authorization": signed(key, f"{self.host}/devices/{device_id}{module}")}

    def token(self, role: str, **how: Any) -> dict[str, str]:
        """The header of somebody who was given a token."""
        return {"Authorization": "Bearer " + issue_token(self.producer, name=f"caller-{role}", role=role, **how)}

    def give_keys(self, policy: str, primary: Any, secondary: Any) -> None:
        """Give a built-in policy other keys."""
        permissions = tuple(right.value for right in BUILT_IN[policy])
        self.producer.do(DefinePolicy(policy, permissions, primary, secondary))

    def register(self, device_id: str, **members: Any) -> Any:
        """Register a device with keys that the API makes; answers its identity."""
        answer = self.http.put(f"/devices/{device_id}", json={"deviceId": device_id, **members}, headers=self.policy())
        assert answer.is_success, answer.text
        return answer.json()

    def said(self) -> str:
        """All that the API has written to standard error."""
        return (self.directory / "said").read_text(errors="replace")


@contextlib.contextmanager
def guarded(system: System, directory: Path, **environment: str) -> Iterator[Guarded]:
    """An API without open access, which keeps its key file in this directory and says all it can."""
    vault = LazyVault(RedisSecretStore(system.log.client), directory / "master.key")
    producer = Producer(system.log, by=Principal.parse("user:keeper"), waker=system.waker, take_secrets=vault.take_out)
    closed = {"TWINFOLD_OPEN_ACCESS": "false", "TWINFOLD_DATA_DIR": str(directory), "TWINFOLD_LOG_LEVEL": "debug"}
    with (directory / "said").open("wb") as says, api(system, says=says, **{**closed, **environment}) as http:
        yield Guarded(system, http, vault, producer, directory)
