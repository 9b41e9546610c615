"""Dry runs: what a producer is given to show what would happen, or to write only what a preview showed."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from events import canonical
from events.deployment.advice import Advice
from events.deployment.commands import DeploymentCommand
from events.log.port import Log, Proposed
from events.preview.errors import PreviewDiffers, PreviewOvertaken, PreviewRequired, PreviewTokenInvalid
from events.preview.imagined_log import ImaginedEvents
from events.preview.preview_result import PreviewResult
from events.preview.preview_token import PreviewToken
from events.preview.previewer import Decided, Previewer, Trial
from events.producer.errors import Command, Refused
from events.producer.producer import advise
from events.producer.readiness import ReadinessPolicy
from events.projection_store.query_engine import ContinuationInvalid, QueryEngine
from events.rollout.commands import AbortRollout, PauseRollout, RolloutCommand
from events.settings import Settings
from events.update.commands import UpdateCommand
from services.api.context.callers import Author, within_scope
from services.api.http.continuation_tokens import Continuations

# Continuations of lists are sealed with the same key: the prefix keeps one from passing for the other.
_SEALED = "preview:"


class Preview(msgspec.Struct, frozen=True, eq=False):
    """What an author's commands would do. `until` is when the token expires, in milliseconds since 1970."""

    author: Author
    result: PreviewResult
    events: ImaginedEvents
    commands: tuple[Command, ...]
    refused: tuple[Refused, ...]
    advice: tuple[Advice, ...]
    token: str
    until: int


class DryRunDone(Exception):
    """A dry run ended: nothing was written, and `preview` is what would have been."""

    def __init__(self, preview: Preview) -> None:
        super().__init__("this is a preview")
        self.preview = preview


class DryRuns(msgspec.Struct, frozen=True):
    """What dry runs need of a process."""

    previewer: Previewer
    query_engine: QueryEngine
    continuations: Continuations
    settings: Settings
    log: Log
    readiness_policy: ReadinessPolicy | None
    clock: Callable[[], int]

    def trial(self, author: Author) -> Trial:
        """A producer for the author that writes nothing, for one thread at a time."""
        return Trial(
            self.previewer,
            by=author.by,
            scope=author.scope,
            deployments_max=self.settings.configurations_max,
            readiness_policy=self.readiness_policy,
        )

    def decide(self, author: Author, commands: Sequence[Command]) -> Decided:
        """Decide commands one after the other at the head of the log."""
        trial = self.trial(author)
        return trial.decided(trial.producer.submit(commands).refused)

    def preview(
        self, author: Author, trial: Trial, commands: Sequence[Command] = (), refused: Sequence[Refused] | None = None
    ) -> Preview:
        """What the events that the producer of a trial meant to write would do.

        `commands` are what the producer was given, those included that it rejects at once; without them, those of the trial.
        `refused` are the commands that it rejected; `None` if the producer raises instead.

        Raises:
            Exception: the error that rejects a command, if another author's events cause it only now.
            PreviewBehind: as `Previewer.result`.
        """
        commands = commands or trial.commands
        try:
            return self._preview(author, commands, trial.decided(refused or ()))
        except PreviewOvertaken:
            if not commands:
                raise
            # Other authors wrote on the same devices after the decision. Workers have applied that, so a second decision holds.
            decided = self.decide(author, commands)
            if refused is None:
                for refusal in decided.refused:
                    raise refusal.error from None
            return self._preview(author, commands, decided)

    def _preview(self, author: Author, commands: Sequence[Command], decided: Decided) -> Preview:
        result = self.result(author, decided)
        until = self.clock() + int(1000 * self.settings.preview_token_seconds)
        token = PreviewToken.of(
            result,
            decided.events,
            commands=digest_of(commands),
            author=_name_of(author),
            partitions=self.log.partitions,
            until=until,
        )
        advice = tuple(item for command in commands for item in advise(decided.log, command, author.scope))
        sealed = self.continuations.seal(_SEALED + canonical.encode(token).decode())
        return Preview(author, result, decided.events, tuple(commands), decided.refused, advice, sealed, until)

    def result(self, author: Author, decided: Decided) -> PreviewResult:
        """What the events would do to the devices in the author's scope."""
        within = within_scope(self.query_engine, author.scope)
        return self.previewer.result(decided, within=within)

    def opened(self, text: str, author: Author, commands: Sequence[Command]) -> PreviewToken:
        """The token of a preview of these commands; PreviewTokenInvalid for no token, an expired or another's one."""
        try:
            sealed = self.continuations.open(text) or ""
            token = (
                msgspec.json.decode(sealed.removeprefix(_SEALED), type=PreviewToken)
                if sealed.startswith(_SEALED)
                else None
            )
        except (ContinuationInvalid, msgspec.DecodeError):
            token = None
        if token is None:
            raise PreviewTokenInvalid("was not issued by this system")
        token.check(commands=digest_of(commands), author=_name_of(author), now=self.clock())
        return token


class PreviewCheck:
    """Lets a producer write what a preview showed, and without a token what requires no preview.

    `check` decides the commands at the head and compares the result with the preview, before a secret of theirs is stored.
    `check_batch` sees each batch right before it is appended: a batch decided on the same versions of the same subjects passes,
    any other is checked again. A batch decided on older versions is in conflict, and returns. Once events are written, the
    remaining commands cannot be compared with the preview any more: they are rejected, and the error says so.
    """

    def __init__(self, dry_runs: DryRuns, author: Author, take_out: Callable[[Command], Command]) -> None:
        self._dry_runs, self._author, self._take_out = dry_runs, author, take_out
        self._token = "" if author.preview_request is None else author.preview_request.token
        self._upcoming = list[Command]()
        self._all_commands: Sequence[Command] = ()
        self._commands: Sequence[Command] = ()
        self._cleared: set[tuple[str, int, type[Any]]] = set()

    def take_out(self, command: Command) -> Command:
        """The command without its secrets."""
        self._upcoming.append(command)
        return self._take_out(command)

    def check(self, commands: Sequence[Command]) -> None:
        """Check commands before a producer decides them. A command that is rejected passes: its producer raises the error.

        Raises:
            PreviewTokenInvalid, PreviewDiffers: the token belongs to something else, or something else would happen now.
            PreviewRequired: it affects more devices than the settings allow without a preview.
            PreviewBehind: workers are behind.
        """
        self._all_commands = commands
        self._clear(commands)

    def check_batch(self, proposed: Sequence[Proposed], *, written: int) -> None:
        """As `check`, for a batch on other versions than `check` saw; `written` events are in the log by now."""
        upcoming, self._upcoming = self._upcoming, []
        self._commands = self._all_commands or upcoming or self._commands
        unchecked = _keys(proposed) - self._cleared
        if not unchecked:
            return
        if self._token and written:
            names = sorted({subject for subject, _, _ in unchecked})
            raise PreviewDiffers([f"another author wrote on {name} meanwhile" for name in names], written=written)
        self._clear(self._commands)

    def _clear(self, commands: Sequence[Command]) -> None:
        # 0 devices: any number needs no preview.
        limit = self._dry_runs.settings.preview_required_above
        if not self._token and not (limit and any(map(_changes_devices, commands))):
            return
        try:
            self._compare(commands)
        except PreviewOvertaken:
            # Workers have applied by now what the other author wrote.
            self._compare(commands)

    def _compare(self, commands: Sequence[Command]) -> None:
        dry_runs, author = self._dry_runs, self._author
        decided = dry_runs.decide(author, commands)
        token = dry_runs.opened(self._token, author, commands) if self._token else None
        if decided.refused and len(decided.refused) == len(commands):
            return
        result = dry_runs.result(author, decided)
        if token is None:
            affected, limit = result.count("affected"), dry_runs.settings.preview_required_above
            if affected > limit:
                raise PreviewRequired(affected, limit)
        else:
            between = token.compare(result, decided.events)
            assert author.preview_request is not None
            # The positions tell where other authors write, which is outside a scope.
            author.preview_request.between = None if author.scope is not None else between
        self._cleared |= _keys(decided.log.proposed)


def _changes_devices(command: Command) -> bool:
    """Whether a command can change what devices get."""
    # Pausing and aborting need no projections, and have to work while those are behind or blocked.
    return isinstance(command, DeploymentCommand | RolloutCommand | UpdateCommand) and not isinstance(
        command, PauseRollout | AbortRollout
    )


def _keys(proposed: Sequence[Proposed]) -> set[tuple[str, int, type[Any]]]:
    return {(event.subject, event.expected_version, type(event.event)) for event in proposed}


def digest_of(commands: Sequence[Command]) -> str:
    """The SHA-256 of commands as they were sent, in hexadecimal digits."""
    # Secrets are part of it, so that it leaves the process in a sealed token only.
    digest = hashlib.sha256()
    for command in commands:
        digest.update(canonical.encode([type(command).__name__, command]))
    return digest.hexdigest()


def _name_of(author: Author) -> str:
    return canonical.digest([str(author.by), None if author.scope is None else author.scope.text])
