"""The producer: decides commands in batches, appends their events, and wakes the workers."""

import contextlib
import itertools
import random
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import cache, partial
from types import TracebackType
from typing import Any, Protocol, Self, cast

import msgspec

from events.access.scope import Scope
from events.canonical import JsonObject
from events.clock import now_ms
from events.decider import CommandAuthor, Documents
from events.deployment.advice import Advice, advice
from events.deployment.commands import CreateDeployment, UpdateDeployment
from events.deployment.errors import DeploymentsFull
from events.deployment.events import DeploymentCreated
from events.deployment.state import decode
from events.device.decider import needs_keys
from events.envelope import Principal
from events.log import fleet_documents
from events.log.chunks import check_size
from events.log.concepts import BY_COMMAND
from events.log.errors import Fenced
from events.log.events import LOG_SUBJECT, BlockResolved, BlockRetried, SecretsErased
from events.log.keys import FLEET, name
from events.log.port import Chunk, Conflicted, Log, Proposed, Stored, Written, streams_to_wake, with_time
from events.log.ranked_deployments import rank_of
from events.log.wake import WakeFailed
from events.producer.append_in_flight import AppendInFlight, Pending, T, until_answered
from events.producer.decision import (
    REFUSALS,
    check,
    deployments_left,
    load,
    parts_of,
    propose,
    state_after,
    subjects_of,
    with_parts,
)
from events.producer.documents import LoadedState
from events.producer.errors import (
    Command,
    CommandsRefused,
    ConflictPersists,
    DecisionInvalid,
    Refused,
    Sent,
    Together,
    refusal,
)
from events.producer.keys import CommandKey, stream_of
from events.producer.readiness import CheckedReadiness, ReadinessPolicy
from events.producer.secrecy import in_references, refuse_plain_secrets, refuse_references
from events.readiness.state import WaiverDocument

BATCH_COMMANDS = 1000
ATTEMPTS_MAX = 8
ANSWER_ATTEMPTS_MAX = 16
"""With their pauses 21 s, unless a server takes long to refuse. A replica takes its master's place after some 8 s, with
`cluster-node-timeout 5000` (docs/guides/cluster.md): a producer that runs meanwhile should not end."""
REASON_BYTES_MAX = 2000
_COMMANDS_IN_FLIGHT = 512
"""Commands that are decided while those before them are appended.

Their events fit about into the buffer of a socket, 208 KiB on Linux: with more, sending waits for the server, and nothing is
decided meanwhile. With fewer, the chunks of 16 partitions are small, and the server pays the fixed cost of a script more often.
"""
_CONFLICT_SECONDS = 0.001


class WakerLike(Protocol):
    """Wakes the workers."""

    def wake(self, streams: Iterable[int]) -> None:
        """Wake a worker for streams with new events."""
        ...


class ProducerReport(msgspec.Struct, frozen=True):
    """The result of sent commands: the number of events in the log, and the rejected commands with their errors."""

    written: int
    refused: tuple[Refused, ...] = ()

    def raise_if_refused(self) -> None:
        """Raise an error if a command was rejected.

        Raises:
            CommandsRefused: lists the rejected commands.
        """
        if self.refused:
            raise CommandsRefused(self.refused)


class Producer:
    """Decides commands on the current state and appends their events, in batches.

    A producer belongs to one thread. Several producers may write at once: if another one changes a subject, only the commands
    on that subject are decided again. `send` buffers, and blocks while a full batch is written.

    - `scope`: everything outside of it counts as missing.
    - `take_secrets`: returns a command with references in place of its secrets (default: reject commands with secrets).
    - `new_keys`: makes authentications for new identities without one (default: they get none).
    - `deployments_max`: the highest number of deployments; 0 is no limit.
    - `readiness_policy`: rejects new deployments that do not pass it.
    - `before_append`: called with each batch before it is appended; it may raise to prevent that.
    - `key`: a command that is in the log under its id, made of the key and its number, is not written again.
    - `fence`: appending raises `Fenced` once a process with a higher fence has written.
    """

    def __init__(
        self,
        log: Log,
        *,
        by: Principal,
        scope: Scope | None = None,
        waker: WakerLike | None = None,
        clock: Callable[[], int] = now_ms,
        ids: Callable[[], str] = lambda: secrets.token_hex(12),
        pause: Callable[[float], None] = time.sleep,
        take_secrets: Callable[[Command], Command] = refuse_plain_secrets,
        new_keys: Callable[[int], Sequence[JsonObject]] | None = None,
        batch_commands: int = BATCH_COMMANDS,
        attempts: int = ANSWER_ATTEMPTS_MAX,
        deployments_max: int = 0,
        readiness_policy: ReadinessPolicy | None = None,
        before_append: Callable[[Sequence[Proposed]], None] = lambda _: None,
        key: CommandKey | None = None,
        fence: int | None = None,
    ) -> None:
        self._log, self._by, self._scope, self._waker = log, by, scope, waker
        self._clock, self._ids, self._pause = clock, ids, pause
        self._take_secrets, self._new_keys = take_secrets, new_keys
        self._batch_commands, self._attempts = batch_commands, attempts
        self._deployments_max, self._readiness_policy = deployments_max, readiness_policy
        self._before_append, self._key, self._fence = before_append, key, fence
        self._buffer: list[Sent] = []
        self._written, self._refused, self._sent = 0, list[Refused](), 0
        self.conflicts = 0
        """How often commands were decided again because another author had changed a subject."""
        self.written = 0
        """The number of events that this producer has written to the log."""
        self.readiness: dict[str, CheckedReadiness] = {}
        """The readiness of the deployments that the last call created, by id."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.flush().raise_if_refused()

    def send(self, command: Sent) -> None:
        """Buffer a command; it is in the log after the next `flush`, or earlier when the buffer is full.

        Raises:
            ConflictPersists, LogUnavailable: as `submit`.
        """
        self._buffer.append(command)
        if len(self._buffer) >= self._batch_commands:
            self._write_buffer()

    def flush(self) -> ProducerReport:
        """Write the buffered commands, and report on all commands sent since the last flush."""
        self._write_buffer()
        report = ProducerReport(self._written, tuple(self._refused))
        self._written, self._refused, self._sent = 0, [], 0
        return report

    def _write_buffer(self) -> None:
        commands, self._buffer = self._buffer, []
        first, self._sent = self._sent, self._sent + len(commands)
        if commands:
            written, refused = self._write(enumerate(commands, first))
            self._written += written
            self._refused += refused

    def submit(self, commands: Iterable[Sent]) -> ProducerReport:
        """Write commands in order, in batches, and report; a rejected command does not stop the others.

        Raises:
            ConflictPersists: other authors kept changing the same subjects; these commands are not in the log.
            LogUnavailable: Redis did not answer for several attempts; the commands may be submitted again.
        """
        return self.submit_numbered(enumerate(commands))

    def submit_numbered(self, commands: Iterable[Pending]) -> ProducerReport:
        """As `submit`, with the numbers that the report and the ids of a `key` use for the commands.

        Raises:
            ConflictPersists, LogUnavailable: as `submit`.
        """
        written, refused = self._write(commands)
        return ProducerReport(written, tuple(refused))

    def submit_each(self, commands: Sequence[Sent]) -> list[Stored | Exception]:
        """As `submit`; returns what the log has of each command's first subject after it, or the error that rejects it.

        For producers without a `key`: of a command that is in the log already, nothing is loaded.

        Raises:
            ConflictPersists, LogUnavailable: as `submit`.
        """
        assert self._key is None
        documents: dict[int, Stored] = {}
        _, refused = self._write(enumerate(commands), documents=documents)
        errors = {rejected.index: rejected.error for rejected in refused}
        return [errors.get(number) or documents[number] for number in range(len(commands))]

    def do(self, command: Sent, *, cause: str = "") -> tuple[Advice, ...]:
        """Write one command, and return advice for its author, such as the layers that a new deployment outranks.

        Raises:
            Exception: the error that rejects the command, or as `submit`.
        """
        _, refused = self._write([(0, command)], cause=cause)
        if refused:
            raise refused[0].error
        return tuple(item for part in parts_of(command) for item in advise(self._log, part, self._scope))

    def skip(self, stream: int, position: int, *, reason: str) -> None:
        """Record an operator's decision to skip the event at a position of a stream (DESIGN §4).

        Raises:
            DecisionInvalid: there is no such position, or no reason.
            LogUnavailable: as `submit`.
        """
        self._decide_block(BlockResolved(stream, position, reason))

    def retry(self, stream: int, position: int, *, reason: str) -> None:
        """Record that an operator asked for a retry of the event at a position; a partition that fails again stops again.

        Raises:
            DecisionInvalid, LogUnavailable: as `skip`.
        """
        self._decide_block(BlockRetried(stream, position, reason))

    def _decide_block(self, event: BlockResolved | BlockRetried) -> None:
        heads = self._log.heads()
        if event.stream not in heads or not 0 < event.position <= heads[event.stream]:
            raise DecisionInvalid(f"{event.stream}:{event.position}", "this log has no such position")
        if not event.reason.strip():
            raise DecisionInvalid(f"{name(event.stream)}:{event.position}", "`reason` is required")
        if len(event.reason.encode(errors="replace")) > REASON_BYTES_MAX:
            why = f"`reason` has at most {REASON_BYTES_MAX} bytes"
            raise DecisionInvalid(f"{name(event.stream)}:{event.position}", why)
        self._record(event)

    def record_erasure(self, of: str, ids: Sequence[str], *, reason: str) -> None:
        """Record that the secrets of an owner are erased; the caller destroys them next.

        Raises:
            DecisionInvalid: the reason is missing or too long.
            LogUnavailable: as `submit`.
        """
        if not reason.strip() or len(reason.encode(errors="replace")) > REASON_BYTES_MAX:
            raise DecisionInvalid(of, f"`reason` has 1 to {REASON_BYTES_MAX} bytes")
        for start in range(0, len(ids), BATCH_COMMANDS):
            self._record(SecretsErased(of, tuple(ids[start : start + BATCH_COMMANDS]), reason))

    def _record(self, event: BlockResolved | BlockRetried | SecretsErased) -> None:
        chunks: tuple[Chunk, ...] = ()
        while not chunks or isinstance(chunks[0], Conflicted):
            (stored,) = self._loaded(lambda: self._log.load([LOG_SUBJECT], fleet=True))
            if self._key is not None and self._key.counts(self._log, FLEET, [0]) != [0]:
                return
            append = self._decided(
                self._with_id(0, [Proposed(LOG_SUBJECT, stored.head.version, event)]), (), frozenset(), ""
            )
            chunks = self._answered(append)

    def _answered(self, append: AppendInFlight) -> tuple[Chunk, ...]:
        """Wait for the answer to an append, and wake the workers of what is in the log.

        Raises:
            LogUnavailable, Fenced: as `AppendInFlight.chunks`.
        """
        try:
            chunks = append.chunks(attempts=self._attempts, pause=self._pause)
        except Fenced as fenced:
            self._wake(fenced.streams_to_wake)
            raise
        self._wake(streams_to_wake(chunks))
        return chunks

    def _loaded(self, call: Callable[[], T]) -> T:
        return until_answered(call, attempts=self._attempts, pause=self._pause)

    def _with_id(self, number: int, events: Iterable[Proposed]) -> Sequence[Proposed]:
        """The events of a command with its id, if the producer has a key."""
        if self._key is None:
            return tuple(events)
        command_id = self._key.command_id(number)
        return tuple(msgspec.structs.replace(event, command_id=command_id) for event in events)

    def _split_off_written(self, commands: Sequence[Pending]) -> tuple[Sequence[Pending], int]:
        """The commands that are not in the log under their ids, and the number of events of those that are."""
        if self._key is None:
            return commands, 0
        by_stream: dict[int, list[int]] = {}
        for number, command in commands:
            by_stream.setdefault(stream_of(command, self._log.partitions), []).append(number)
        counts: dict[int, int] = {}
        for stream, numbers in by_stream.items():
            counts |= zip(numbers, self._key.counts(self._log, stream, numbers), strict=True)
        return [pending for pending in commands if not counts[pending[0]]], sum(counts.values())

    def _write(
        self, commands: Iterable[Pending], *, cause: str = "", documents: dict[int, Stored] | None = None
    ) -> tuple[int, list[Refused]]:
        """Write commands in batches; returns the number of events in the log, and the rejected commands.

        `documents` gets what the log has of each command's first subject after it, by the command's number.
        """
        progress = _Progress(documents)
        commands, pending = iter(commands), list[Pending]()
        batch_commands = min(self._batch_commands, _COMMANDS_IN_FLIGHT)
        append: AppendInFlight | None = None
        following: AppendInFlight | None = None
        self.readiness = {}
        try:
            while True:
                if all(map(_is_of_device, pending)):
                    pending += self._next(commands, batch_commands - len(pending), progress)
                if not pending:
                    if append is None:
                        return progress.written, progress.refused
                    pending, append = self._settled(append, progress), None
                    continue
                # While the server appends a batch, this process decides the next one, without the subjects in flight. The next
                # one is loaded first, or the load would wait for the append. Not so commands of the fleet, which depend on
                # subjects that they do not name, and commands with a key, which depend on what is in the log: they begin when
                # all before them is written, and end before anything after them begins (docs/decisions/0058). And not so commands
                # in conflict: a batch that waits for the next load meets other authors more often, and its attempts are few.
                overlaps = self._key is None and not progress.is_contended and all(map(_is_of_device, pending))
                in_flight = frozenset[str]() if append is None else append.subjects
                if append is not None and not overlaps:
                    pending, append = self._settled(append, progress) + pending, None
                    continue
                now, later, subjects = _one_each(pending[:batch_commands], in_flight)
                later += pending[batch_commands:]
                state = self._loaded(partial(load, self._log, [command for _, command in now]))
                if append is not None and not in_flight.isdisjoint(state[False]):
                    # A parent of a device is in flight, which only the device's document or its command's scope names.
                    pending, append = self._settled(append, progress) + pending, None
                    continue
                # After the load: what another sender of the same request wrote before it is seen here, and what it writes from
                # now on is a conflict of versions. So two senders write a command once, without a lock (docs/decisions/0041).
                missing, written_already = self._split_off_written(now)
                progress.written += written_already
                if append is not None:
                    append.begin()
                progress.is_contended = False
                proposed, authors = self._decide(missing, state, progress)
                following = self._decided(proposed, authors, subjects, cause) if proposed else None
                again = []
                if append is not None:
                    later += self._next(commands, batch_commands - len(later), progress)
                    again = self._settled(append, progress)
                append, following = following, None
                if append is not None and not overlaps:
                    again, append = self._settled(append, progress), None
                pending = again + later
        except BaseException:
            # What was decided before the error is written, as if it had been written before the next commands were read. Not so
            # after a batch that could not be written.
            unsettled = [decided for decided in (append, following) if decided is not None]
            if not any(decided.is_settled for decided in unsettled):
                for decided in unsettled:
                    self._wake(decided.streams_to_wake_after_error())
            raise

    def _next(self, commands: Iterator[Pending], limit: int, progress: "_Progress") -> list[Pending]:
        """The next commands that pass the checks without a state, with their secrets taken out."""
        # Before secrets are taken out: a command that is in the log has its secrets stored, and a repeat would store copies.
        missing, written = self._split_off_written(list(itertools.islice(commands, max(0, limit))))
        progress.written += written
        admitted = []
        for index, command in missing:
            try:
                # All commands are checked before a secret of any of them is stored: a rejected `Together` leaves none behind.
                for part in parts_of(command):
                    check(in_references(part))
                    if self._scope is not None:
                        refuse_references(part)
                admitted.append((index, with_parts(command, self._take_secrets)))
            except REFUSALS as error:
                progress.refused.append(refusal(index, command, error))
        return admitted

    def _decide(
        self, commands: Sequence[Pending], state: LoadedState, progress: "_Progress"
    ) -> tuple[list[Proposed], list[Pending]]:
        """The events that commands become, and the command of each."""
        commands = self._with_keys(commands, state[False])
        creates_left = deployments_left(self._log, (command for _, command in commands), self._deployments_max)
        waivers = cache(lambda: dict(fleet_documents.waivers(self._log)))
        author = CommandAuthor(str(self._by), self._scope)
        proposed: list[Proposed] = []
        authors: list[Pending] = []
        for pending in commands:
            index, command = pending
            try:
                events = propose(command, state, author)
                creates = []
                if not _is_of_device(pending):
                    creates = [event for event in events if isinstance(event.event, DeploymentCreated)]
                    for event in creates:
                        self._check_readiness(event, waivers)
                check_size(events)
                if len(creates) > creates_left:
                    raise DeploymentsFull(self._deployments_max)
                creates_left -= len(creates)
            except REFUSALS as error:
                progress.refused.append(refusal(index, command, error))
                continue
            if progress.documents is not None:
                progress.documents[index] = state_after(command, state, events)
            proposed += self._with_id(index, events)
            authors += [pending] * len(events)
        return proposed, authors

    def _check_readiness(self, created: Proposed, waivers: Callable[[], dict[str, WaiverDocument]]) -> None:
        if self._readiness_policy is not None:
            event = cast("DeploymentCreated", created.event)
            checked = self._readiness_policy.check(created.subject, event, waivers=waivers(), now=self._clock())
            self.readiness[created.subject] = checked

    def _decided(
        self, proposed: Sequence[Proposed], authors: Sequence[Pending], subjects: AbstractSet[str], cause: str
    ) -> AppendInFlight:
        self._before_append(proposed)
        # One id for all attempts: after a lost answer the log recognises the chunks that it has, and writes nothing twice.
        command_id = self._ids()
        send = self._log.prepare_append(
            proposed, command_id=command_id, by=self._by, at=self._clock(), cause=cause, fence=self._fence
        )
        return AppendInFlight(send, authors, subjects)

    def _settled(self, append: AppendInFlight, progress: "_Progress") -> list[Pending]:
        """Wait for an append, and wake the workers. Returns the commands that have to be decided again.

        Raises:
            ConflictPersists, LogUnavailable: as `submit`.
        """
        chunks = self._answered(append)
        for chunk in chunks:
            if not isinstance(chunk, Conflicted):
                progress.add(chunk, append.authors)
                self.written += len(chunk.indices)
        again = append.in_conflict(chunks)
        # Only a batch in which every command is in conflict counts towards the limit; one that writes something makes progress.
        # By commands, not events: one command can have several events.
        is_progress = len(again) < len(append.commands)
        progress.conflicts = (1 if is_progress else progress.conflicts + 1) if again else 0
        self.conflicts += bool(again)
        progress.is_contended |= bool(again)
        if progress.conflicts == ATTEMPTS_MAX:
            names = dict.fromkeys(subject for _, command in again for subject in subjects_of(command))
            raise ConflictPersists(tuple(names), ATTEMPTS_MAX)
        if progress.conflicts > 1:
            # At random, so that two authors who conflict do not meet again at the next attempt.
            self._pause(_CONFLICT_SECONDS * 2**progress.conflicts * random.random())  # noqa: S311
        return again

    def _with_keys(self, commands: Sequence[Pending], devices: Documents) -> Sequence[Pending]:
        """The commands with authentications for the identities that they create."""
        # Only now, when the state is loaded: a script that runs again gets `DeviceExists` and leaves no sealed keys (0042).
        if self._new_keys is None:
            return commands
        count = sum(needs_keys(command, devices) for _, sent in commands for command in parts_of(sent))
        if not count:
            return commands
        made = iter(self._new_keys(count))

        def keyed(command: Any) -> Any:
            wants = needs_keys(command, devices)
            return msgspec.structs.replace(command, authentication=next(made)) if wants else command

        return [(index, with_parts(sent, keyed)) for index, sent in commands]

    def _wake(self, streams: AbstractSet[int]) -> None:
        if self._waker is not None and streams:
            # The events are in the log, so a failed wake-up is no failure of the commands: the reconciler finds the lag.
            with contextlib.suppress(WakeFailed):
                self._waker.wake(streams)


def advise(log: Log, command: Command, scope: Scope | None = None) -> tuple[Advice, ...]:
    """Advice on the deployment that a command created or updated: layers it outranks, bases above it, warnings.

    Empty for other commands, and for a deployment that was deleted since. With a scope, the advice names only deployments of
    the same scope.
    """
    if not isinstance(command, CreateDeployment | UpdateDeployment):
        return ()
    (stored,) = log.load([command.deployment_id], fleet=True)
    if stored.snapshot is None:
        return ()
    # Only those that one outranks or is outranked by: a fleet can have thousands of others.
    contradicting = log.ranked_deployments().contradicting(rank_of(stored.snapshot))
    in_scope = [pair for pair in contradicting if scope is None or pair[1].scope == scope.text]
    return advice(command.deployment_id, decode(stored.snapshot), in_scope)


class _Progress:
    """What a call of a producer has done so far."""

    def __init__(self, documents: dict[int, Stored] | None) -> None:
        self.documents = documents
        self.written, self.refused, self.conflicts = 0, list[Refused](), 0
        self.is_contended = False
        """Whether commands wait that were in conflict."""

    def add(self, chunk: Written, authors: Sequence[Pending]) -> None:
        """Count the events of a chunk, whose time is known now."""
        self.written += len(chunk.indices)
        if self.documents is not None:
            for number in {authors[index][0] for index in chunk.indices}:
                stored = self.documents[number]
                if stored.snapshot is not None:
                    snapshot = with_time(stored.snapshot, chunk.at)
                    self.documents[number] = msgspec.structs.replace(stored, snapshot=snapshot)


_OF_DEVICES = frozenset(command for command, decider in BY_COMMAND.items() if not decider.is_of_fleet)


def _is_of_device(pending: Pending) -> bool:
    """Whether a command is one on a device or its modules."""
    command = pending[1]
    return type(command) in _OF_DEVICES or (isinstance(command, Together) and type(command.commands[0]) in _OF_DEVICES)


def _one_each(
    commands: Sequence[Pending], in_flight: AbstractSet[str]
) -> tuple[list[Pending], list[Pending], AbstractSet[str]]:
    """The first command on each subject that is not in flight, the commands that have to see its result, and its subjects."""
    # The second command on a subject is decided on the document after the first, which only the append makes certain. A script
    # that tags 10,000 devices once is not slowed down; one that changes one device 100 times is (docs/decisions/0011).
    decided, waiting = set[str](), set(in_flight)
    now, later = [], []
    for pending in commands:
        subjects = subjects_of(pending[1])
        if decided.isdisjoint(subjects) and waiting.isdisjoint(subjects):
            now.append(pending)
            decided.update(subjects)
        else:
            later.append(pending)
            waiting.update(subjects)
    return now, later, decided
