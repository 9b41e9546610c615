"""The log in Redis Streams: every append is one script over one stream."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, cast

import msgspec
from redis.cluster import RedisCluster
from redis.exceptions import NoScriptError
from typing_extensions import override

from events.envelope import Envelope, Principal
from events.log.chunks import Piece, in_groups, split
from events.log.claims import WOKEN_MS
from events.log.codec import decode_entry, type_of
from events.log.connect import Client, Entries, answering, position_of
from events.log.entries import RawEntry, in_stream
from events.log.errors import Fenced, LogLostItsTail, UnreadableEvent
from events.log.exchange import Command, Exchange
from events.log.failpoints import FailPoint, reached
from events.log.keys import FLEET, device_of, key, name, partition_of
from events.log.port import (
    Chunk,
    Conflicted,
    Event,
    Head,
    Log,
    PreparedAppend,
    Proposed,
    Stored,
    Written,
    streams_to_wake,
)
from events.log.rank_follower import RankFollower
from events.log.ranked_deployments import RankedDeployments
from events.log.raw import RawStreams
from events.log.script import ScriptText
from events.log.stream_signals import StreamSignals
from events.log.subject_record import decode_document, decode_record, encode_document, has_document
from events.readiness.state import WAIVER
from events.redis_cluster import hash_fields

COMMANDS_REMEMBERED_MS = 24 * 3600 * 1000
COMMANDS_REMEMBERED_MAX = 100_000

_APPEND = ScriptText(files("events.log").joinpath("append.lua").read_text(encoding="utf-8"))
_KEYS = ("log", "subjects", "meta", "wake", "commands", "commands:times")
_POLL_SECONDS = 0.1
"""How long a reader of a cluster's streams relies on signals: a Redis user without the permission to publish sends none."""
_GROUPS_IN_FLIGHT = 32
"""Groups of chunks that are sent at once: at most 32 MiB."""


class RedisLog(Log):
    """A log in one Redis server or in a cluster; all keys of a stream share a hash slot."""

    def __init__(self, client: Client, *, partitions: int, epoch: str) -> None:
        self.client, self.partitions, self.epoch = client, partitions, epoch
        self._streams, self._ranks = RawStreams(client), RankFollower(self)
        # Of `follow` on a cluster: the subscription to the signals of all streams.
        self._signals = StreamSignals(client) if isinstance(client, RedisCluster) else None

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
        return self.prepare_append(batch, command_id=command_id, by=by, at=at, cause=cause, fence=fence)()()

    @override
    def prepare_append(
        self,
        batch: Sequence[Proposed],
        *,
        command_id: str,
        by: Principal,
        at: int,
        cause: str = "",
        fence: int | None = None,
    ) -> PreparedAppend:
        # A list: an event that is too large is an error before the first chunk is sent, and leaves no trace in the log.
        pieces = list(split(batch, partitions=self.partitions))
        calls = [
            _call(piece, batch, f"{command_id}:{number}", at=at, by=by, cause=cause, fence=fence)
            for number, piece in enumerate(pieces)
        ]
        groups = [calls[numbers.start : numbers.stop] for numbers in in_groups(pieces)]
        # What is sent at once is in memory at once, with the arguments of all its calls.
        parts = [groups[start : start + _GROUPS_IN_FLIGHT] for start in range(0, len(groups), _GROUPS_IN_FLIGHT)] or [
            []
        ]

        def send() -> Callable[[], tuple[Chunk, ...]]:
            # Killed before the script, nothing is written. Killed after it, the events are in the log with the wake flag
            # set, and no turn: the reconciler sees the partition's lag (tests/workers/test_faults.py kills at both points).
            reached(FailPoint.APPEND_BEFORE_SCRIPT)
            with answering():
                first_answers = self._begin(parts[0])

            def chunks() -> tuple[Chunk, ...]:
                with answering():
                    answers = self._finish(first_answers, parts[0])
                    for part in parts[1:]:
                        answers += self._finish(self._begin(part), part)
                reached(FailPoint.APPEND_AFTER_SCRIPT)
                return _chunks(pieces, answers)

            return chunks

        return send

    def _begin(self, groups: Sequence[Sequence[Command]]) -> Callable[[], list[Any]]:
        if isinstance(self.client, RedisCluster):
            cluster: Any = self.client
            return lambda: [cluster.execute_command(*call) for calls in groups for call in calls]
        return Exchange(self.client, groups).answers

    def _finish(self, answers: Callable[[], list[Any]], groups: Sequence[Sequence[Command]]) -> list[Any]:
        try:
            return answers()
        except NoScriptError:
            # A new server has no script, and one that restarts loses its scripts. Chunks of this batch that are in the log answer
            # as repeated.
            return self._begin([[_APPEND.with_text(call) for call in calls] for calls in groups])()

    # -- heads and snapshots

    @override
    def load(self, subjects: Sequence[str], *, fleet: bool = False) -> list[Stored]:
        by_stream: dict[int, list[int]] = {}
        for index, subject in enumerate(subjects):
            stream = FLEET if fleet else partition_of(device_of(subject), self.partitions)
            by_stream.setdefault(stream, []).append(index)
        # A head and its document are one value, so no append comes between them.
        with answering():
            answers = self._hmget([(stream, [subjects[index] for index in by_stream[stream]]) for stream in by_stream])
        stored: list[Stored] = [Stored()] * len(subjects)
        for indices, records in zip(by_stream.values(), answers, strict=True):
            for index, record in zip(indices, records, strict=True):
                stored[index] = decode_record(record)
        return stored

    def _hmget(self, reads: Sequence[tuple[int, Sequence[str]]]) -> list[list[bytes | None]]:
        return self._begin([[("HMGET", key(stream, "subjects"), *names)] for stream, names in reads])() if reads else []

    @override
    def remembered(self, stream: int, command_ids: Sequence[str]) -> list[int]:
        if not command_ids:
            return []
        with answering():
            answers = cast("list[bytes | None]", self.client.hmget(key(stream, "commands"), list(command_ids)))
        # Of a command the script remembers its first position, the number of its events, and their time.
        return [0 if answer is None else int(answer.split(b":")[1]) for answer in answers]

    @override
    def snapshots(self, partition: int, subjects: Sequence[str]) -> list[bytes | None]:
        if not subjects:
            return []
        with answering():
            (records,) = self._hmget([(partition, subjects)])
        return [decode_document(record) for record in records]

    @override
    def subjects(self, stream: int, *, prefix: str = "") -> Iterable[str]:
        if (stream, prefix) == (FLEET, WAIVER):
            # Each creation of a deployment reads the waivers: a scan would read the subjects of all other deployments.
            waivers = sorted(self._ranks.waivers())
            stored = self.load(waivers, fleet=True) if waivers else ()
            yield from (waiver for waiver, state in zip(waivers, stored, strict=True) if state.snapshot is not None)
            return
        match = f"{prefix}*" if prefix else None
        with answering():
            for field, record in hash_fields(self.client, key(stream, "subjects"), match=match):
                if has_document(record):
                    yield field.decode()

    @override
    def all_stored(self, stream: int) -> Iterable[tuple[str, Stored]]:
        with answering():
            for field, record in hash_fields(self.client, key(stream, "subjects")):
                yield field.decode(), decode_record(record)

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
            # Not a transaction, so that a cluster can answer too.
            pipe: Any = self.client.pipeline(transaction=False)
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

    def follow(
        self, after: Mapping[int, int], *, limit: int, milliseconds: int
    ) -> dict[int, list[Envelope[Event]] | None]:
        """The next events of streams, each after a position, as soon as one of them has any; at most `limit` of each.

        Waits at most `milliseconds`. A stream whose next event is in the archive, missing or unreadable has `None`: `read` says
        what is there. One round trip, except on a cluster, whose streams are read at once, and again after each signal that one
        of them has grown. `stop_following` ends the subscription to the signals.

        Raises:
            LogUnavailable: Redis did not answer.
        """
        ids = {key(stream, "log"): f"{position}-0" for stream, position in after.items()}
        with answering():
            if self._signals is not None:
                answer = self._polled(self._signals, ids, limit=limit, milliseconds=milliseconds)
            else:
                answer = cast("Any", self.client.xread(cast("Any", ids), count=limit, block=milliseconds or None))
        entries_by_key = dict(answer)
        following: dict[int, list[Envelope[Event]] | None] = {}
        for stream, position in after.items():
            if entries := entries_by_key.get(key(stream, "log").encode()):
                following[stream] = _following(name(stream), position, entries)
        return following

    def _polled(self, signals: StreamSignals, ids: Mapping[str, str], *, limit: int, milliseconds: int) -> list[Any]:
        """XREAD on a cluster, which rejects a command over the streams of several slots: one command per stream, by node."""
        # Not XREAD: redis-py asks the server for the keys of each, in a round trip of its own.
        until, streams = time.monotonic() + milliseconds / 1000, {stream_key.encode() for stream_key in ids}
        try:
            while True:
                if milliseconds:
                    signals.forget()
                pipe: Any = self.client.pipeline(transaction=False)
                for stream_key, entry_id in ids.items():
                    pipe.xrange(stream_key, min=f"({entry_id}", count=limit)
                entries = zip(ids, pipe.execute(), strict=True)
                answer = [(stream_key.encode(), of_stream) for stream_key, of_stream in entries if of_stream]
                seconds_left = until - time.monotonic()
                if answer or seconds_left <= 0:
                    return answer
                signals.wait(streams, min(seconds_left, _POLL_SECONDS))
        except BaseException:
            signals.close()
            raise

    def stop_following(self) -> None:
        """End the subscription of `follow` on a cluster; without effect if there is none."""
        if self._signals is not None:
            self._signals.close()

    @override
    def position_at(self, stream: int, at: int) -> int:
        oldest = self._timed(stream, 1)
        if oldest is None:
            return 0
        # Binary search: the script raises each time to the previous one, so times never fall.
        low, high = oldest.position - 1, self.head(stream)
        if low and at < oldest.at and self._streams.refresh(name(stream)):
            return self._streams.archived_at(name(stream), at)
        while low < high:
            middle = (low + high + 1) // 2
            timed = self._timed(stream, middle)
            if timed is not None and timed.position != middle and self._streams.refresh(name(stream)) >= middle:
                return self.position_at(stream, at)  # The archive mover trimmed the stream during the search.
            if timed is not None and timed.at <= at:
                low = timed.position
            else:
                high = middle - 1
        return low

    def _timed(self, stream: int, position: int) -> RawEntry | None:
        """The first entry in Redis from a position on that has a time: an operator can skip one that is damaged or deleted."""
        while entries := in_stream(self.client, name(stream), after=position - 1, limit=1):
            if entries[0].fields.get(b"at", b"").isdigit():
                return entries[0]
            position = entries[0].position + 1
        return None


def _following(stream: str, after: int, entries: Entries) -> list[Envelope[Event]] | None:
    """The events of entries that follow a position without a gap; else `None`."""
    if any(entry_id[-2:] != b"-0" for entry_id, _ in entries) or position_of(entries[-1][0]) != after + len(entries):
        return None
    try:
        return [decode_entry(stream, position, fields) for position, (_, fields) in enumerate(entries, after + 1)]
    except UnreadableEvent:
        return None


def _call(
    piece: Piece, batch: Sequence[Proposed], chunk_id: str, *, at: int, by: Principal, cause: str, fence: int | None
) -> Command:
    """The call of the script for a chunk; append.lua has the meaning of its arguments."""
    proposals = [batch[index] for index in piece.indices]
    documents: dict[str, bytes | None] = {}
    rare: dict[str, list[Any]] = {"generations": [], "guards": [], "commands": []}
    for number, proposed in enumerate(proposals, 1):
        documents.update(proposed.snapshots)
        if proposed.generation is not None:
            rare["generations"] += (number, proposed.generation)
        if proposed.guard is not None:
            rare["guards"] += (number, *proposed.guard)
        if proposed.command_id:
            rare["commands"] += (number, proposed.command_id)
    written: list[str | bytes] = []
    for subject, document in documents.items():
        if document is not None:
            written += (subject, encode_document(piece.stream, document))
    return _APPEND.call(
        [key(piece.stream, what) for what in _KEYS],
        chunk_id,
        at,
        str(by),
        cause,
        "" if fence is None else fence,
        WOKEN_MS,
        at - COMMANDS_REMEMBERED_MS,
        COMMANDS_REMEMBERED_MAX,
        len(proposals),
        len(written) // 2,
        msgspec.json.encode(rare) if any(rare.values()) else b"",
        *(proposed.subject for proposed in proposals),
        *(type_of(proposed.event) for proposed in proposals),
        *(proposed.expected_version for proposed in proposals),
        *piece.data,
        *written,
        *(subject for subject, document in documents.items() if document is None),
    )


def _chunks(pieces: Sequence[Piece], answers: Sequence[list[Any]]) -> tuple[Chunk, ...]:
    """The results of the calls of a batch.

    Raises:
        Fenced: a call was rejected for its fence.
    """
    chunks, fenced = list[Chunk](), list[tuple[int, int]]()
    for piece, answer in zip(pieces, answers, strict=True):
        match answer[0]:
            case b"conflict":
                triples = zip(answer[1::3], answer[2::3], answer[3::3], strict=True)
                current = {subject.decode(): Head(version, generation) for subject, version, generation in triples}
                chunks.append(Conflicted(piece.stream, piece.indices, current))
            case b"fenced":
                fenced.append((piece.stream, answer[1]))
            case state:
                repeated, woke = state == b"repeated", bool(answer[2])
                chunks.append(Written(piece.stream, piece.indices, answer[1], answer[3], repeated=repeated, woke=woke))
    if fenced:
        stream, newest = fenced[0]
        raise Fenced(name(stream), newest, streams_to_wake=streams_to_wake(chunks))
    return tuple(chunks)
