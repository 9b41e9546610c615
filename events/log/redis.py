"""The log in Redis Streams: every append is one script over one stream."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, cast

import msgspec
from redis.cluster import RedisCluster
from redis.exceptions import NoScriptError
from typing_extensions import override

from events.envelope import Envelope, Principal
from events.log.chunks import Piece, split
from events.log.codec import type_of
from events.log.connect import Client, answering
from events.log.entries import in_stream
from events.log.errors import Fenced, LogLostItsTail
from events.log.failpoints import FailPoint, reached
from events.log.keys import FLEET, device_of, key, name, partition_of
from events.log.port import Chunk, Conflicted, Event, Head, Log, Proposed, Stored, Written
from events.log.rank_follower import RankFollower
from events.log.ranked_deployments import RankedDeployments
from events.log.raw import RawStreams

COMMANDS_REMEMBERED_MS = 24 * 3600 * 1000
COMMANDS_REMEMBERED_MAX = 100_000

_answers = msgspec.json.Decoder(tuple[int, tuple[int, ...]])
"""What the script remembers of a chunk or a command: its first position, and the version of each of its events."""

_SCRIPT = files("events.log").joinpath("append.lua").read_text(encoding="utf-8")
_SHA = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()
_KEYS = ("log", "heads", "snapshots", "meta", "wake", "commands", "commands:times")
_IN_FLIGHT = 32
"""Chunks of a batch that are sent in one pipeline, which holds their arguments in memory: at most 32 MiB."""


class RedisLog(Log):
    """A log in one Redis server or in a cluster; all keys of a stream share a hash slot."""

    def __init__(self, client: Client, *, partitions: int, epoch: str) -> None:
        self.client, self.partitions, self.epoch = client, partitions, epoch
        self._streams, self._ranks = RawStreams(client), RankFollower(self)

    # -- writing

    @override
    def append(
        self,
        batch: Sequence[Proposed],
        *,
        command_id: str,
        by: Principal,
        at: int,
        cause: str = "",
        fence: int | None = None,
    ) -> tuple[Chunk, ...]:
        # A list: an event that is too large is an error before the first chunk is sent, and leaves no trace in the log.
        pieces = list(split(batch, partitions=self.partitions))
        chunks: list[Chunk] = []
        for start in range(0, len(pieces), _IN_FLIGHT):
            in_flight = pieces[start : start + _IN_FLIGHT]
            calls = [
                (
                    piece.stream,
                    _arguments(piece, batch, f"{command_id}:{start + number}", at=at, by=by, cause=cause, fence=fence),
                )
                for number, piece in enumerate(in_flight)
            ]
            # Killed before the script, nothing is written. Killed after it, the events are in the log with the wake flag
            # set, and no job: the reconciler sees the partition's lag (tests/workers/test_faults.py kills at both points).
            reached(FailPoint.APPEND_BEFORE_SCRIPT)
            with answering():
                answers = self._run(calls)
            reached(FailPoint.APPEND_AFTER_SCRIPT)
            chunks += [_chunk(piece, answer) for piece, answer in zip(in_flight, answers, strict=True)]
        return tuple(chunks)

    def _run(self, calls: Sequence[tuple[int, list[Any]]]) -> list[Any]:
        try:
            return self._pipelined(calls)
        except NoScriptError:
            # A new server has no script, and one that restarts loses its scripts. EVALSHA sends 40 bytes instead of the whole
            # script with each chunk, so it is loaded only here. Chunks of this batch that are in the log answer as repeated.
            self.client.script_load(_SCRIPT)
            return self._pipelined(calls)

    def _pipelined(self, calls: Sequence[tuple[int, list[Any]]]) -> list[Any]:
        is_pipelined = len(calls) > 1 and not isinstance(self.client, RedisCluster)
        pipe: Any = self.client.pipeline(transaction=False) if is_pipelined else self.client
        answers = [
            pipe.evalsha(_SHA, len(_KEYS), *(key(stream, what) for what in _KEYS), *arguments)
            for stream, arguments in calls
        ]
        return list(pipe.execute()) if is_pipelined else answers

    @override
    def clear_wake(self, stream: int) -> None:
        with answering():
            self.client.delete(key(stream, "wake"))

    # -- heads and snapshots

    @override
    def load(self, subjects: Sequence[str], *, fleet: bool = False) -> list[Stored]:
        by_stream: dict[int, list[int]] = {}
        for index, subject in enumerate(subjects):
            stream = FLEET if fleet else partition_of(device_of(subject), self.partitions)
            by_stream.setdefault(stream, []).append(index)
        streams = [*by_stream.items()]
        answers: list[Any] = []
        with answering():
            # MULTI: an append between the two reads would pair a head with the document of another version. A transaction on a
            # cluster is limited to one slot, and so to one stream.
            is_cluster = isinstance(self.client, RedisCluster)
            for transaction in [[stream] for stream in streams] if is_cluster else [streams]:
                pipe: Any = self.client.pipeline(transaction=True)
                for stream, indices in transaction:
                    names = [subjects[index] for index in indices]
                    pipe.hmget(key(stream, "heads"), names)
                    pipe.hmget(key(stream, "snapshots"), names)
                answers += pipe.execute()
        stored: list[Stored] = [Stored()] * len(subjects)
        for (_, indices), heads, snapshots in zip(streams, answers[::2], answers[1::2], strict=True):
            for index, head, snapshot in zip(indices, heads, snapshots, strict=True):
                stored[index] = Stored(_head(head), snapshot)
        return stored

    @override
    def remembered(self, stream: int, command_ids: Sequence[str]) -> list[int]:
        if not command_ids:
            return []
        with answering():
            answers = self.client.hmget(key(stream, "commands"), list(command_ids))
        return [0 if answer is None else len(_answers.decode(answer)[1]) for answer in answers]

    @override
    def snapshots(self, partition: int, subjects: Sequence[str]) -> list[bytes | None]:
        if not subjects:
            return []
        with answering():
            return cast("list[bytes | None]", self.client.hmget(key(partition, "snapshots"), list(subjects)))

    @override
    def subjects(self, stream: int, *, prefix: str = "") -> Iterable[str]:
        """Every subject of a stream that has a snapshot and starts with `prefix`."""
        match = f"{prefix}*" if prefix else None
        with answering():
            for field, _ in self.client.hscan_iter(key(stream, "snapshots"), match=match, count=1000):
                yield field.decode()

    @override
    def subjects_with_events(self, stream: int) -> Iterable[str]:
        with answering():
            for field, _ in self.client.hscan_iter(key(stream, "heads"), count=1000):
                yield field.decode()

    # -- reading

    @override
    def ranked_deployments(self) -> RankedDeployments:
        return self._ranks.current()

    @override
    def head(self, stream: int) -> int:
        with answering():
            return int(self.client.hget(key(stream, "meta"), "position") or 0)

    @override
    def heads(self) -> Mapping[int, int]:
        streams = (FLEET, *range(self.partitions))
        with answering():
            if isinstance(self.client, RedisCluster):
                return {stream: self.head(stream) for stream in streams}
            pipe = self.client.pipeline(transaction=False)
            for stream in streams:
                pipe.hget(key(stream, "meta"), "position")
            return {stream: int(head or 0) for stream, head in zip(streams, pipe.execute(), strict=True)}

    @override
    def read(self, stream: int, *, after: int, limit: int) -> list[Envelope[Event]]:
        """Events from position after + 1 on, from the archive and then from the stream in Redis.

        Raises:
            ObjectStoreUnavailable, SegmentMissing, SegmentDamaged: an archived entry cannot be read.
        """
        envelopes = self._streams.events(name(stream), after=after, limit=limit)
        # A read that got events has no gap, and its caller asks again at the end: checking there is enough.
        if not envelopes and limit:
            # `after > head`: a restart or a failover lost events that this reader has seen. Under appendfsync everysec that is
            # up to the last second. `end < head`: entries were deleted, as the position is counted apart from the stream.
            head = self.head(stream)
            if after > head:
                raise LogLostItsTail(name(stream), expected=after, actual=head)
            end = self._streams.head(name(stream))
            if end < head or end < after:
                raise LogLostItsTail(name(stream), expected=max(after, end + 1), actual=end)
        return envelopes

    @override
    def position_at(self, stream: int, at: int) -> int:
        oldest = in_stream(self.client, name(stream), after=0, limit=1)
        if not oldest:
            return 0
        # Binary search: the script raises each time to the previous one, so times never fall.
        low, high = oldest[0].position - 1, self.head(stream)
        if low and at < oldest[0].at and self._streams.refresh(name(stream)):
            return self._streams.archived_at(name(stream), at)
        while low < high:
            middle = (low + high + 1) // 2
            entry = in_stream(self.client, name(stream), after=middle - 1, limit=1)
            if entry and entry[0].position != middle:
                return self.position_at(stream, at)  # The archive mover trimmed the stream during the search.
            if entry and entry[0].at <= at:
                low = middle
            else:
                high = middle - 1
        return low


def _head(data: bytes | None) -> Head:
    if data is None:
        return Head()
    version, _, generation = data.partition(b":")
    return Head(int(version), int(generation))


def _arguments(
    piece: Piece, batch: Sequence[Proposed], chunk_id: str, *, at: int, by: Principal, cause: str, fence: int | None
) -> list[Any]:
    arguments: list[Any] = [
        chunk_id,
        at,
        str(by),
        cause,
        "" if fence is None else fence,
        0 if piece.stream == FLEET else 1,
        at - COMMANDS_REMEMBERED_MS,
        COMMANDS_REMEMBERED_MAX,
        len(piece.indices),
    ]
    for index, data in zip(piece.indices, piece.data, strict=True):
        proposed = batch[index]
        guard_subject, guard_generation = proposed.guard or ("", 0)
        arguments += (
            type_of(proposed.event),
            proposed.subject,
            proposed.expected_version,
            "" if proposed.generation is None else proposed.generation,
            guard_subject,
            guard_generation,
            data,
            proposed.command_id,
            len(proposed.snapshots),
        )
        for subject, document in proposed.snapshots:
            arguments += (subject, document or b"")
    return arguments


def _chunk(piece: Piece, answer: list[Any]) -> Chunk:
    match answer[0]:
        case b"conflict":
            triples = zip(answer[1::3], answer[2::3], answer[3::3], strict=True)
            current = {subject.decode(): Head(version, generation) for subject, version, generation in triples}
            return Conflicted(piece.stream, piece.indices, current)
        case b"fenced":
            raise Fenced(name(piece.stream), answer[1])
        case state:
            repeated, woke = state == b"repeated", bool(answer[2])
            return Written(piece.stream, piece.indices, answer[1], tuple(answer[3:]), repeated=repeated, woke=woke)
