"""What a Redis Cluster requires of its clients while slots move between its servers: redirections, and scans."""

import contextlib
from collections.abc import Iterator
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, ClusterPipeline, RedisCluster, get_node_name
from redis.exceptions import ClusterDownError, MovedError, SlotNotCoveredError, TryAgainError
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import TimeoutError as TimedOut
from redis.retry import Retry
from typing_extensions import override

_FIELDS = 1000
"""Fields that one step of a scan of a hash asks for."""
_SCANS_MAX = 3


class SlotsMoved(TryAgainError):
    """Slots moved during a scan of keys, which therefore may have missed some. A retry helps once the move has ended."""

    def __init__(self, what: str) -> None:
        super().__init__(f"slots of the cluster are moving, so that a scan of {what} may miss some")


class ClusterClient(RedisCluster):
    """A client of a Redis Cluster that follows slots to servers that it has not met, and repeats nothing that may have run."""

    # redis-py repeats any command whose answer was lost, ten times by default: a command that is not idempotent would run
    # twice, and a server that is paused would cost a caller 110 s. These two errors say that the command did not run.
    ERRORS_ALLOW_RETRY = (ClusterDownError, SlotNotCoveredError)  # type: ignore[assignment]

    def __init__(self, startup_nodes: list[ClusterNode], **connection: Any) -> None:
        super().__init__(
            startup_nodes=startup_nodes,
            # A transaction that meets a moved slot is repeated by the count of this object only (twinfold's transactions read).
            retry=Retry(NoBackoff(), 1),
            # With the default of 5, redis-py sends a transaction to the former server five times before it asks where the slot
            # is, and takes a server that only receives a slot for the slot's owner.
            reinitialize_steps=1,
            **connection,
        )

    @override
    def get_node(
        self, host: str | None = None, port: int | None = None, node_name: str | None = None
    ) -> ClusterNode | None:
        """The node of an address; a node that is not in the slot map is added.

        A master without slots is not in the map. The first slot that it receives redirects here (ASK) all the same, and redis-py
        fails with an AttributeError.
        """
        node: ClusterNode | None = super().get_node(host, port, node_name)  # type: ignore[no-untyped-call]
        if node is None and node_name is not None:
            host, _, number = node_name.rpartition(":")
            node = ClusterNode(host, int(number))  # type: ignore[no-untyped-call]
            node = self.nodes_manager.nodes_cache.setdefault(get_node_name(host, int(number)), node)
        return node

    @override
    def pipeline(self, transaction: bool | None = None, shard_hint: Any = None) -> ClusterPipeline:
        """A pipeline that finds nodes as this client does."""
        pipe: ClusterPipeline = super().pipeline(transaction, shard_hint)  # type: ignore[no-untyped-call]
        pipe.get_node = self.get_node  # type: ignore[method-assign]
        return pipe

    @override
    def command(self, **kwargs: Any) -> dict[str, dict[str, Any]]:
        """The commands of a master, of the first that answers.

        redis-py reads them while it connects, and from the master of the first slot alone: no process would start while that one
        is lost.
        """
        *masters, last = self.get_primaries()  # type: ignore[no-untyped-call]
        for master in masters:
            with contextlib.suppress(Disconnected, TimedOut):
                return self._commands(master)
        return self._commands(last)

    def _commands(self, node: ClusterNode) -> dict[str, dict[str, Any]]:
        commands: dict[str, dict[str, Any]] = self.execute_command("COMMAND", target_nodes=node)  # type: ignore[no-untyped-call]
        return commands

    def owner(self, key: str) -> Redis:
        """A client of the server that has the slot of a key now; it does not follow redirections."""
        return self.get_redis_connection(self.get_node_from_key(key))  # type: ignore[no-untyped-call]


def hash_fields(client: Redis | RedisCluster, key: str, *, match: str | None = None) -> Iterator[tuple[bytes, bytes]]:
    """Every field of a hash with its value. A field can come more than once.

    Raises:
        AskError: the key is between two servers; a retry helps once it has arrived.
    """
    if not isinstance(client, ClusterClient):
        yield from client.hscan_iter(key, match=match, count=_FIELDS)
        return
    # The cursor of a scan means something to the server that gave it alone, because each server hashes fields with a seed of its
    # own: continued on the slot's next owner, a scan misses fields. So it is bound to one server, and begins again at the next.
    for attempt in range(1, _SCANS_MAX + 1):
        try:
            yield from client.owner(key).hscan_iter(key, match=match, count=_FIELDS)
        except (MovedError, Disconnected):
            if attempt == _SCANS_MAX:
                raise
            client.nodes_manager.initialize()
        else:
            return


def keys_like(client: Redis | RedisCluster, match: str, *, type_: str | None = None) -> list[bytes]:
    """Every key whose name matches, each once, sorted.

    Raises:
        SlotsMoved: slots of a cluster moved meanwhile, or a move has not ended: a key could have been missed on both servers.
    """
    if not isinstance(client, ClusterClient):
        return sorted(set(client.scan_iter(match=match, count=_FIELDS, _type=type_)))
    before = _slots(client)
    keys = sorted(set(client.scan_iter(match=match, count=_FIELDS, _type=type_)))
    if before is None or _slots(client) != before:
        client.nodes_manager.initialize()
        raise SlotsMoved(f"keys like {match}")
    return keys


def _slots(client: ClusterClient) -> list[tuple[str, str, str]] | None:
    """Each master with its slots and their epoch, which rises whenever a slot moves; `None` while one moves key by key."""
    masters = []
    for node in client.get_primaries():  # type: ignore[no-untyped-call]
        lines = client.execute_command("CLUSTER NODES", target_nodes=node)  # type: ignore[no-untyped-call]
        own = next(line for line in lines.values() if "myself" in line["flags"])
        if own["migrations"]:
            return None
        masters.append((own["node_id"], own["epoch"], str(own["slots"])))
    return sorted(masters)
