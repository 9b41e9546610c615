"""The log in memory, for tests and backtests: the same behaviour as in Redis, without a server."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from typing_extensions import override

from events.envelope import Envelope, Principal
from events.log.chunks import split
from events.log.codec import decode_entry, type_of
from events.log.errors import Fenced, LogLostItsTail
from events.log.events import LOG_SUBJECT, LogInitialised
from events.log.keys import FLEET, PARTITIONS_DEFAULT, device_of, name, partition_of
from events.log.port import Chunk, Conflicted, Event, Head, Log, Proposed, Stored, Written, streams_to_wake, with_time
from events.log.rank_follower import RankFollower
from events.log.ranked_deployments import RankedDeployments


class _Stream:
    def __init__(self) -> None:
        self.entries: list[dict[bytes, bytes]] = []
        self.heads: dict[str, Head] = {}
        self.snapshots: dict[str, bytes] = {}
        self.commands: dict[str, tuple[int, int, int]] = {}
        """Of each chunk and command: its first position, the number of its events, and their time."""
        self.at = 0
        self.fence = 0


class MemoryLog(Log):
    """A log of one process."""

    def __init__(self, *, partitions: int = PARTITIONS_DEFAULT, epoch: str = "memory", at: int = 0) -> None:
        self.partitions = partitions
        self.epoch = epoch
        self._streams = {stream: _Stream() for stream in (FLEET, *range(partitions))}
        self._ranks = RankFollower(self)
        event = LogInitialised(epoch, partitions)
        self.append([Proposed(LOG_SUBJECT, 0, event)], command_id="initialise", by=Principal.parse("system:log"), at=at)

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
        # A list, as in Redis: an event that is too large leaves nothing of its batch in the log.
        pieces, chunks = list(split(batch, partitions=self.partitions)), list[Chunk]()
        fenced = list[int]()
        for number, piece in enumerate(pieces):
            stream, chunk_id = self._streams[piece.stream], f"{command_id}:{number}"
            # The same order as in append.lua, which has the reasons; tests/log/test_contract.py runs over both.
            if chunk_id in stream.commands:
                first, _, appended_at = stream.commands[chunk_id]
                chunks.append(Written(piece.stream, piece.indices, first, appended_at, repeated=True, woke=False))
                continue
            if fence is not None:
                if fence < stream.fence:
                    fenced.append(piece.stream)
                    continue
                stream.fence = fence
            proposals = [batch[index] for index in piece.indices]
            heads, versions, conflicts = _check(stream, proposals)
            if conflicts:
                current = {subject: stream.heads.get(subject, Head()) for subject in conflicts}
                chunks.append(Conflicted(piece.stream, piece.indices, current))
                continue
            stream.at = max(stream.at, at)
            first = len(stream.entries) + 1
            for proposed, version, data in zip(proposals, versions, piece.data, strict=True):
                texts = (type_of(proposed.event), proposed.subject, str(version), str(stream.at), str(by), cause)
                names = (b"type", b"subject", b"version", b"at", b"by", b"cause")
                entry = dict(zip(names, (text.encode() for text in texts), strict=True))
                stream.entries.append({**entry, b"data": data})
                for subject, document in proposed.snapshots:
                    if document is None:
                        stream.snapshots.pop(subject, None)
                    else:
                        stream.snapshots[subject] = with_time(document, stream.at)
            stream.heads |= heads
            stream.commands[chunk_id] = (first, len(proposals), stream.at)
            for position, proposed in enumerate(proposals, first):
                if proposed.command_id:
                    began, before, _ = stream.commands.get(proposed.command_id, (position, 0, 0))
                    stream.commands[proposed.command_id] = (began, before + 1, stream.at)
            # No worker follows a log in memory.
            chunks.append(Written(piece.stream, piece.indices, first, stream.at, repeated=False, woke=True))
        if fenced:
            newest = self._streams[fenced[0]].fence
            raise Fenced(name(fenced[0]), newest, streams_to_wake=streams_to_wake(chunks))
        return tuple(chunks)

    @override
    def load(self, subjects: Sequence[str], *, fleet: bool = False) -> list[Stored]:
        stored = []
        for subject in subjects:
            stream = self._streams[FLEET if fleet else partition_of(device_of(subject), self.partitions)]
            stored.append(Stored(stream.heads.get(subject, Head()), stream.snapshots.get(subject)))
        return stored

    @override
    def remembered(self, stream: int, command_ids: Sequence[str]) -> list[int]:
        commands = self._streams[stream].commands
        return [commands[command_id][1] if command_id in commands else 0 for command_id in command_ids]

    @override
    def snapshots(self, partition: int, subjects: Sequence[str]) -> list[bytes | None]:
        stored = self._streams[partition].snapshots
        return [stored.get(subject) for subject in subjects]

    @override
    def subjects(self, stream: int, *, prefix: str = "") -> Iterable[str]:
        return [subject for subject in self._streams[stream].snapshots if subject.startswith(prefix)]

    @override
    def all_stored(self, stream: int) -> Iterable[tuple[str, Stored]]:
        heads, snapshots = self._streams[stream].heads, self._streams[stream].snapshots
        return [
            (subject, Stored(heads.get(subject, Head()), snapshots.get(subject))) for subject in {*heads, *snapshots}
        ]

    @override
    def ranked_deployments(self) -> RankedDeployments:
        return self._ranks.current()

    @override
    def head(self, stream: int) -> int:
        return len(self._streams[stream].entries)

    @override
    def heads(self) -> Mapping[int, int]:
        return {stream: self.head(stream) for stream in self._streams}

    @override
    def read(self, stream: int, *, after: int, limit: int) -> list[Envelope[Event]]:
        entries = self._streams[stream].entries
        if after > len(entries):
            raise LogLostItsTail(name(stream), expected=after, actual=len(entries))
        return [
            decode_entry(name(stream), after + 1 + number, fields)
            for number, fields in enumerate(entries[after : after + limit])
        ]

    @override
    def position_at(self, stream: int, at: int) -> int:
        return sum(int(fields[b"at"]) <= at for fields in self._streams[stream].entries)


def _check(stream: _Stream, proposals: Sequence[Proposed]) -> tuple[dict[str, Head], tuple[int, ...], list[str]]:
    """The heads after the events, the version of each event, and every subject that is in conflict."""
    heads: dict[str, Head] = {}
    versions, conflicts = [], []
    for proposed in proposals:
        head = heads.get(proposed.subject) or stream.heads.get(proposed.subject, Head())
        if head.version != proposed.expected_version:
            conflicts.append(proposed.subject)
        if proposed.guard is not None:
            guarded, generation = proposed.guard
            if (heads.get(guarded) or stream.heads.get(guarded, Head())).generation != generation:
                conflicts.append(guarded)
        generation = head.generation if proposed.generation is None else proposed.generation
        heads[proposed.subject] = msgspec.structs.replace(head, version=head.version + 1, generation=generation)
        versions.append(head.version + 1)
    return heads, tuple(versions), list(dict.fromkeys(conflicts))
