"""Whether a Redis server keeps what it acknowledged."""

from collections.abc import Mapping
from typing import Any

from redis.cluster import RedisCluster
from redis.exceptions import NoPermissionError, ResponseError

from events.log.connect import Client, answering
from events.log.errors import UnsafeRedis

VERSION_MIN = (6, 2)


def check_server(client: Client) -> None:
    """Refuse a server that evicts keys, keeps no append-only file, or is too old.

    Raises:
        UnsafeRedis: names the setting.
        LogUnavailable: the server does not answer.
    """
    nodes: list[Any] = [client]
    if isinstance(client, RedisCluster):
        primaries = client.get_primaries()  # type: ignore[no-untyped-call]
        nodes = [node.redis_connection for node in primaries]
    for node in nodes:
        with answering():
            information: Mapping[str, Any] = node.info()
        check_information(information, _configured(node))


def check_information(information: Mapping[str, Any], configured: Mapping[str, str]) -> None:
    """Judge what a server says of itself; `configured` is empty where CONFIG is forbidden.

    Raises:
        UnsafeRedis: names the setting.
    """
    version = str(information.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < VERSION_MIN:
        raise UnsafeRedis("version", version, "6.2 or newer")
    policy = str(configured.get("maxmemory-policy") or information.get("maxmemory_policy", "unknown"))
    if policy != "noeviction":
        raise UnsafeRedis("maxmemory-policy", policy, "noeviction")
    append_only = str(configured.get("appendonly") or ("yes" if information.get("aof_enabled") else "no"))
    if append_only != "yes":
        raise UnsafeRedis("appendonly", append_only, "yes")


def _configured(node: Any) -> dict[str, str]:
    try:
        with answering():
            return {**node.config_get("maxmemory-policy"), **node.config_get("appendonly")}
    except (NoPermissionError, ResponseError):
        return {}
