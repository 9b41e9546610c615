"""Real Redis Clusters for tests: servers that join, replicate, give slots away, and die."""

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError, ResponseError

from events.log.keys import FLEET, key
from events.settings import read_settings
from services.embedded_redis import find_server
from tests import waiting
from tests.waiting import eventually

SLOTS = 16384
_PORT_MAX = 55000
"""A server of a cluster listens on its port + 10000 as well."""
_END_SECONDS = 5.0


class Server:
    """One server of a cluster."""

    def __init__(self, binary: Path, directory: str, *flags: str) -> None:
        self._binary, self._directory, self._flags = binary, directory, flags
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port: int = probe.getsockname()[1]
            if self.port <= _PORT_MAX:
                self.client: Any = Redis(port=self.port, socket_timeout=waiting.seconds())
                if self.start():
                    break
        self.id: str = self.client.execute_command("CLUSTER MYID").decode()

    def start(self) -> bool:
        """Start it on its port; false if another program has the port."""
        flags = ("--port", str(self.port), "--cluster-enabled", "yes", "--dir", self._directory, "--bind", "127.0.0.1")
        self._process = subprocess.Popen(
            [str(self._binary), *flags, "--appendonly", "yes", "--save", "", *self._flags],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(lambda: self._process.poll() is not None or self._answers(), what="the server answers")
        return self._process.poll() is None

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisError:
            return False

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Stop it, as a machine does that hangs."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on after `stop`."""
        os.kill(self.pid, signal.SIGCONT)

    def end(self) -> None:
        """End it, so that no child of it is left that writes into a directory that is being removed."""
        self.client.close()
        if self._process.poll() is None:
            os.kill(self.pid, signal.SIGCONT)
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
        # Redis 6.2 waits without end for the child of a replica that begins to follow.
        self.kill()

    def ask(self, *command: Any) -> Any:
        """What it answers to a command of `CLUSTER`."""
        return self.client.execute_command("CLUSTER " + str(command[0]), *command[1:])

    def is_whole(self, servers: int) -> bool:
        """Whether it takes part in a whole cluster of so many servers."""
        information = self.ask("INFO")
        return information["cluster_state"] == "ok" and information["cluster_known_nodes"] == str(servers)

    def role(self) -> str:
        """`master` or `slave`."""
        role: str = self.client.info("replication")["role"]
        return role


class Cluster:
    """Masters that share all slots, and a replica of each if wanted."""

    def __init__(self, stack: contextlib.ExitStack, *, binary: Path | None = None, flags: Sequence[str] = ()) -> None:
        self._stack, self._flags = stack, flags
        self._binary = binary or find_server(read_settings().redis_server)
        self.masters: list[Server] = []
        self.replicas: list[Server] = []
        """The first replica is of the first master, and so on."""

    @property
    def servers(self) -> list[Server]:
        """All servers that are running."""
        return [*self.masters, *self.replicas]

    @property
    def url(self) -> str:
        """The URL of the log on it; it names the first three masters."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{master.port}" for master in self.masters[:3])

    def launch(self) -> Server:
        """Start a server that knows no other."""
        directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="twinfold-test-"))
        server = Server(self._binary, directory, *self._flags)
        self._stack.callback(server.end)
        return server

    def add_master(self) -> Server:
        """Add a master without slots."""
        server = self.launch()
        server.ask("MEET", "127.0.0.1", self.masters[0].port)
        self.masters.append(server)
        self.settle()
        return server

    def replica_of(self, master: Server) -> Server:
        """The replica of a master."""
        return self.replicas[self.masters.index(master)]

    def catch_up(self) -> None:
        """Wait until every replica has everything that its master has."""
        for master, replica in zip(self.masters, self.replicas, strict=True):
            eventually(
                lambda master=master, replica=replica: _offset(master) == _offset(replica),
                what="the replica has it all",
            )

    def promoted(self, master: Server, replica: Server) -> None:
        """Note that a replica has taken the place of a master that was killed."""
        number = self.masters.index(master)
        self.masters[number] = replica
        del self.replicas[number]

    def knows(self, server: Server, slot: int) -> bool:
        """Whether a server knows the master of a slot."""
        masters = {line["node_id"]: line["slots"] for line in server.ask("NODES").values() if line["slots"]}
        owners = [node_id for node_id, slots in masters.items() if slot in _numbers(slots)]
        return owners == [self.owner(slot).id]

    def remove_master(self, server: Server) -> None:
        """Remove a master that has no slots, as the guide says."""
        self.masters.remove(server)
        for other in self.servers:
            other.ask("FORGET", server.id)
        server.end()

    def settle(self) -> None:
        """Wait until every server knows every other one, and each slot's master."""
        for server in self.servers:
            count = len(self.servers)
            eventually(lambda server=server, count=count: server.is_whole(count), what="the cluster is whole")
        eventually(lambda: len({_slot_map(server) for server in self.servers}) == 1, what="all know all slots")

    def owner(self, slot: int) -> Server:
        """The master of a slot, as the masters themselves say."""
        for master in self.masters:
            if slot in _own_slots(master):
                return master
        raise LookupError(slot)

    def slots(self, master: Server) -> int:
        """How many slots a master has."""
        return len(_own_slots(master))

    def move(self, slot: int, target: Server) -> None:
        """Move a slot key by key, as `redis-cli --cluster reshard` does."""
        source = self.owner(slot)
        if source is target:
            return
        target.ask("SETSLOT", slot, "IMPORTING", source.id)
        source.ask("SETSLOT", slot, "MIGRATING", target.id)
        while keys := source.ask("GETKEYSINSLOT", slot, 3):
            source.client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 60000, "KEYS", *keys)
        for server in (target, source, *(other for other in self.masters if other not in (target, source))):
            try:
                server.ask("SETSLOT", slot, "NODE", target.id)
            except ResponseError:
                # A master that has given its last slot away becomes a replica by itself.
                if server.role() == "master":
                    raise

    def move_at_once(self, slot: int, target: Server) -> None:
        """Move a slot as a whole, as Valkey 9 does with CLUSTER MIGRATESLOTS."""
        source = self.owner(slot)
        if source is target:
            return
        source.ask("MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.id)
        eventually(lambda: slot in _own_slots(target), what="the slot has moved")

    @property
    def can_move_at_once(self) -> bool:
        """Whether its servers have CLUSTER MIGRATESLOTS."""
        return int(self.masters[0].client.info("server").get("valkey_version", "0").split(".")[0]) >= 9


def _offset(server: Server) -> int:
    replication = server.client.info("replication")
    offset: int = replication["slave_repl_offset" if replication["role"] == "slave" else "master_repl_offset"]
    return offset


def _slot_map(server: Server) -> str:
    lines = server.ask("NODES").values()
    return str(sorted((line["node_id"], line["slots"]) for line in lines if line["slots"]))


def _own_slots(server: Server) -> set[int]:
    own = next(line for line in server.ask("NODES").values() if "myself" in line["flags"])
    return _numbers(own["slots"])


def _numbers(slots: list[list[str]]) -> set[int]:
    return {slot for ends in slots for slot in range(int(ends[0]), int(ends[-1]) + 1)}


@contextlib.contextmanager
def cluster(
    *, masters: int = 3, replicas: bool = False, binary: Path | None = None, flags: Sequence[str] = ()
) -> Iterator[Cluster]:
    """A cluster of so many masters, with all slots; gone with the block."""
    with contextlib.ExitStack() as stack:
        nodes = Cluster(stack, binary=binary, flags=flags)
        nodes.masters = [nodes.launch() for _ in range(masters)]
        nodes.replicas = [nodes.launch() for _ in range(masters)] if replicas else []
        for number, server in enumerate(nodes.masters):
            server.ask("ADDSLOTS", *range(number * SLOTS // masters, (number + 1) * SLOTS // masters))
            # Each has an epoch of its own from the start; `redis-cli --cluster create` does the same.
            server.ask("SET-CONFIG-EPOCH", number + 1)
        for server in nodes.servers[1:]:
            server.ask("MEET", "127.0.0.1", nodes.masters[0].port)
        for server in nodes.servers:
            count = len(nodes.servers)
            eventually(lambda server=server, count=count: server.is_whole(count), what="the cluster is whole")
        for master, replica in zip(nodes.masters, nodes.replicas, strict=False):
            replica.ask("REPLICATE", master.id)
            eventually(
                lambda replica=replica: replica.client.info("replication").get("master_link_status") == "up",
                what="the replica follows",
            )
        nodes.settle()
        yield nodes


def slots_of(partitions: int) -> dict[int, int]:
    """The slot of each stream of a log: of the partitions, and of the fleet."""
    return {stream: key_slot(key(stream, "log").encode()) for stream in (FLEET, *range(partitions))}
