"""The bytes that the streams of a log take in Redis and in the archive, by what they are for."""

import itertools
import re
from collections.abc import Iterator, Sequence
from operator import methodcaller

import msgspec

from events.log.archive.notes import notes_of
from events.log.connect import Client, answering, answers_to
from events.log.entries import number_of
from events.log.keys import FLEET, key, name
from events.redis_cluster import keys_like

KINDS = {
    "log": "events",
    "subjects": "version and document of each device, module and deployment",
    "projections": "assignments, status sets, and what else workers computed",
    "index": "properties that conditions use",
    "assignments": "assignment changes",
    "secrets": "sealed secrets",
    "commands": "ids of commands, remembered for 24 hours",
    "other": "everything else: positions, leases, webhooks, seals, idempotency keys",
    "archive": "files of events and assignment changes",
}
"""What bytes are for, with the texts of the table. All but `archive` are in Redis."""

_KINDS_OF_KEYS = {what: what for what in ("log", "subjects", "assignments", "secrets", "commands")} | {
    "assignments:kept": "assignments",
    "commands:times": "commands",
}
_BATCH = 500
_KEY = re.compile(r"\{(fleet|p[0-9]+)\}:(.+)", re.DOTALL)


class StreamSize(msgspec.Struct, frozen=True):
    """Bytes of a partition, or of the fleet's stream, by kind; `devices` are those registered in the partition."""

    stream: str
    devices: int
    bytes: dict[str, int]


def sizes_of(client: Client, streams: Sequence[int], samples: int) -> Iterator[StreamSize]:
    """The size of each stream; Redis measures `samples` entries of a key, or all for 0.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    used_by_stream = {stream: dict.fromkeys(KINDS, 0) for stream in streams}
    with answering():
        names = (redis_key.decode(errors="replace") for redis_key in keys_like(client, "*"))
        all_places = ((redis_key, *_place(redis_key)) for redis_key in names)
        places_left = (place for place in all_places if place[1] in used_by_stream)
        while places := list(itertools.islice(places_left, _BATCH)):
            for (_, stream, kind), count in zip(
                places, _used(client, [redis_key for redis_key, _, _ in places], samples), strict=True
            ):
                # None: the key expired after the scan.
                used_by_stream[stream][kind] += count or 0
    for stream, used in used_by_stream.items():
        with answering():
            devices = 0 if stream == FLEET else client.hlen(key(stream, "projection:ordinals"))
        streams_of_files = (name(stream), *(() if stream == FLEET else (f"{name(stream)}:assignments",)))
        for stream_of_files in streams_of_files:
            used["archive"] += sum(segment.bytes for segment in notes_of(client, stream_of_files).segments)
        yield StreamSize(name(stream), devices, used)


def _used(client: Client, redis_keys: Sequence[str], samples: int) -> list[int | None]:
    return answers_to(client, [methodcaller("memory_usage", redis_key, samples=samples) for redis_key in redis_keys])


def _place(redis_key: str) -> tuple[int, str]:
    """The stream and the kind of a key; keys of no stream, such as those of RQ's queue, are other ones of the fleet."""
    match = _KEY.fullmatch(redis_key)
    if match is None:
        return FLEET, "other"
    stream, what = number_of(match[1]), match[2]
    if what.startswith("projection:"):
        return stream, "index" if what == "projection:index" else "projections"
    return stream, _KINDS_OF_KEYS.get(what, "other")
