"""From commands and what stands to proposed facts."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET
from typing_extensions import override

from events import canonical
from events.access import decide as access_decide
from events.access import state as access_state
from events.access.commands import AccessCommand
from events.access.errors import AccessError
from events.access.scope import Scope
from events.deployment import decide as deployment_decide
from events.deployment import state as deployment_state
from events.deployment.commands import (
    ChangeAdmission,
    CreateDeployment,
    DeleteDeployment,
    DeploymentCommand,
    ScheduleDeployment,
)
from events.deployment.errors import DeploymentError, DeploymentNotFound, ScheduleForbidden
from events.deployment.state import DeploymentDocument
from events.device import decide as device_decide
from events.device import state as device_state
from events.device.commands import (
    CreateModule,
    DeviceCommand,
    RegisterDevice,
    RetireDevice,
    SetConfiguration,
    UpdateDevice,
)
from events.device.errors import DeviceError, DeviceNotFound
from events.device.facts import DeviceRegistered, DeviceRetired, ModuleDeleted
from events.device.hierarchy import LAYERS_MAX, Documents, device_of_scope
from events.device.identifiers import module_subject
from events.device.state import DeviceDocument
from events.log.errors import FactTooLarge
from events.log.kinds import KINDS
from events.log.port import AT_APPEND, Fact, Head, Log, Proposed, Stored
from events.manifest.errors import ManifestInvalid
from events.manifest.hub_rules import edge_content_problems
from events.producer import updating
from events.producer.errors import Command, CommandInvalid, NoVault, OutOfScope, Sent, Together
from events.producer.updating import Standings
from events.readiness import decide as readiness_decide
from events.readiness import state as readiness_state
from events.readiness.commands import WaiverCommand
from events.readiness.errors import ReadinessError
from events.rollout import decide as rollout_decide
from events.rollout import state as rollout_state
from events.rollout.commands import CreateRollout, RolloutCommand
from events.rollout.errors import PlanInvalid, RolloutActive, RolloutError
from events.rollout.facts import RolloutDeleted
from events.rollout.state import RolloutDocument, State
from events.secrets.errors import MarkNotFound, SecretErased, SecretNotFound, SecretTextInvalid
from events.targeting.errors import ConditionInvalid
from events.update import decide as update_decide
from events.update.commands import DeployUpdate, UpdateCommand
from events.update.errors import UpdateError
from events.view_store.deployments import deployments
from events.webhook import decide as webhook_decide
from events.webhook import state as webhook_state
from events.webhook.commands import WebhookCommand
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
    OutOfScope,
    FactTooLarge,
)
"""What a command can be refused with: it breaks a rule, and no retry would help."""


FleetCommand = DeploymentCommand | RolloutCommand | UpdateCommand | AccessCommand | WaiverCommand | WebhookCommand

Document = TypeVar("Document")


def parts_of(sent: Sent) -> Sequence[Command]:
    """The commands that something sent consists of."""
    return sent.commands if isinstance(sent, Together) else (sent,)


def load(log: Log, sent: Iterable[Sent]) -> Standings:
    """What the log knows of every subject that some commands are decided on."""
    commands = [command for one in sent for command in parts_of(one)]
    found: Standings = {}
    for fleet in (True, False):
        concerned = (command for command in commands if isinstance(command, DeviceCommand) is not fleet)
        names = list(dict.fromkeys(subject for command in concerned for subject in subjects_of(command)))
        if names:
            found |= zip(((fleet, name) for name in names), log.load(names, fleet=fleet), strict=True)
    _load_above(log, commands, found)
    updating.load_more(log, commands, found)
    return found


def wants_keys(command: Command, standings: Standings) -> bool:
    """Whether a command makes an identity, as things stand, and leaves its authentication to the producer."""
    if not isinstance(command, RegisterDevice | CreateModule) or command.authentication is not None:
        return False
    document = _device(standings, command.device_id)
    is_registered = document is not None and not document.retired
    if isinstance(command, RegisterDevice):
        return not is_registered
    return document is not None and is_registered and command.module_id not in document.modules


def _load_above(log: Log, commands: Sequence[Command], found: Standings) -> None:
    """Add the parents that commands on devices name, and what is above these, as far up as a hierarchy goes."""
    names: set[str] = set()
    for command in commands:
        if isinstance(command, RegisterDevice | UpdateDevice):
            names.update(device_decide.parents_named(command, _device(found, command.device_id)))
    for _ in range(LAYERS_MAX + 1):
        names -= {name for fleet, name in found if not fleet}
        if not names:
            return
        loaded = sorted(names)
        found |= zip(((False, name) for name in loaded), log.load(loaded), strict=True)
        above = (_device(found, name) for name in loaded)
        names = {name for one in above if one is not None and (name := device_of_scope(one.parent_scope)) is not None}


def _device(standings: Standings, device_id: str) -> DeviceDocument | None:
    return _decoded(standings[False, device_id], device_state.decode_device)


class _Above(Mapping[str, DeviceDocument | None]):
    """The devices above one, read as they are asked for; of those that it names, as if they were not there outside a scope."""

    def __init__(self, standings: Standings, named: Collection[str], scope: Scope | None) -> None:
        self._standings, self._named, self._scope = standings, named, scope

    @override
    def __getitem__(self, device_id: str) -> DeviceDocument | None:
        document = _device(self._standings, device_id)
        if self._scope is not None and device_id in self._named and not self._scope.holds(device_id, document):
            return None
        return document

    @override
    def __iter__(self) -> Iterator[str]:
        return (name for fleet, name in self._standings if not fleet)

    @override
    def __len__(self) -> int:
        return sum(1 for _ in self)


def deployments_left(log: Log, commands: Iterable[Sent], deployments_max: int) -> float:
    """How many more deployments some commands may create; without a maximum (0) any number."""
    if not deployments_max or not any(isinstance(command, CreateDeployment | DeployUpdate) for command in commands):
        return math.inf
    return max(0, deployments_max - sum(1 for _ in deployments(log)))


def propose(command: Sent, standings: Standings, scope: Scope | None = None, *, by: str = "") -> tuple[Proposed, ...]:
    """Decide a checked command `by` somebody on what stands; of what is outside a `scope`, as if it were not there.

    The facts stand in the log together, or none of them does. There are none where nothing would change.

    Raises:
        REFUSALS: the command breaks a rule.
    """
    if isinstance(command, Together):
        return propose_together(command.commands, standings, scope, by=by)
    # Most are of devices, and a union is asked class by class.
    if isinstance(command, DeviceCommand):
        return _propose_of_device(command, standings, scope)
    if isinstance(command, DeploymentCommand):
        return _propose_deployment(command, standings, scope)
    if isinstance(command, UpdateCommand):
        return updating.propose(command, standings, scope, by)
    if isinstance(command, RolloutCommand):
        return (_propose_rollout(command, standings, scope, by),)
    if isinstance(command, WaiverCommand):
        return (_propose_waiver(command, standings, scope, by),)
    (subject,) = subjects_of(command)
    if scope is not None:
        raise OutOfScope(subject, "is in no scope")
    if isinstance(command, AccessCommand):
        return (_propose_access(command, standings[True, subject]),)
    return _propose_webhook(command, standings[True, subject])


def propose_together(
    commands: Sequence[Command], standings: Standings, scope: Scope | None = None, *, by: str = ""
) -> tuple[Proposed, ...]:
    """As `propose`, each command on what the ones before it make; all facts stand together, or none does.

    Raises:
        REFUSALS: one of the commands breaks a rule.
    """
    standings, proposed = dict(standings), list[Proposed]()
    for command in commands:
        is_of_fleet = not isinstance(command, DeviceCommand)
        for fact in propose(command, standings, scope, by=by):
            proposed.append(msgspec.structs.replace(fact, follows=bool(proposed)))
            for subject, snapshot in fact.snapshots:
                before = standings.get((is_of_fleet, subject), Stored())
                head = _head_after(fact, before.head) if subject == fact.subject else before.head
                standings[is_of_fleet, subject] = Stored(head, snapshot)
    return tuple(proposed)


def _head_after(proposed: Proposed, before: Head) -> Head:
    generation = before.generation if proposed.generation is None else proposed.generation
    return Head(proposed.expected_version + 1, generation)


def _propose_of_device(command: DeviceCommand, standings: Standings, scope: Scope | None) -> tuple[Proposed, ...]:
    subject = device_decide.subject_of(command)
    device = standings[False, command.device_id]
    document = _decoded(device, device_state.decode_device)
    # Whether an id is taken outside is not told where a new device of that id would not be in the scope either.
    if scope is not None and not isinstance(command, RegisterDevice) and not scope.holds(command.device_id, document):
        raise DeviceNotFound(command.device_id)
    if subject == command.device_id:
        above = _Above(standings, device_decide.parents_named(command, document), scope)
        return _propose_device(command, document, device.head, scope, above)
    return _propose_module(command, document, device.head, standings[False, subject])


def _propose_device(
    command: DeviceCommand, document: DeviceDocument | None, head: Head, scope: Scope | None, above: Documents
) -> tuple[Proposed, ...]:
    subject = command.device_id
    if scope is not None and isinstance(command, RegisterDevice):
        _check_in(scope, subject, DeviceDocument(1, 1))
    fact = device_decide.decide(command, document, None, above=above)
    if fact is None:
        return ()
    after = device_state.evolve_device(document, fact, version=head.version + 1, at=AT_APPEND)
    if scope is not None and not isinstance(command, RetireDevice):
        _check_in(scope, subject, after)
    snapshots: tuple[tuple[str, bytes | None], ...] = ((subject, device_state.encode(after)),)
    generation = None
    match fact:
        case DeviceRegistered():
            generation = after.generation
        case DeviceRetired():
            generation = 0
        case ModuleDeleted(module_id):
            snapshots = (*snapshots, (module_subject(subject, module_id), None))
        case _:
            pass
    return (Proposed(subject, head.version, fact, snapshots, generation),)


def _check_in(scope: Scope, device_id: str, after: DeviceDocument) -> None:
    if not scope.holds(device_id, after):
        raise OutOfScope(device_id, "would be outside the scope of these credentials; they do not allow that")


def _propose_module(
    command: DeviceCommand, device: DeviceDocument | None, device_head: Head, stored: Stored
) -> tuple[Proposed, ...]:
    subject, version = device_decide.subject_of(command), stored.head.version
    generation = device_head.generation
    document = _decoded(stored, device_state.decode_module)
    current = document if document is not None and document.generation == generation else None
    fact = device_decide.decide(command, device, current)
    if fact is None:
        return ()
    assert device is not None, "modules have facts of registered devices alone"
    after = device_state.evolve_module(document, fact, device=device, version=version + 1, at=AT_APPEND)
    snapshots = ((subject, device_state.encode(after)),)
    return (Proposed(subject, version, fact, snapshots, guard=(command.device_id, generation)),)


def _propose_deployment(command: DeploymentCommand, standings: Standings, scope: Scope | None) -> tuple[Proposed, ...]:
    updating.check_apart(command)
    stored = standings[True, command.deployment_id]
    document = _decoded(stored, deployment_state.decode)
    fact = deployment_decide.decide(command, document, scope=None if scope is None else scope.text)
    rollout = standings.get((True, rollout_state.subject_of(command.deployment_id)), Stored())
    rolled_out = _decoded(rollout, rollout_state.decode)
    if isinstance(command, ChangeAdmission) and rolled_out is not None and not rolled_out.is_over:
        raise RolloutActive(command.deployment_id)
    if isinstance(command, ScheduleDeployment) and document is not None and rolled_out is not None:
        _check_moved(command, document, rolled_out)
    if fact is None:
        return ()
    after = deployment_state.evolve(document, fact, version=stored.head.version + 1, at=AT_APPEND)
    proposed = _proposed(command.deployment_id, stored, fact, after)
    if isinstance(command, DeleteDeployment) and rolled_out is not None:
        subject = rollout_state.subject_of(command.deployment_id)
        return (
            proposed,
            Proposed(subject, rollout.head.version, RolloutDeleted(), ((subject, None),), follows=True),
        )
    return (proposed,)


def _check_moved(command: ScheduleDeployment, document: DeploymentDocument, rollout: RolloutDocument) -> None:
    # The deployment itself has not started, whomever its rollout has reached.
    start_at = 0 if document.schedule is UNSET else document.schedule.start_at
    if rollout.state is not State.CREATED and command.schedule.start_at != start_at:
        raise ScheduleForbidden(command.deployment_id, "its rollout has started; only the end can be moved")


def _propose_rollout(command: RolloutCommand, standings: Standings, scope: Scope | None, by: str) -> Proposed:
    updating.check_carrier(command, standings)
    name, subject = command.deployment_id, rollout_state.subject_of(command.deployment_id)
    stored, found = standings[True, subject], _decoded(standings[True, name], deployment_state.decode)
    if found is None or (scope is not None and found.scope != scope.text):
        raise DeploymentNotFound(name)
    if isinstance(command, CreateRollout) and command.plan.rollback_to:
        other = _decoded(standings[True, command.plan.rollback_to], deployment_state.decode)
        if other is None or (scope is not None and other.scope != scope.text):
            raise PlanInvalid(name, "rollback_to", f"names no deployment: {command.plan.rollback_to!r}")
        if (other.kind, other.layered) != (found.kind, found.layered):
            raise PlanInvalid(name, "rollback_to", "names a deployment of another kind")
    document = _decoded(stored, rollout_state.decode)
    fact = rollout_decide.decide(command, document, found, by=by)
    after = rollout_state.evolve(document, fact, version=stored.head.version + 1, at=AT_APPEND)
    return _proposed(subject, stored, fact, after)


def _propose_access(command: AccessCommand, stored: Stored) -> Proposed:
    subject = access_decide.subject_of(command)
    fact = access_decide.decide(command, _decoded(stored, partial(access_state.decode, subject)))
    after = access_state.evolve(fact, version=stored.head.version + 1, at=AT_APPEND)
    return _proposed(subject, stored, fact, after)


def _propose_waiver(command: WaiverCommand, standings: Standings, scope: Scope | None, by: str) -> Proposed:
    subject = readiness_decide.subject_of(command)
    if scope is not None:
        raise OutOfScope(subject, "is in no scope")
    stored = standings[True, subject]
    fact = readiness_decide.decide(command, _decoded(stored, readiness_state.decode))
    after = readiness_state.evolve(fact, version=stored.head.version + 1, at=AT_APPEND, by=by)
    return _proposed(subject, stored, fact, after)


def _propose_webhook(command: WebhookCommand, stored: Stored) -> tuple[Proposed, ...]:
    subject, document = webhook_decide.subject_of(command), _decoded(stored, webhook_state.decode)
    fact = webhook_decide.decide(command, document)
    if fact is None:
        return ()
    after = webhook_state.evolve(document, fact, version=stored.head.version + 1, at=AT_APPEND)
    return (_proposed(subject, stored, fact, after),)


def _decoded(stored: Stored, decode: Callable[[bytes], Document]) -> Document | None:
    return None if stored.snapshot is None else decode(stored.snapshot)


def _proposed(subject: str, stored: Stored, fact: Fact, after: msgspec.Struct | None) -> Proposed:
    """A fact of a subject of the fleet, with the document that it leaves; those are canonical bytes."""
    snapshot = None if after is None else canonical.encode(after)
    return Proposed(subject, stored.head.version, fact, ((subject, snapshot),))


def check(command: Command) -> None:
    """Refuse a command that no state could allow, before anything is looked up.

    Raises:
        REFUSALS: names the element and the rule.
    """
    if isinstance(command, DeviceCommand):
        _read(command, {name: getattr(command, name) for name in command.__struct_fields__})
        device_decide.check(command)
        if isinstance(command, SetConfiguration) and (found := edge_content_problems(command.content)):
            raise ManifestInvalid(found)
        return
    # These alone hold values of our types.
    read = _read(command, {name: _unfolded(getattr(command, name)) for name in command.__struct_fields__})
    if not _is_made_of(command, read):
        raise CommandInvalid(type(command).__name__, "an object stands where a value of its own type is wanted")
    if isinstance(command, RolloutCommand | UpdateCommand | WaiverCommand | WebhookCommand):
        _check_texts(command)
    if isinstance(command, DeploymentCommand):
        deployment_decide.check(command)
    elif isinstance(command, RolloutCommand):
        deployment_decide.check_id(command.deployment_id)
        rollout_decide.check(command)
    elif isinstance(command, UpdateCommand):
        update_decide.check(command)
    elif isinstance(command, AccessCommand):
        access_decide.check(command)
    elif isinstance(command, WaiverCommand):
        readiness_decide.check(command)
    else:
        webhook_decide.check(command, kinds=KINDS)
    if isinstance(command, DeploymentCommand | AccessCommand):
        # Their own rules name the element where they can.
        _check_texts(command)


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


def _unfolded(value: Any) -> Any:
    """A plan or a schedule as its members, which are looked at as well; what is a value of such a type is taken as it is."""
    if isinstance(value, msgspec.Struct) and value.__struct_config__.tag is None:
        return {name: _unfolded(getattr(value, name)) for name in value.__struct_fields__}
    return tuple(map(_unfolded, value)) if isinstance(value, tuple) else value


def _is_made_of(given: Any, read: Any) -> bool:
    """Whether values of our types stand where they were read as such, and not objects that read alike."""
    if isinstance(read, msgspec.Struct):
        return type(given) is type(read) and all(
            _is_made_of(getattr(given, name), getattr(read, name)) for name in read.__struct_fields__
        )
    if isinstance(read, tuple):
        return isinstance(given, tuple) and all(map(_is_made_of, given, read))
    return True


def subjects_of(command: Sent) -> Sequence[str]:
    """The subjects whose state a command is decided on."""
    if isinstance(command, Together):
        return [subject for one in command.commands for subject in subjects_of(one)]
    if isinstance(command, DeviceCommand):
        return (command.device_id, device_decide.subject_of(command))
    if isinstance(command, ChangeAdmission | ScheduleDeployment | DeleteDeployment):
        return (command.deployment_id, rollout_state.subject_of(command.deployment_id))
    if isinstance(command, DeploymentCommand):
        return (command.deployment_id,)
    if isinstance(command, RolloutCommand):
        named = (command.plan.rollback_to,) if isinstance(command, CreateRollout) and command.plan.rollback_to else ()
        return (
            rollout_state.subject_of(command.deployment_id),
            command.deployment_id,
            *named,
            *updating.group_of(command),
        )
    if isinstance(command, UpdateCommand):
        return updating.subjects_of(command)
    if isinstance(command, AccessCommand):
        return (access_decide.subject_of(command),)
    if isinstance(command, WaiverCommand):
        return (readiness_decide.subject_of(command),)
    return (webhook_decide.subject_of(command),)
