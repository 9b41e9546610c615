"""Connects to Redis by a URL, and reports its temporary failures as `LogUnavailable`."""

from contextlib import AbstractContextManager
from typing import cast
from urllib.parse import unquote

from redis import Redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry

from events.log.errors import LogUnavailable
from events.redis_errors import unavailable_as

Client = Redis | RedisCluster
Entries = list[tuple[bytes, dict[bytes, bytes]]]
"""Stream entries as a client returns them: id, fields."""

CLUSTER_SCHEMES = {"redis+cluster": False, "rediss+cluster": True}
"""Whether a scheme uses TLS."""
TIMEOUT_SECONDS = 10.0


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
        return RedisCluster(
            startup_nodes=[
                ClusterNode(host, int(port))  # type: ignore[no-untyped-call]
                for host, _, port in (node.rpartition(":") for node in nodes.split(","))
            ],
            socket_timeout=timeout_seconds,
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


def newest_position(client: Client, stream_key: str) -> int:
    """The position of the newest entry of a stream in Redis; 0 for an empty stream.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    with answering():
        newest = entries_of(client.xrevrange(stream_key, count=1))
    return position_of(newest[0][0]) if newest else 0
