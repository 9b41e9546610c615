"""The names of the log's keys in Redis. Each stream has a hash tag, so that its keys share a slot of a Redis Cluster."""

import zlib

FLEET = -1
"""The stream number of the fleet's log; partitions are numbered from 0."""

PARTITIONS_DEFAULT = 16
PARTITIONS_MAX = 1000


def partition_of(device_id: str, partitions: int) -> int:
    """The partition of a device: CRC-32 of its id's UTF-8 bytes, modulo the number of partitions."""
    # Not Python's `hash`, which differs from process to process (docs/decisions/0003).
    return zlib.crc32(device_id.encode()) % partitions


def device_of(subject: str) -> str:
    """`edge1/$edgeAgent` -> `edge1`; a device id holds no slash (contract/hub.md §6)."""
    return subject.partition("/")[0]


def tag(stream: int) -> str:
    """`{p03}` for partition 3, `{fleet}` for the fleet."""
    return "{fleet}" if stream == FLEET else f"{{p{stream:02d}}}"


def name(stream: int) -> str:
    """`p03` or `fleet`: the name of a stream in messages and in the causes of events."""
    return tag(stream)[1:-1]


def key(stream: int, what: str) -> str:
    """The key of a stream's data, as in `{p03}:log`."""
    return f"{tag(stream)}:{what}"


def keys_pattern(what: str) -> str:
    """The pattern of `key` for all streams, for a subscription to their signals."""
    return f"{{*}}:{what}"
