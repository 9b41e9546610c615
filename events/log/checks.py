"""Checks that a Redis server keeps the events that it acknowledged and accepts writes; `LogUnavailable` if it does not answer."""

from collections.abc import Mapping
from typing import Any

from redis.cluster import RedisCluster
from redis.exceptions import NoPermissionError, ResponseError

from events.log.connect import Client, answering
from events.log.errors import UnsafeRedis

VERSION_MIN = (6, 2)


def check_server(client: Client) -> None:
    """Reject a server that evicts keys, has no append-only file, or is older than 6.2.

    Raises:
        UnsafeRedis: names the setting.
    """
    for node in _primaries(client):
        with answering():
            information: Mapping[str, Any] = node.info()
        check_information(information, _configured(node))


def why_not_writable(client: Client) -> str | None:
    """Why Redis would reject a write now; `None` if it would accept one. Reads INFO and writes nothing."""
    for node in _primaries(client):
        try:
            with answering():
                information: Mapping[str, Any] = node.info()
        except NoPermissionError:
            # An access list may forbid INFO. Then the first write that is rejected reports the reason.
            continue
        why = refusal_in(information)
        if why is not None:
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


def _primaries(client: Client) -> list[Any]:
    if not isinstance(client, RedisCluster):
        return [client]
    return [node.redis_connection for node in client.get_primaries()]  # type: ignore[no-untyped-call]


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


def _configured(node: Any) -> dict[str, str]:
    # Managed Redis often forbids CONFIG. INFO then has the same answers, as far as the server reports them.
    try:
        with answering():
            return {**node.config_get("maxmemory-policy"), **node.config_get("appendonly")}
    except (NoPermissionError, ResponseError):
        return {}
