"""Decides commands: checks them, loads the state that they depend on, and proposes events. The same steps for all concepts."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from events import canonical
from events.access.errors import AccessError, OutOfScope
from events.decider import CommandAuthor, SubjectChange
from events.deployment.commands import CreateDeployment
from events.deployment.errors import DeploymentError
from events.device.errors import DeviceError
from events.log.concepts import BY_COMMAND, BY_EVENT
from events.log.errors import EventTooLarge
from events.log.keys import FLEET
from events.log.port import AT_APPEND, Log, Proposed, Stored
from events.manifest.errors import ManifestInvalid
from events.producer.documents import LoadedDocuments, LoadedState, stored_after
from events.producer.errors import Command, CommandInvalid, NoVault, Sent, Together
from events.query.errors import ConditionInvalid
from events.readiness.errors import ReadinessError
from events.rollout.errors import RolloutError
from events.secrets.errors import SecretErased, SecretNotFound, SecretTextInvalid
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
    SecretNotFound,
    SecretErased,
    CommandInvalid,
    NoVault,
    EventTooLarge,
)
"""The errors that reject a command: it breaks a rule, and a retry does not help."""


def parts_of(sent: Sent) -> Sequence[Command]:
    """The single commands of what was sent: of a `Together`, each of its commands."""
    return sent.commands if isinstance(sent, Together) else (sent,)


def with_parts(sent: Sent, change: Callable[[Command], Command]) -> Sent:
    """What was sent, with each single command replaced by `change` of it."""
    return Together(tuple(map(change, sent.commands))) if isinstance(sent, Together) else change(sent)


def subjects_of(sent: Sent) -> Sequence[str]:
    """The subjects that a command names and is decided on."""
    return [subject for command in parts_of(sent) for subject in BY_COMMAND[type(command)].subjects(command)]


def load(log: Log, sent: Iterable[Sent]) -> LoadedState:
    """Load every subject that these commands are decided on.

    Raises:
        LogUnavailable: Redis did not answer.
    """
    commands = [(BY_COMMAND[type(command)], command) for item in sent for command in parts_of(item)]
    state = {fleet: LoadedDocuments(fleet=fleet) for fleet in (True, False)}
    for fleet, documents in state.items():
        concerned = [(decider, command) for decider, command in commands if decider.is_of_fleet is fleet]
        documents.load(log, (subject for decider, command in concerned for subject in decider.subjects(command)))
        for prefix in {prefix for decider, command in concerned for prefix in decider.families(command)}:
            documents.load(log, log.subjects(FLEET, prefix=prefix))
        # A loaded document can name further subjects: the parent of a parent, the deployments of a group.
        more = True
        while more:
            more = documents.load(
                log, (name for decider, command in concerned for name in decider.also(command, documents))
            )
    return state


def deployments_left(log: Log, commands: Iterable[Sent], deployments_max: int) -> float:
    """The number of deployments that these commands may still create; infinite for a maximum of 0."""
    creates = (isinstance(part, CreateDeployment | DeployUpdate) for command in commands for part in parts_of(command))
    if not deployments_max or not any(creates):
        return math.inf
    return max(0, deployments_max - len(log.ranked_deployments()))


def propose(sent: Sent, state: LoadedState, author: CommandAuthor) -> tuple[Proposed, ...]:
    """The events of a checked command by its author, decided on a state; none if it changes nothing.

    They are appended together or not at all. Each command of a `Together` is decided on the result of the commands before it.
    With a scope of the author, everything outside of it counts as missing.

    Raises:
        REFUSALS: the command, or a command of a `Together`, breaks a rule.
    """
    proposed: list[Proposed] = []
    if isinstance(sent, Together):
        state = {fleet: loaded.over() for fleet, loaded in state.items()}
        for command in sent.commands:
            for event in propose(command, state, author):
                proposed.append(msgspec.structs.replace(event, follows=bool(proposed)))
                state[BY_EVENT[type(event.event)].is_of_fleet].put(event)
        return tuple(proposed)
    decider = BY_COMMAND[type(sent)]
    if author.scope is not None and not decider.is_scoped:
        raise OutOfScope(decider.subjects(sent)[0], "is in no scope")
    documents = state[decider.is_of_fleet]
    changes = tuple(decider.decide(sent, documents, author))
    if len(changes) == 1:
        return (_proposed(changes[0], documents, by=author.by),)
    documents = documents.over()
    for change in changes:
        proposed.append(_proposed(change, documents, by=author.by, follows=bool(proposed)))
        documents.put(proposed[-1])
    return tuple(proposed)


def _proposed(change: SubjectChange, documents: LoadedDocuments, *, by: str, follows: bool = False) -> Proposed:
    """A change as a proposal to the log, with the document after it in canonical bytes."""
    subject, event = change.subject, change.event
    version = documents.head(subject).version
    before = documents.get(subject) if change.base is None else change.base
    # By the same `evolve` as in replay, so that a snapshot is byte for byte what replay gives (tests/producer/test_replay.py).
    after = BY_EVENT[type(event)].evolve(before, event, version + 1, AT_APPEND, by)
    snapshot = None if after is None else canonical.encode(after)
    snapshots = ((subject, snapshot), *((name, None) for name in change.removes))
    return Proposed(subject, version, event, snapshots, change.generation, change.guard, follows)


def state_after(sent: Sent, state: LoadedState, events: Iterable[Proposed]) -> Stored:
    """What the log has of a command's first subject after its events, with AT_APPEND in the place of their time."""
    subject = subjects_of(sent)[0]
    stored = state[BY_COMMAND[type(parts_of(sent)[0])].is_of_fleet].stored(subject)
    for event in events:
        stored = stored_after(event, subject, stored)
    return stored


def check(command: Command) -> None:
    """Reject a command that breaks a rule in every state, before any document is loaded.

    Raises:
        REFUSALS: names the element and the rule.
    """
    decider = BY_COMMAND[type(command)]
    # Commands of devices have no members of our own types, and their own rules check every text.
    of_fleet = decider.is_of_fleet
    members = msgspec.structs.asdict(command)
    try:
        read = msgspec.convert(
            {name: _taken_apart(value) for name, value in members.items()} if of_fleet else members, type(command)
        )
    # msgspec raises UnicodeEncodeError, not ValidationError, for a text with half a surrogate pair.
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        raise CommandInvalid(type(command).__name__, str(error)) from error
    if of_fleet and not _is_made_of(command, read):
        raise CommandInvalid(type(command).__name__, "an object is given where a value of its own type is required")
    if of_fleet and not decider.names_texts:
        _check_texts(command)
    decider.check(command)
    if of_fleet and decider.names_texts:
        _check_texts(command)


def _check_texts(command: Command) -> None:
    """Reject texts and numbers that JSON cannot hold, in any member."""
    try:
        canonical.encode(command)
    except UnicodeEncodeError as error:
        raise CommandInvalid(type(command).__name__, "a text has half a surrogate pair") from error
    except (OverflowError, ValueError) as error:
        raise CommandInvalid(type(command).__name__, "a number has more than 64 bits") from error


def _taken_apart(value: Any) -> Any:
    """A struct without a tag as an object of its members, recursively; any other value as it is."""
    # `convert` does not check the members of a value that already has its type. A plan built in Python has to be taken apart
    # for its members to be checked.
    if isinstance(value, msgspec.Struct) and value.__struct_config__.tag is None:
        return {name: _taken_apart(getattr(value, name)) for name in value.__struct_fields__}
    return tuple(map(_taken_apart, value)) if isinstance(value, tuple) else value


def _is_made_of(value: Any, read: Any) -> bool:
    """Whether each struct that was read from a value was a struct of the same type before."""
    # `convert` makes a struct of a dict too. The command keeps the dict, and the decider would fail on it.
    if isinstance(read, msgspec.Struct):
        return type(value) is type(read) and all(
            _is_made_of(getattr(value, name), getattr(read, name)) for name in read.__struct_fields__
        )
    if isinstance(read, tuple):
        return isinstance(value, tuple) and all(map(_is_made_of, value, read))
    return True
