"""Looking before writing: what a producer is given so that it shows what would happen, or writes only what was shown."""

import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from events import canonical
from events.deployment.advice import Advice
from events.deployment.commands import DeploymentCommand
from events.log.port import Log, Proposed
from events.preview.errors import PreviewDiffers, PreviewOvertaken, PreviewRequired, PreviewTokenInvalid
from events.preview.imagined_events import ImaginedEvents
from events.preview.imagined_log import ImaginedLog
from events.preview.preview_result import PreviewResult
from events.preview.preview_token import PreviewToken
from events.preview.previewer import Decided, Previewer, SecretPlaceholders, Within
from events.producer.author_advice import advise
from events.producer.errors import Command, Refused
from events.producer.readiness import ReadinessPolicy
from events.projection_store.query_engine import ContinuationInvalid, QueryEngine
from events.rollout.commands import AbortRollout, PauseRollout, RolloutCommand
from events.settings import Settings
from events.update.commands import UpdateCommand
from services.api.context.callers import Author
from services.api.http.continuation_tokens import Continuations

_SEALED = "preview:"


class Preview(msgspec.Struct, frozen=True, eq=False):
    """What some commands of somebody would do, with all that is told of it; `until` when the token is good, in milliseconds."""

    author: Author
    result: PreviewResult
    events: ImaginedEvents
    commands: tuple[Command, ...]
    refused: tuple[Refused, ...]
    advice: tuple[Advice, ...]
    token: str
    until: int


class DryRunDone(Exception):
    """Somebody only looked: nothing was written, and this is what would have been."""

    def __init__(self, preview: Preview) -> None:
        super().__init__("this is a preview")
        self.preview = preview


class DryRuns:
    """The previews of a process."""

    def __init__(
        self,
        previewer: Previewer,
        query_engine: QueryEngine,
        continuations: Continuations,
        settings: Settings,
        *,
        log: Log,
        readiness_policy: ReadinessPolicy | None,
        clock: Callable[[], int],
    ) -> None:
        self.previewer, self.log, self.readiness_policy, self.clock = previewer, log, readiness_policy, clock
        self.limit, self.deployments_max = settings.preview_required_above, settings.configurations_max
        self._query_engine, self._continuations = query_engine, continuations
        self._token_ms = int(1000 * settings.preview_token_seconds)

    def preview(
        self,
        author: Author,
        commands: Sequence[Command],
        decided: Decided,
    ) -> Preview:
        """What would follow from what was decided on some commands.

        Raises:
            PreviewBehind: as `Previewer.result`.
        """
        events = decided.events
        result = self.result(author, decided)
        until = self.clock() + self._token_ms
        token = PreviewToken.of(
            result,
            events,
            commands=digest_of(commands),
            author=_name_of(author),
            partitions=self.log.partitions,
            until=until,
        )
        advice = tuple(one for command in commands for one in advise(decided.log, command, author.scope))
        sealed = self._continuations.seal(_SEALED + token.to_text())
        return Preview(author, result, events, tuple(commands), decided.refused, advice, sealed, until)

    def decide(self, author: Author, commands: Sequence[Command]) -> Decided:
        """Decide commands one after the other at the head of the log."""
        return self.previewer.decide(
            commands,
            by=author.by,
            scope=author.scope,
            deployments_max=self.deployments_max,
            readiness_policy=self.readiness_policy,
        )

    def result(self, author: Author, decided: Decided) -> PreviewResult:
        """What the events would do, as far as their author sees it."""
        return self.previewer.result(decided.events, decided.proposed, within=self.within(author))

    def within(self, author: Author) -> Within | None:
        """Whom an author reaches; `None` for everybody."""
        if author.scope is None:
            return None
        expression = author.scope.condition
        return functools.cache(lambda number: self._query_engine.within(number, expression))

    def opened(self, text: str, author: Author, commands: Sequence[Command]) -> PreviewToken:
        """The token that somebody shows for some commands.

        Raises:
            PreviewTokenInvalid: it was not given for that.
        """
        try:
            sealed = self._continuations.open(text) or ""
            token = PreviewToken.from_text(sealed.removeprefix(_SEALED)) if sealed.startswith(_SEALED) else None
        except (ContinuationInvalid, msgspec.DecodeError):
            token = None
        if token is None:
            raise PreviewTokenInvalid("was not given here")
        token.check(commands=digest_of(commands), author=_name_of(author), now=self.clock())
        return token


class DryRun:
    """The log and the secrets of one producer that writes nothing."""

    def __init__(self, dry_runs: DryRuns, author: Author) -> None:
        self._dry_runs, self._author = dry_runs, author
        self._secrets, self._commands = SecretPlaceholders(dry_runs.previewer.personal), list[Command]()
        self.log = ImaginedLog(dry_runs.log)

    def take_out(self, command: Command) -> Command:
        """The command without its secrets, which go nowhere."""
        self._commands.append(command)
        return self._secrets.take_out(command)

    def preview(self, commands: Sequence[Command] = (), refused: Sequence[Refused] | None = None) -> Preview:
        """What the events would do that the producer meant to write.

        `commands` are what it was given, those included that are refused at sight; where they are not known, what came through.
        `refused` are those of them that it refused; `None` where it raises instead.

        Raises:
            Exception: the error that refuses one, if it is only now that one is.
            PreviewBehind: as `Previewer.result`.
        """
        dry_runs, author, commands = self._dry_runs, self._author, commands or self._commands
        events = dry_runs.previewer.events(self.log.proposed, by=author.by, new_secrets=self._secrets.new)
        decided = Decided(tuple(self.log.proposed), events, tuple(refused or ()), self.log)
        try:
            return dry_runs.preview(author, commands, decided)
        except PreviewOvertaken:
            if not commands:
                raise
            # Whoever wrote meanwhile is applied by now.
            decided = dry_runs.decide(author, commands)
            if refused is None:
                for one in decided.refused:
                    raise one.error from None
            return dry_runs.preview(author, commands, decided)


class PreviewCheck:
    """With a token it lets what was shown through, without one what needs no look.

    `look` decides the commands once more at the head and compares what follows, before a secret of theirs is stored. Then it
    is shown each batch right before that is appended: one that was decided on the same versions of the same subjects goes
    through, any other is looked at again. One that was decided on older versions is in conflict, and comes again. Once some of
    what was shown is written the rest cannot be held to it any more: it is kept out, and told so.
    """

    def __init__(self, dry_runs: DryRuns, author: Author, take_out: Callable[[Command], Command]) -> None:
        self._dry_runs, self._author, self._take_out = dry_runs, author, take_out
        self._token = "" if author.asked is None else author.asked.token
        self._coming = list[Command]()
        self._given: Sequence[Command] = ()
        self._commands: Sequence[Command] = ()
        self._cleared: set[tuple[str, int, type[Any]]] = set()

    def take_out(self, command: Command) -> Command:
        """The command without its secrets."""
        self._coming.append(command)
        return self._take_out(command)

    def look(self, commands: Sequence[Command]) -> None:
        """Let commands through before anything is made of them; what they are refused for is told by who writes them.

        Raises:
            PreviewTokenInvalid, PreviewDiffers: the token is of something else, or something else would happen now.
            PreviewRequired: it reaches too many for going without.
            PreviewBehind: it cannot be told now.
        """
        self._given = commands
        if self._token or (self._dry_runs.limit and any(map(_reaches, commands))):
            self._clear(commands)

    def __call__(self, proposed: Sequence[Proposed], *, written: int) -> None:
        """Let a batch through that was not decided as `look` saw it; `written` is how many events are in the log by now.

        Raises:
            PreviewError: as `look`.
        """
        coming, self._coming = self._coming, []
        self._commands = self._given or coming or self._commands
        others = _keys(proposed) - self._cleared
        if not others:
            return
        if self._token and written:
            names = sorted({subject for subject, _, _ in others})
            raise PreviewDiffers([f"somebody else wrote on {name} meanwhile" for name in names], written=written)
        if self._token or (self._dry_runs.limit and any(map(_reaches, self._commands))):
            self._clear(self._commands)

    def _clear(self, commands: Sequence[Command]) -> None:
        try:
            self._weigh(commands)
        except PreviewOvertaken:
            # Whoever wrote meanwhile is applied by now.
            self._weigh(commands)

    def _weigh(self, commands: Sequence[Command]) -> None:
        dry_runs, author = self._dry_runs, self._author
        decided = dry_runs.decide(author, commands)
        token = dry_runs.opened(self._token, author, commands) if self._token else None
        if decided.refused and len(decided.refused) == len(commands):
            return
        result = dry_runs.result(author, decided)
        if token is None:
            if (affected := result.count("affected")) > dry_runs.limit:
                raise PreviewRequired(affected, dry_runs.limit)
        else:
            between = token.compare(result, decided.events)
            assert author.asked is not None
            # Where others write is not told to whoever is scoped.
            author.asked.between = None if author.scope is not None else between
        self._cleared |= _keys(decided.proposed)


def _reaches(command: Command) -> bool:
    """Whether a command can change what devices get. One that cannot needs no projections, which may be behind, or stopped."""
    return isinstance(command, DeploymentCommand | RolloutCommand | UpdateCommand) and not isinstance(
        command, PauseRollout | AbortRollout
    )


def _keys(proposed: Sequence[Proposed]) -> set[tuple[str, int, type[Any]]]:
    return {(one.subject, one.expected_version, type(one.event)) for one in proposed}


def digest_of(commands: Sequence[Command]) -> str:
    """Of commands as they were sent, secrets and all: it goes nowhere but into a sealed token."""
    said = hashlib.sha256()
    for command in commands:
        said.update(canonical.encode([type(command).__name__, command]))
    return said.hexdigest()


def _name_of(author: Author) -> str:
    return canonical.digest([str(author.by), None if author.scope is None else author.scope.text])
