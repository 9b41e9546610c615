"""The producer: commands in, events in the log, workers woken."""

import contextlib
import itertools
import random
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec

from events.access.scope import Scope
from events.canonical import JsonObject
from events.clock import now_ms
from events.decider import Documents
from events.deployment.advice import Advice
from events.deployment.errors import DeploymentsFull
from events.deployment.events import DeploymentCreated
from events.device.decider import needs_keys
from events.envelope import Principal
from events.log import fleet_documents
from events.log.chunks import check_size
from events.log.errors import LogUnavailable
from events.log.events import LOG_SUBJECT, BlockResolved, BlockRetried, SecretsErased
from events.log.keys import FLEET, name
from events.log.port import Chunk, Conflicted, Log, Proposed
from events.log.wake import WakeFailed
from events.producer.author_advice import advise
from events.producer.decision import (
    REFUSALS,
    check,
    deployments_left,
    load,
    parts_of,
    propose,
    subjects_of,
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
REASON_BYTES_MAX = 2000
_PAUSE_SECONDS = 0.05
_PAUSE_SECONDS_MAX = 2.0
_CONFLICT_SECONDS = 0.001


class WakerLike(Protocol):
    """Who wakes the workers of some streams."""

    def wake(self, streams: Iterable[int]) -> None:
        """Give each of these streams' partitions a job."""
        ...


class ProducerReport(msgspec.Struct, frozen=True):
    """What became of some commands: how many events are in the log, and which commands were refused, and why."""

    written: int
    refused: tuple[Refused, ...] = ()

    def raise_if_refused(self) -> None:
        """Insist that every command went through.

        Raises:
            CommandsRefused: names those that did not.
        """
        if self.refused:
            raise CommandsRefused(self.refused)


Pending = tuple[int, Sent]
"""A command and which of the sent ones it is."""


class Producer:
    """Decides commands on what stands and appends what follows, in batches.

    One producer belongs to one thread. `send` buffers and blocks while a full batch is written, so that a fast script goes
    at the pace of the log. Several producers may write at once: when another one changed a subject meanwhile, the commands
    on it, and no others, are decided again. With a `scope`, all that is outside of it is as if it were not there; a new deployment
    has to pass the `readiness_policy`. `new_keys` makes authentications for identities that come without; if it is not given,
    they have none. The `before_append` is shown each batch right before it is appended, and may keep it out by raising. With a `key`, a
    command that is in the log under its id, made of the key and of its number, is not written again. With a `fence`, nothing is
    appended once a process with a higher one has taken over (`Fenced`).
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
        attempts: int = ATTEMPTS_MAX,
        deployments_max: int = 0,
        readiness_policy: ReadinessPolicy | None = None,
        before_append: Callable[[Sequence[Proposed]], None] = lambda _: None,
        key: CommandKey | None = None,
        fence: int | None = None,
    ) -> None:
        self._log = log
        self._by = by
        self._scope = scope
        self._waker = waker
        self._clock = clock
        self._ids = ids
        self._pause = pause
        self._take_secrets = take_secrets
        self._new_keys = new_keys
        self._batch_commands = batch_commands
        self._attempts = attempts
        self._deployments_max = deployments_max
        self._readiness_policy = readiness_policy
        self._before_append = before_append
        self._key = key
        self._fence = fence
        self._buffer: list[Sent] = []
        self._written, self._refused, self._sent = 0, list[Refused](), 0
        self.conflicts = 0
        """How often somebody else had changed a subject meanwhile, so that commands were decided again."""
        self.written = 0
        """How many events it has brought into the log."""
        self.readiness: dict[str, CheckedReadiness] = {}
        """What the readiness policy found in the deployments that the last call decided on, by id."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.flush().raise_if_refused()

    def send(self, command: Sent) -> None:
        """Hand a command over; it is in the log after the next `flush`, or sooner.

        Raises:
            ConflictPersists, LogUnavailable: as `submit`.
        """
        self._buffer.append(command)
        if len(self._buffer) >= self._batch_commands:
            self._write_buffer()

    def flush(self) -> ProducerReport:
        """Write what is buffered, and report on everything sent since the last flush."""
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
        """Write commands in order, in batches, and report; refused ones do not hold the others up.

        Raises:
            ConflictPersists: others kept changing the same subjects; these commands are not in the log.
            LogUnavailable: Redis stayed away; what was not written may be submitted again.
        """
        return self.submit_numbered(enumerate(commands))

    def submit_numbered(self, commands: Iterable[Pending]) -> ProducerReport:
        """As `submit`, of commands with the numbers by which the report, and the ids of a `key`, know them.

        Raises:
            ConflictPersists, LogUnavailable: as `submit`.
        """
        written, refused = 0, list[Refused]()
        numbered = iter(commands)
        while some := list(itertools.islice(numbered, self._batch_commands)):
            more, others = self._write(some)
            written += more
            refused += others
        return ProducerReport(written, tuple(refused))

    def do(self, command: Command, *, cause: str = "") -> tuple[Advice, ...]:
        """Write one command, and answer what its author should know: of a deployment, the layers it outranks and the like.

        Raises:
            Exception: the very error that refuses it, or as `submit`.
        """
        _, refused = self._write([(0, command)], cause=cause)
        if refused:
            raise refused[0].error
        return advise(self._log, command, self._scope)

    def do_together(self, *commands: Command) -> tuple[Advice, ...]:
        """Write some commands of the fleet, all or none; each is decided on what the ones before it make.

        Raises:
            Exception: the very error that refuses one of them, or as `submit`.
        """
        _, refused = self._write([(0, Together(commands))])
        if refused:
            raise refused[0].error
        return tuple(one for command in commands for one in advise(self._log, command, self._scope))

    def skip(self, stream: int, position: int, *, reason: str) -> None:
        """Record an operator's decision that applying goes on without the event at a position of a stream (DESIGN §4).

        Raises:
            DecisionInvalid: there is no such position, or no reason.
            LogUnavailable: as `submit`.
        """
        self._decide_block(BlockResolved(stream, position, reason))

    def retry(self, stream: int, position: int, *, reason: str) -> None:
        """Record an operator's wish that the event at a position is tried again; who stopped there stops again if need be.

        Raises:
            DecisionInvalid, LogUnavailable: as `skip`.
        """
        self._decide_block(BlockRetried(stream, position, reason))

    def _decide_block(self, event: BlockResolved | BlockRetried) -> None:
        heads = self._log.heads()
        if event.stream not in heads or not 0 < event.position <= heads[event.stream]:
            raise DecisionInvalid(f"{event.stream}:{event.position}", "is no position of this log")
        if not event.reason.strip():
            raise DecisionInvalid(f"{name(event.stream)}:{event.position}", "`reason` is required")
        if len(event.reason.encode(errors="replace")) > REASON_BYTES_MAX:
            raise DecisionInvalid(
                f"{name(event.stream)}:{event.position}", f"`reason` has at most {REASON_BYTES_MAX} bytes"
            )
        self._record(event)

    def record_erasure(self, of: str, ids: Sequence[str], *, reason: str) -> None:
        """Record that secrets of something are destroyed for good; whoever calls this destroys them next.

        Raises:
            DecisionInvalid: no reason.
            LogUnavailable: as `submit`.
        """
        if not reason.strip() or len(reason.encode(errors="replace")) > REASON_BYTES_MAX:
            raise DecisionInvalid(of, f"`reason` has 1 to {REASON_BYTES_MAX} bytes")
        for start in range(0, len(ids), BATCH_COMMANDS):
            self._record(SecretsErased(of, tuple(ids[start : start + BATCH_COMMANDS]), reason))

    def _record(self, event: BlockResolved | BlockRetried | SecretsErased) -> None:
        chunks: tuple[Chunk, ...] = ()
        while not chunks or isinstance(chunks[0], Conflicted):
            (stored,) = self._log.load([LOG_SUBJECT], fleet=True)
            if self._stands(FLEET):
                return
            chunks = self._append(self._with_id(0, [Proposed(LOG_SUBJECT, stored.head.version, event)]), "")
        self._wake(chunks)

    def _stands(self, stream: int) -> bool:
        """Whether the only command of a request with a key is in the log."""
        return self._key is not None and self._key.counts(self._log, stream, [0]) != [0]

    def _with_id(self, number: int, events: Iterable[Proposed]) -> Sequence[Proposed]:
        """The events of a command, with the id under which it is known."""
        if self._key is None:
            return tuple(events)
        command_id = self._key.command_id(number)
        return tuple(msgspec.structs.replace(event, command_id=command_id) for event in events)

    def _split_off_written(self, commands: Sequence[Pending]) -> tuple[Sequence[Pending], int]:
        """The commands that are not in the log under their ids, and how many events the others have there."""
        if self._key is None:
            return commands, 0
        by_stream: dict[int, list[int]] = {}
        for number, command in commands:
            by_stream.setdefault(stream_of(command, self._log.partitions), []).append(number)
        counts: dict[int, int] = {}
        for stream, numbers in by_stream.items():
            counts |= zip(numbers, self._key.counts(self._log, stream, numbers), strict=True)
        return [one for one in commands if not counts[one[0]]], sum(counts.values())

    def _write(self, commands: Iterable[Pending], *, cause: str = "") -> tuple[int, list[Refused]]:
        # Before secrets are taken: those of a command that is in the log are kept there already.
        commands, written = self._split_off_written(list(commands))
        pending, refused = self._admitted(commands)
        conflicts, self.readiness = 0, {}
        while pending:
            now, later = _one_each(pending)
            state = load(self._log, [command for _, command in now])
            # After the load: what another sender of the same writes in between is in conflict.
            missing, there = self._split_off_written(now)
            written += there
            proposed, authors = self._decide(missing, state, refused)
            chunks = self._append(proposed, cause) if proposed else ()
            again: list[Pending] = []
            for chunk in chunks:
                if isinstance(chunk, Conflicted):
                    again += {authors[index][0]: authors[index] for index in chunk.indices}.values()
                else:
                    written += len(chunk.indices)
            self._wake(chunks)
            if again:
                # Writing something is progress: only what stays in conflict however often it is tried is given up.
                # One command can have several events, which are written together or not at all.
                conflicts = 1 if len(again) < len({number for number, _ in authors}) else conflicts + 1
                self.conflicts += 1
            else:
                conflicts = 0
            if conflicts == ATTEMPTS_MAX:
                names = dict.fromkeys(subject for _, one in again for subject in subjects_of(one))
                raise ConflictPersists(tuple(names), ATTEMPTS_MAX)
            if conflicts > 1:
                # Apart in time, so that one of those who meet gets through.
                self._pause(_CONFLICT_SECONDS * 2**conflicts * random.random())  # noqa: S311
            pending = again + later
        return written, refused

    def _admitted(self, commands: Iterable[Pending]) -> tuple[list[Pending], list[Refused]]:
        """The commands that a state could allow, without the secrets in them; and the others."""
        fine, refused = [], []
        for index, command in commands:
            try:
                fine.append((index, self._checked(command)))
            except REFUSALS as error:
                refused.append(refusal(index, command, error))
        return fine, refused

    def _checked(self, sent: Sent) -> Sent:
        if isinstance(sent, Together):
            for command in sent.commands:
                self._check(command)
            return Together(tuple(map(self._take_secrets, sent.commands)))
        self._check(sent)
        return self._take_secrets(sent)

    def _check(self, command: Command) -> None:
        check(in_references(command))
        if self._scope is not None:
            refuse_references(command)

    def _decide(
        self, commands: Sequence[Pending], state: LoadedState, refused: list[Refused]
    ) -> tuple[list[Proposed], list[Pending]]:
        commands = self._with_keys(commands, state.devices)
        left = deployments_left(self._log, (command for _, command in commands), self._deployments_max)
        waivers = cache(self._waivers)
        proposed: list[Proposed] = []
        authors: list[Pending] = []
        for index, command in commands:
            try:
                events = propose(command, state, self._scope, by=str(self._by))
                self._check_readiness(events, waivers)
                for event in events:
                    check_size(event)
                if any(isinstance(event.event, DeploymentCreated) for event in events):
                    if not left:
                        raise DeploymentsFull(self._deployments_max)
                    left -= 1
            except REFUSALS as error:
                refused.append(refusal(index, command, error))
                continue
            proposed += self._with_id(index, events)
            authors += [(index, command)] * len(events)
        return proposed, authors

    def _with_keys(self, commands: Sequence[Pending], devices: Documents) -> Sequence[Pending]:
        """The commands with keys for the identities that they are about to make: a refused one leaves no keys behind."""
        if self._new_keys is None:
            return commands
        count = sum(needs_keys(command, devices) for _, sent in commands for command in parts_of(sent))
        if not count:
            return commands
        made = iter(self._new_keys(count))

        def keyed(command: Any) -> Any:
            wants = needs_keys(command, devices)
            return msgspec.structs.replace(command, authentication=next(made)) if wants else command

        return [
            (index, Together(tuple(map(keyed, sent.commands))) if isinstance(sent, Together) else keyed(sent))
            for index, sent in commands
        ]

    def _waivers(self) -> dict[str, WaiverDocument]:
        return dict(fleet_documents.waivers(self._log))

    def _check_readiness(self, proposed: Iterable[Proposed], waivers: Callable[[], dict[str, WaiverDocument]]) -> None:
        """Keep deployments out that the readiness policy does not allow."""
        policy = self._readiness_policy
        if policy is None:
            return
        for entry in proposed:
            if isinstance(entry.event, DeploymentCreated):
                subject = entry.subject
                self.readiness[subject] = policy.check(subject, entry.event, waivers=waivers(), now=self._clock())

    def _append(self, proposed: Sequence[Proposed], cause: str) -> tuple[Chunk, ...]:
        """Append a batch; while Redis is away, send the very same again, so that nothing is written twice."""
        self._before_append(proposed)
        command_id, pause_seconds = self._ids(), _PAUSE_SECONDS
        for attempt in range(1, self._attempts + 1):
            try:
                chunks = self._log.append(
                    proposed, command_id=command_id, by=self._by, at=self._clock(), cause=cause, fence=self._fence
                )
            except LogUnavailable:
                if attempt == self._attempts:
                    raise
                self._pause(pause_seconds)
                pause_seconds = min(2 * pause_seconds, _PAUSE_SECONDS_MAX)
            else:
                self.written += sum(len(one.indices) for one in chunks if not isinstance(one, Conflicted))
                return chunks
        raise AssertionError

    def _wake(self, chunks: Iterable[Chunk]) -> None:
        streams = {
            chunk.stream for chunk in chunks if not isinstance(chunk, Conflicted) and (chunk.woke or chunk.repeated)
        }
        if self._waker is not None and streams:
            # What is appended is acknowledged; the reconciler wakes whoever this does not.
            with contextlib.suppress(WakeFailed):
                self._waker.wake(streams)


def _one_each(commands: Sequence[Pending]) -> tuple[list[Pending], list[Pending]]:
    """The first command on each subject, and those that must see what it does first."""
    taken: set[str] = set()
    now, later = [], []
    for one in commands:
        subjects = subjects_of(one[1])
        if taken.isdisjoint(subjects):
            now.append(one)
        else:
            later.append(one)
        taken.update(subjects)
    return now, later
