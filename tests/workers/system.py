"""A whole twinfold for a test: a real Redis, real worker processes, a producer and the projections."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import msgspec
from redis import Redis

from events import AcknowledgeDesired, CreateDeployment, PatchTags, Producer, RegisterDevice, ReportProperties
from events.envelope import Principal
from events.fleet.assignments import Assignment
from events.log.keys import FLEET
from events.log.log_factory import initialise
from events.log.redis import RedisLog
from events.log.wake import Waker
from events.projection_store.fleet_projection import FleetProjection
from events.projection_store.memory import MemoryProjectionStore
from events.projection_store.port import ProjectionStore
from events.projection_store.redis import RedisProjectionStore
from events.settings import environment_of, is_cluster, read_settings
from services.embedded_redis import EmbeddedRedis
from tests import waiting
from tests.servers import eventually, flush
from workers.restored import rebuild

PARTITIONS = 4


class System:
    """The open ends of one twinfold."""

    def __init__(
        self,
        url: str,
        *,
        at: int | None = None,
        waking: bool = True,
        queue_url: str | None = None,
        partitions: int = PARTITIONS,
    ) -> None:
        self.url = url
        self._directory = tempfile.TemporaryDirectory(prefix="twinfold-test-")
        self.data_dir = Path(self._directory.name)
        """Where its processes keep what is not in Redis."""
        self.queue_url = queue_url or url
        self.log: RedisLog = initialise(url, partitions=partitions, epoch="test", at=0)
        self.queue = Redis.from_url(self.queue_url)
        self.projections = RedisProjectionStore(self.log.client)
        self.fleet_projection = FleetProjection(self.projections, partitions=partitions)
        self.waker = Waker(self.queue)
        clock: dict[str, Any] = {} if at is None else {"clock": lambda: at}
        self.producer = Producer(
            self.log, by=Principal.parse("user:ada"), waker=self.waker if waking else None, **clock
        )

    def close(self) -> None:
        self.log.client.close()
        self.queue.close()
        self._directory.cleanup()

    def environment(self, **more: str) -> dict[str, str]:
        """The variables of a process that works on this system."""
        settings = read_settings(redis_url=self.url, queue_url=self.queue_url, workers=1, data_dir=self.data_dir)
        return {**os.environ, **environment_of(settings), **more}

    @contextlib.contextmanager
    def process(
        self, *command: str, says: IO[bytes] | None = None, **environment: str
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A Python process on this system, ended with the block; `says` takes what it writes to standard error."""
        process = subprocess.Popen([sys.executable, *command], env=self.environment(**environment), stderr=says)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    waiting.exit_code(process, 10)

    def do(self, *commands: Any) -> None:
        """Write commands, or lists of them; every one must go through."""
        every = [one for some in commands for one in (some if isinstance(some, list) else [some])]
        self.producer.submit(every).raise_if_refused()

    def is_settled(self) -> bool:
        """Whether every projection is at the head of both of its streams."""
        heads = self.log.heads()
        vectors = {number: self.projections.checkpoint(number).vector for number in range(self.log.partitions)}
        return all((at.partition, at.fleet) == (heads[number], heads[FLEET]) for number, at in vectors.items())

    def settle(self, seconds_max: float = waiting.SECONDS_MAX) -> None:
        """Wait until it is."""
        eventually(self.is_settled, what="the projections are at the head of the log", seconds_max=seconds_max)

    def status(self, deployment_id: str) -> dict[str, int]:
        """Counts by status of a deployment; each is held against its list."""
        counts = dict(self.fleet_projection.status(deployment_id)[deployment_id])
        for name, count in counts.items():
            assert len(list(self.fleet_projection.members(deployment_id, name))) == count
        return counts

    def everything_kept(self) -> list[Any]:
        """All projections and assignment changes, byte for byte, without the times of recording, which differ in every run."""
        stored_partitions = [self.projections.load(number) for number in range(self.log.partitions)]
        assignment_changes = [
            self.projections.assignment_changes(number, after=0, limit=100_000) for number in range(self.log.partitions)
        ]
        without_times = [
            [msgspec.structs.replace(change, recorded=None) for change in changes] for changes in assignment_changes
        ]
        return [msgspec.to_builtins(one) for one in (*stored_partitions, *without_times)]


def assert_rebuilt(system: System) -> None:
    """A replay of all events and recorded vectors into another database gives the same bytes."""
    client = None if is_cluster(system.url) else Redis.from_url(system.url, db=1)
    elsewhere: ProjectionStore = MemoryProjectionStore() if client is None else RedisProjectionStore(client)
    for number in range(PARTITIONS):
        rebuild(number, log=system.log, recorded=system.projections, into=elsewhere)
        assert elsewhere.load(number) == system.projections.load(number)
        recorded = system.projections.assignment_changes(number, after=0, limit=100_000)
        assert list(elsewhere.assignment_changes(number, after=0, limit=100_000)) == list(recorded)
    if client is not None:
        client.flushdb()
        client.close()


@contextlib.contextmanager
def fresh_system(server: EmbeddedRedis, **how: Any) -> Iterator[System]:
    """A system on an emptied server."""
    client = Redis.from_url(server.url)
    flush(client)
    client.close()
    system = System(server.url, **how)
    try:
        yield system
    finally:
        system.close()


def base(*modules: str, image: str = "example.com/a:1.0.0", **specs: Any) -> dict[str, Any]:
    """A standard content with some modules."""
    spec = {"type": "docker", "status": "running", "restartPolicy": "always", "settings": {"image": image}, **specs}
    system = {"type": "docker", "settings": {"image": image}}
    hub = {**spec, "settings": {"image": image}}
    agent = {
        "schemaVersion": "1.1",
        "runtime": {"type": "docker", "settings": {}},
        "systemModules": {"edgeAgent": system, "edgeHub": hub},
        "modules": dict.fromkeys(modules, spec),
    }
    routes = {"schemaVersion": "1.1", "routes": {}, "storeAndForwardConfiguration": {"timeToLiveSecs": 7200}}
    return {"modulesContent": {"$edgeAgent": {"properties.desired": agent}, "$edgeHub": {"properties.desired": routes}}}


def layer(module: str, **desired: Any) -> dict[str, Any]:
    """A layered content that adds one module with its own desired properties."""
    spec = {"type": "docker", "status": "running", "restartPolicy": "always", "settings": {"image": "example.com/l:1"}}
    return {
        "modulesContent": {
            "$edgeAgent": {f"properties.desired.modules.{module}": spec},
            module: {"properties.desired": desired},
        }
    }


def deploy(name: str, content: dict[str, Any], condition: str = "*", priority: int = 1) -> CreateDeployment:
    return CreateDeployment(name, content, target_condition=condition, priority=priority)


def join(name: str, **tags: Any) -> list[Any]:
    return [RegisterDevice(name), PatchTags(name, tags)]


def answer(system: System, name: str, *, code: int = 200, hub: int = 200, **statuses: str) -> list[Any]:
    """What a device answers for the assignment that it has now."""
    effective = system.fleet_projection.effective(name)
    assert effective is not None
    return answers_to(name, effective.assignment, code=code, hub=hub, **statuses)


def answers_to(name: str, assignment: Assignment, *, code: int = 200, hub: int = 200, **statuses: str) -> list[Any]:
    """What a device answers for an assignment: its two system modules, and all others that have what they are told."""
    commands: list[Any] = []
    if assignment.agent_version or not assignment.deliverable:
        patch = answer_of(max(1, assignment.agent_version), code=code, **statuses)
        commands.append(ReportProperties(name, patch, "$edgeAgent"))
    if "$edgeHub" in assignment.versions:
        commands.append(ReportProperties(name, hub_answer_of(assignment.versions["$edgeHub"], code=hub), "$edgeHub"))
    if assignment.deliverable:
        commands.append(AcknowledgeDesired(name, assignment.deliverable))
    return commands


def hub_answer_of(version: int, *, code: int = 200) -> dict[str, Any]:
    """What an edge hub reports for a version."""
    return {"lastDesiredVersion": version, "lastDesiredStatus": {"code": code}}


def answer_of(version: int, *, code: int = 200, **statuses: str) -> dict[str, Any]:
    """What an edge agent reports for a version, with the runtime status of each module."""
    running = {"runtimeStatus": "running"}
    return {
        "lastDesiredVersion": version,
        "lastDesiredStatus": {"code": code},
        "systemModules": {"edgeAgent": running, "edgeHub": running},
        "modules": {module: {"runtimeStatus": status} for module, status in statuses.items()},
    }
