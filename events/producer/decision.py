"""From commands, and what they are decided on, to proposed events: whatever the concept, in the same steps."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from events import canonical
from events.access.errors import AccessError, OutOfScope
from events.access.scope import Scope
from events.decider import CommandAuthor, SubjectChange
from events.deployment.commands import CreateDeployment
from events.deployment.errors import DeploymentError
from events.device.errors import DeviceError
from events.log.concepts import BY_COMMAND, BY_EVENT
from events.log.errors import EventTooLarge
from events.log.fleet_documents import deployments
from events.log.keys import FLEET
from events.log.port import AT_APPEND, Log, Proposed
from events.manifest.errors import ManifestInvalid
from events.producer.documents import LoadedDocuments, LoadedState
from events.producer.errors import Command, CommandInvalid, NoVault, Sent, Together
from events.query.errors import ConditionInvalid
from events.readiness.errors import ReadinessError
from events.rollout.errors import RolloutError
from events.secrets.errors import MarkNotFound, SecretErased, SecretNotFound, SecretTextInvalid
from events.update.commands import DeployUpdate
from events.update.errors import UpdateError
from events.webhook.errors import WebhookError

REFUSALS = (
    DeviceError,
    DeploymentError,
    RolloutError,
    UpdateError,
    AccessError,
    ReadinessError,
    WebhookError,
    ConditionInvalid,
    ManifestInvalid,
    SecretTextInvalid,
    MarkNotFound,
    SecretNotFound,
    SecretErased,
    CommandInvalid,
    NoVault,
    EventTooLarge,
)
"""What a command can be refused with: it breaks a rule, and no retry would help."""


def parts_of(sent: Sent) -> Sequence[Command]:
    """The commands that something sent consists of."""
    return sent.commands if isinstance(sent, Together) else (sent,)


def subjects_of(sent: Sent) -> Sequence[str]:
    """The subjects whose state a command is decided on, as far as it names them itself."""
    if isinstance(sent, Together):
        return [subject for command in sent.commands for subject in subjects_of(command)]
    return BY_COMMAND[type(sent)].subjects(sent)


def load(log: Log, sent: Iterable[Sent]) -> LoadedState:
    """What the log has of every subject that some commands are decided on."""
    commands = [(BY_COMMAND[type(command)], command) for one in sent for command in parts_of(one)]
    state = LoadedState()
    for fleet in (True, False):
        documents = state.of(fleet=fleet)
        concerned = [(decider, command) for decider, command in commands if decider.is_of_fleet is fleet]
        documents.load(log, (subject for decider, command in concerned for subject in decider.subjects(command)))
        for prefix in {prefix for decider, command in concerned for prefix in decider.families(command)}:
            documents.load(log, log.subjects(FLEET, prefix=prefix))
        # What is loaded tells what else is to be: the parents of parents, the deployments of a group.
        while documents.load(
            log, (name for decider, command in concerned for name in decider.also(command, documents))
        ):
            pass
    return state


def deployments_left(log: Log, commands: Iterable[Sent], deployments_max: int) -> float:
    """How many more deployments some commands may create; without a maximum (0) any number."""
    creates = (isinstance(part, CreateDeployment | DeployUpdate) for command in commands for part in parts_of(command))
    if not deployments_max or not any(creates):
        return math.inf
    return max(0, deployments_max - sum(1 for _ in deployments(log)))


def propose(sent: Sent, state: LoadedState, scope: Scope | None = None, *, by: str = "") -> tuple[Proposed, ...]:
    """Decide a checked command by its author (`kind:id`) on a state; what is outside a `scope` is as if it were not there.

    The events stand in the log together, or none of them does. There are none where nothing would change.

    Raises:
        REFUSALS: the command breaks a rule.
    """
    if isinstance(sent, Together):
        return propose_together(sent.commands, state, scope, by=by)
    decider = BY_COMMAND[type(sent)]
    if scope is not None and not decider.is_scoped:
        raise OutOfScope(decider.subjects(sent)[0], "is in no scope")
    documents = state.of(fleet=decider.is_of_fleet)
    changes = tuple(decider.decide(sent, documents, CommandAuthor(by, scope)))
    if len(changes) == 1:
        return (_proposed(changes[0], documents, by=by),)
    documents, proposed = documents.over(), list[Proposed]()
    for change in changes:
        proposed.append(_proposed(change, documents, by=by, follows=bool(proposed)))
        documents.put(proposed[-1])
    return tuple(proposed)


def propose_together(
    commands: Sequence[Command], state: LoadedState, scope: Scope | None = None, *, by: str = ""
) -> tuple[Proposed, ...]:
    """As `propose`, each command on what the ones before it make; all events stand together, or none does.

    Raises:
        REFUSALS: one of the commands breaks a rule.
    """
    state, proposed = state.over(), list[Proposed]()
    for command in commands:
        for event in propose(command, state, scope, by=by):
            proposed.append(msgspec.structs.replace(event, follows=bool(proposed)))
            state.put(event)
    return tuple(proposed)


def _proposed(change: SubjectChange, documents: LoadedDocuments, *, by: str, follows: bool = False) -> Proposed:
    """A change as the log takes it, with the document that it leaves in canonical bytes."""
    subject, event = change.subject, change.event
    version = documents.head(subject).version
    before = documents.get(subject) if change.base is None else change.base
    after = BY_EVENT[type(event)].evolve(before, event, version + 1, AT_APPEND, by)
    snapshot = None if after is None else canonical.encode(after)
    snapshots = ((subject, snapshot), *((name, None) for name in change.removes))
    return Proposed(subject, version, event, snapshots, change.generation, change.guard, follows)


def check(command: Command) -> None:
    """Refuse a command that no state could allow, before anything is looked up.

    Raises:
        REFUSALS: names the element and the rule.
    """
    decider = BY_COMMAND[type(command)]
    if not decider.is_of_fleet:
        # Commands of devices hold no values of our types, and their own rules name every text.
        _read(command, {name: getattr(command, name) for name in command.__struct_fields__})
        decider.check(command)
        return
    read = _read(command, {name: _unapplied(getattr(command, name)) for name in command.__struct_fields__})
    if not _is_made_of(command, read):
        raise CommandInvalid(type(command).__name__, "an object stands where a value of its own type is wanted")
    if decider.names_texts:
        decider.check(command)
        _check_texts(command)
    else:
        _check_texts(command)
        decider.check(command)


def _read(command: Command, members: dict[str, Any]) -> Command:
    try:
        return msgspec.convert(members, type(command))
    # Half a surrogate pair is refused by msgspec's own reading of a text, before its rules are.
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise CommandInvalid(type(command).__name__, str(error)) from error


def _check_texts(command: Command) -> None:
    """Refuse texts and numbers that cannot be written, wherever they stand."""
    try:
        canonical.encode(command)
    except UnicodeEncodeError as error:
        raise CommandInvalid(type(command).__name__, "a text holds half a surrogate pair") from error
    except (OverflowError, ValueError) as error:
        raise CommandInvalid(type(command).__name__, "a number has more than 64 bits") from error


def _unapplied(value: Any) -> Any:
    """A plan or a schedule as its members, which are looked at as well; what is a value of such a type is taken as it is."""
    if isinstance(value, msgspec.Struct) and value.__struct_config__.tag is None:
        return {name: _unapplied(getattr(value, name)) for name in value.__struct_fields__}
    return tuple(map(_unapplied, value)) if isinstance(value, tuple) else value


def _is_made_of(given: Any, read: Any) -> bool:
    """Whether values of our types stand where they were read as such, and not objects that read alike."""
    if isinstance(read, msgspec.Struct):
        return type(given) is type(read) and all(
            _is_made_of(getattr(given, name), getattr(read, name)) for name in read.__struct_fields__
        )
    if isinstance(read, tuple):
        return isinstance(given, tuple) and all(map(_is_made_of, given, read))
    return True
