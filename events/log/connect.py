"""Connects to Redis by a URL, checks its server, and reports its temporary failures as `LogUnavailable`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast
from urllib.parse import unquote

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import NoPermissionError, RedisClusterException, RedisError, ResponseError
from redis.retry import Retry

from events.log.errors import LogUnavailable, UnsafeRedis
from events.redis_cluster import ClusterClient
from events.redis_errors import unavailable_as

Client = Redis | RedisCluster
Entries = list[tuple[bytes, dict[bytes, bytes]]]
"""Stream entries as a client returns them: id, fields."""

CLUSTER_SCHEMES = {"redis+cluster": False, "rediss+cluster": True}
"""Whether a scheme uses TLS."""
TIMEOUT_SECONDS = 10.0
VERSION_MIN = (6, 2)


def answering() -> AbstractContextManager[None]:
    """Convert Redis's temporary errors within the block into the log's own error.

    Raises:
        LogUnavailable: Redis did not answer, is loading, is full or is a replica.
    """
    return unavailable_as(LogUnavailable)


def connect(url: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Client:
    """A client for `redis://`, `rediss://`, `unix://`, or `redis+cluster://user:password@host:port,host:port` (`rediss+cluster`).

    Raises:
        LogUnavailable: no node of a cluster answers (to a single server, the first command connects).
    """
    scheme, _, address = url.partition("://")
    if scheme in CLUSTER_SCHEMES:
        return _cluster(address.partition("/")[0], ssl=CLUSTER_SCHEMES[scheme], timeout_seconds=timeout_seconds)
    # No retries: redis-py would repeat any command whose answer was lost, and one that is not idempotent would run twice.
    # Appends carry an id, and the producer repeats those.
    return Redis.from_url(
        url, socket_timeout=timeout_seconds, socket_connect_timeout=timeout_seconds, retry=Retry(NoBackoff(), 0)
    )


def _cluster(address: str, *, ssl: bool, timeout_seconds: float) -> RedisCluster:
    credentials, _, nodes = address.rpartition("@")
    username, _, password = credentials.partition(":")
    try:
        return ClusterClient(
            [
                ClusterNode(host, int(port))  # type: ignore[no-untyped-call]
                for host, _, port in (node.rpartition(":") for node in nodes.split(","))
            ],
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            username=unquote(username) or None,
            password=unquote(password) or None,
            ssl=ssl,
        )
    except (RedisError, RedisClusterException) as error:
        raise LogUnavailable(str(error)) from error


def entries_of(answer: object) -> Entries:
    """A client's answer as stream entries; redis-py's annotations do not name their type."""
    return cast("Entries", answer)


def position_of(entry_id: bytes) -> int:
    """`17-0` -> 17."""
    return int(entry_id[: entry_id.index(b"-")])


def answers_to(client: Client, calls: Iterable[Callable[[Any], Any]]) -> list[Any]:
    """The answers to calls of a client's methods: in one round trip, but on a cluster one after the other.

    For commands that the pipeline of a cluster does not have, such as EVAL and MEMORY USAGE.
    """
    if isinstance(client, RedisCluster):
        return [call(client) for call in calls]
    pipe = client.pipeline(transaction=False)
    for call in calls:
        call(pipe)
    return list(pipe.execute())


def newest_position(client: Client, stream_key: str) -> int:
    """The position of the newest entry of a stream in Redis; 0 for an empty stream.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    (position,) = newest_positions(client, [stream_key])
    return position


def newest_positions(client: Client, stream_keys: Sequence[str]) -> list[int]:
    """The position of the newest entry of each stream in Redis, 0 for an empty stream; in one round trip.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    with answering():
        pipe: Any = client.pipeline(transaction=False)
        for stream_key in stream_keys:
            pipe.xrevrange(stream_key, count=1)
        answers = map(entries_of, pipe.execute())
    return [position_of(newest[0][0]) if newest else 0 for newest in answers]


# -- checks of a server: it keeps the events that it acknowledged, and accepts writes


def check_server(client: Client) -> None:
    """Reject a server that evicts keys, has no append-only file, or is older than 6.2; of a cluster, each master that answers.

    Raises:
        UnsafeRedis: names the setting.
        LogUnavailable: the server does not answer.
    """
    for target in _primaries(client):
        try:
            with answering():
                information: Any = client.info(**target)
        except LogUnavailable:
            # Of a cluster that has lost a master, processes start all the same: the partitions of the others go on.
            if not target:
                raise
            continue
        check_information(information, _configured(client, target))


def why_not_writable(client: Client) -> str | None:
    """Why Redis would reject a write now; `None` if it would accept one. Reads INFO and writes nothing."""
    for target in _primaries(client):
        try:
            with answering():
                information: Any = client.info(**target)
        except NoPermissionError:
            # An access list may forbid INFO. Then the first write that is rejected reports the reason.
            continue
        why = refusal_in(information)
        if why is not None:
            if isinstance(client, RedisCluster):
                # A former master may have come back as a replica, which refuses nothing that this process asks it.
                with answering():
                    client.nodes_manager.initialize()
            return why
    return None


def refusal_in(information: Mapping[str, Any]) -> str | None:
    """Why a server with this INFO rejects writes; `None` if it accepts them."""
    maximum = int(information.get("maxmemory", 0))
    # As Redis itself counts: the buffers of the append-only file and of replicas do not count against the maximum.
    used = int(information.get("used_memory", 0)) - int(information.get("mem_not_counted_for_evict", 0))
    if 0 < maximum <= used:
        return f"memory is full: {used} of {maximum} bytes are used (raise maxmemory, or archive older events)"
    if information.get("aof_last_write_status", "ok") != "ok":
        return "the append-only file cannot be written (is the disk full?)"
    if information.get("role", "master") != "master":
        return "the server is a replica, and read-only"
    return None


def _primaries(client: Client) -> list[dict[str, Any]]:
    """The argument that sends a command to a primary, for each of them."""
    if not isinstance(client, RedisCluster):
        return [{}]
    # Not by connections to the nodes: only the client of the cluster reads the slot map when a server does not answer. A process
    # that is asked for nothing but its readiness would ask a lost master for ever.
    return [{"target_nodes": node} for node in client.get_primaries()]  # type: ignore[no-untyped-call]


def check_information(information: Mapping[str, Any], configured: Mapping[str, str]) -> None:
    """Check a server's INFO and configuration; `configured` is empty where CONFIG is forbidden.

    Raises:
        UnsafeRedis: names the setting.
    """
    version = str(information.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < VERSION_MIN:
        raise UnsafeRedis("version", version, "6.2 or newer")
    # With any other policy Redis deletes keys when its memory is full: whole streams of events.
    policy = str(configured.get("maxmemory-policy") or information.get("maxmemory_policy", "unknown"))
    if policy != "noeviction":
        raise UnsafeRedis("maxmemory-policy", policy, "noeviction")
    # Without the file, all events since the last RDB snapshot are lost when the server is killed.
    append_only = str(configured.get("appendonly") or ("yes" if information.get("aof_enabled") else "no"))
    if append_only != "yes":
        raise UnsafeRedis("appendonly", append_only, "yes")


def _configured(client: Any, target: Mapping[str, Any]) -> dict[str, str]:
    # Managed Redis often forbids CONFIG. INFO then has the same answers, as far as the server reports them.
    try:
        with answering():
            return {**client.config_get("maxmemory-policy", **target), **client.config_get("appendonly", **target)}
    except (NoPermissionError, ResponseError):
        return {}
