"""From commands on updates and groups to proposed facts: several subjects change in one step, or none does."""

from collections.abc import Iterable

from events.access.scope import Scope
from events.deployment import state as deployment_state
from events.deployment.commands import DeploymentCommand
from events.deployment.facts import DeploymentFact
from events.deployment.state import DeploymentDocument
from events.log.keys import FLEET
from events.log.port import AT_APPEND, Log, Proposed, Stored
from events.producer.errors import Command, OutOfScope
from events.rollout import state as rollout_state
from events.rollout.commands import AbortRollout, RetryFailed, RolloutCommand
from events.rollout.facts import RolloutFact
from events.rollout.state import RolloutDocument
from events.update import decide as update_decide
from events.update import state as update_state
from events.update.commands import DeleteUpdate, DeployUpdate, OfUpdate, UpdateCommand
from events.update.errors import GroupDeploymentForbidden
from events.update.facts import GroupFact, UpdateFact
from events.update.names import (
    GROUP,
    UPDATE,
    carried,
    carrier_of,
    group_subject,
    is_carrier,
    is_group,
    is_update,
)
from events.update.state import GroupDocument, State, UpdateDocument

Standings = dict[tuple[bool, str], Stored]
"""What stands, by (is of the fleet, subject)."""

_Document = DeploymentDocument | RolloutDocument | UpdateDocument | GroupDocument


def subjects_of(command: UpdateCommand) -> tuple[str, ...]:
    """The subjects that a command is decided on, as far as it names them itself."""
    if isinstance(command, OfUpdate):
        return (command.update.subject,)
    deployment = getattr(command, "deployment", None)
    names = [group_subject(command.group)]
    if deployment is not None:
        carrier = carrier_of(command.group, deployment)
        names += [carrier, rollout_state.subject_of(carrier)]
    if isinstance(command, DeployUpdate):
        names += [command.update.subject, *_to_go_back_to(command)]
    return tuple(names)


def load_more(log: Log, commands: Iterable[Command], found: Standings) -> None:
    """Load what follows from what was loaded: the deployments that a group has now, and who uses an update."""
    concerned = [command for command in commands if isinstance(command, UpdateCommand)]
    wanted: Iterable[str] = ()
    if any(isinstance(command, DeleteUpdate) for command in concerned):
        wanted = filter(is_group, log.subjects(FLEET))
    while concerned:
        names = [name for name in dict.fromkeys(wanted) if (True, name) not in found]
        found |= zip(((True, name) for name in names), log.load(names, fleet=True), strict=True)
        standing = _standing(found)
        wanted = [
            subject
            for command in concerned
            for name in update_decide.needs(command, standing)
            for subject in (name, rollout_state.subject_of(name))
            if (True, subject) not in found
        ]
        if not wanted:
            return


def propose(command: UpdateCommand, standings: Standings, scope: Scope | None, by: str) -> tuple[Proposed, ...]:
    """Decide a checked command; its facts stand in the log together.

    Raises:
        UpdateError: the command breaks a rule.
        OutOfScope: whoever is scoped reaches no group, as it may have devices outside.
    """
    if scope is not None:
        raise OutOfScope(subjects_of(command)[0], "is in no scope")
    latest: dict[str, tuple[int, _Document | None]] = {}
    proposed: list[Proposed] = []
    for subject, fact in update_decide.decide(command, _standing(standings), by=by):
        stored = standings.get((True, subject), Stored())
        version, document = latest.get(subject) or (stored.head.version, _decoded(subject, stored))
        after = _evolved(document, fact, version=version + 1)
        latest[subject] = (version + 1, after)
        snapshot = None if after is None else _encoded(after)
        proposed.append(Proposed(subject, version, fact, ((subject, snapshot),), follows=bool(proposed)))
    return tuple(proposed)


def check_apart(command: DeploymentCommand) -> None:
    """Refuse to change a deployment by hand that belongs to a group.

    Raises:
        GroupDeploymentForbidden: names the way there is.
    """
    if is_carrier(command.deployment_id):
        raise GroupDeploymentForbidden(
            command.deployment_id, "deployments that begin with update+ carry updates; their groups change them"
        )


def group_of(command: RolloutCommand) -> tuple[str, ...]:
    """The group, as a subject, whose deployment a command is about; none where it is about another one."""
    found = carried(command.deployment_id)
    return () if found is None else (group_subject(found[0]),)


def check_carrier(command: RolloutCommand, standings: Standings) -> None:
    """Refuse what would go past the group that a rollout belongs to: its end and its retries are the group's.

    Raises:
        GroupDeploymentForbidden: says so.
    """
    if (found := carried(command.deployment_id)) is None:
        return
    if isinstance(command, AbortRollout | RetryFailed):
        raise GroupDeploymentForbidden(command.deployment_id, f"cancel and retry it as one of the group {found[0]!r}")
    stored = standings[True, group_subject(found[0])]
    group = None if stored.snapshot is None else update_state.decode_group(stored.snapshot)
    deployment = None if group is None else group.deployment(found[1])
    if deployment is None or deployment.state is not State.ACTIVE:
        raise GroupDeploymentForbidden(command.deployment_id, "it is over, for good")


def _standing(standings: Standings) -> update_decide.Standing:
    updates: dict[str, UpdateDocument] = {}
    groups: dict[str, GroupDocument] = {}
    deployments: dict[str, DeploymentDocument] = {}
    rollouts: dict[str, RolloutDocument] = {}
    for (fleet, subject), stored in standings.items():
        match _decoded(subject, stored) if fleet else None:
            case UpdateDocument() as update:
                updates[subject.removeprefix(UPDATE)] = update
            case GroupDocument() as group:
                groups[subject.removeprefix(GROUP)] = group
            case RolloutDocument() as rollout:
                rollouts[subject.removeprefix(rollout_state.ROLLOUT)] = rollout
            case DeploymentDocument() as deployment:
                deployments[subject] = deployment
            case None:
                pass
    return update_decide.Standing(updates, groups, deployments, rollouts)


def _decoded(subject: str, stored: Stored) -> _Document | None:
    if stored.snapshot is None:
        return None
    if is_update(subject):
        return update_state.decode_update(stored.snapshot)
    if is_group(subject):
        return update_state.decode_group(stored.snapshot)
    if rollout_state.is_rollout(subject):
        return rollout_state.decode(stored.snapshot)
    return None if ":" in subject else deployment_state.decode(stored.snapshot)


def _evolved(
    document: _Document | None, fact: UpdateFact | GroupFact | DeploymentFact | RolloutFact, *, version: int
) -> _Document | None:
    if isinstance(fact, UpdateFact):
        return update_state.evolve_update(fact, version=version, at=AT_APPEND)
    if isinstance(fact, GroupFact):
        assert document is None or isinstance(document, GroupDocument)
        return update_state.evolve_group(document, fact, version=version, at=AT_APPEND)
    if isinstance(fact, RolloutFact):
        assert document is None or isinstance(document, RolloutDocument)
        return rollout_state.evolve(document, fact, version=version, at=AT_APPEND)
    assert document is None or isinstance(document, DeploymentDocument)
    return deployment_state.evolve(document, fact, version=version, at=AT_APPEND)


def _encoded(document: _Document) -> bytes:
    match document:
        case UpdateDocument() | GroupDocument():
            return update_state.encode(document)
        case RolloutDocument():
            return rollout_state.encode(document)
        case DeploymentDocument():
            return deployment_state.encode(document)


def _to_go_back_to(command: DeployUpdate) -> tuple[str, ...]:
    update = None if command.policy is None else command.policy.update
    return () if update is None else (update.subject,)
