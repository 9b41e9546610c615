"""A history of events as an explanation reads it: applied by the partition, kept, and weighed."""

import msgspec

from events.deployment import state as deployment_state
from events.deployment.state import DeploymentDocument
from events.device.state import DeviceDocument
from events.envelope import Vector
from events.explain.assessment import weigh
from events.explain.explanation import Explanation
from events.explain.explanation_text import of_device, verdict
from events.explain.rollout_turn import turn
from events.explain.verdict import ExplainedDevice, LoggedDeployment, Standpoint, Weighed
from events.fleet.assignments import NO_ASSIGNMENT, Assignment
from events.fleet.deployments import deployment_of
from events.projection_store.memory import MemoryProjectionStore
from events.query.evaluate import QueryRow, twin_row
from events.rollout import state as rollout_state
from events.rollout.events import RolloutEvent
from events.rollout.state import RolloutDocument
from events.stored_projection.stored_partition import StoredPartition
from tests.fleet.histories import History, Model
from tests.fleet.test_laws import run


def known_of(history: History) -> dict[str, LoggedDeployment]:
    found: dict[str, DeploymentDocument | None] = {}
    rollouts: dict[str, RolloutDocument | None] = {}
    for one in history.fleet:
        name = deployment_of(one.subject)
        if isinstance(one.event, RolloutEvent):
            rollouts[name] = rollout_state.evolve(rollouts.get(name), one.event, version=one.version, at=one.at)
        else:
            found[name] = deployment_state.evolve(found.get(name), one.event, version=one.version, at=one.at)
    return {
        name: LoggedDeployment(document, rollouts.get(name)) for name, document in found.items() if document is not None
    }


def row_at(stored_partition: StoredPartition, ordinal: int) -> Assignment:
    number = int.from_bytes(stored_partition.arrays["assignment_of"][4 * ordinal : 4 * ordinal + 4], "little")
    return (
        msgspec.json.decode(stored_partition.hashes["assignments"][str(number)], type=Assignment)
        if number
        else NO_ASSIGNMENT
    )


def _modules_of(
    device_id: str, model: Model, assignment: Assignment, stored_partition: StoredPartition
) -> dict[str, QueryRow]:
    made = {module for device, module in model.by_hand if device == device_id}
    if model.twins[device_id].edge:
        sections = msgspec.json.decode(stored_partition.hashes["configurations"].get(assignment.configuration, b"{}"))
        made |= sections.keys() | set(sections.get("$edgeAgent", {}).get("modules") or {})
    twins = {module: model.module_twins.get((device_id, module)) for module in made}
    return {
        module: twin_row(device_id, {}, {}) if twin is None else twin_row(device_id, twin.tags, twin.reported)
        for module, twin in twins.items()
    }


def weighed(
    history: History, stored_partition: StoredPartition, device_id: str, *, enabled: bool = True
) -> tuple[ExplainedDevice, Standpoint, tuple[Weighed, ...]]:
    """A device as it stands at the end of a history, against what is kept, which may be behind."""
    model = Model(history)
    twin = model.twins[device_id]
    found = stored_partition.hashes["ordinals"].get(device_id)
    ordinal = None if found is None else int(found)
    assignment = NO_ASSIGNMENT if ordinal is None else row_at(stored_partition, ordinal)
    subject = ExplainedDevice(
        twin_row(device_id, twin.tags, twin.reported),
        twin.edge,
        enabled,
        _modules_of(device_id, model, assignment, stored_partition),
    )
    at = Standpoint(0, stored_partition.checkpoint.vector, head_of(history), ordinal, assignment)
    return subject, at, weigh(subject, at, stored_partition, known_of(history))


def head_of(history: History) -> Vector:
    return Vector(len(history.partition), len(history.fleet))


class DeviceTexts(msgspec.Struct):
    """What is said of a device: the answer, and the reason or the place of each deployment."""

    answer: str
    verdicts: dict[str, str]
    weighed: tuple[Weighed, ...]


def texts_of(
    history: History,
    device_id: str = "d0",
    *,
    now: int = 0,
    by_way_of: Vector | None = None,
    applied: Vector | None = None,
    enabled: bool = True,
) -> DeviceTexts:
    """Apply a history, as far as to a vector, and tell all of one device."""
    store = MemoryProjectionStore()
    vectors = [*([by_way_of] if by_way_of else []), applied or head_of(history)]
    run(history, vectors, store=store)
    subject, at, some = weighed(history, store.load(0), device_id, enabled=enabled)
    known = known_of(history)
    turns = {
        name: turn(one.rollout, subject.twin, enabled=enabled, order=None, waits="")
        for name, one in known.items()
        if one.rollout is not None
    }
    explanation = Explanation(device_id, DeviceDocument(1, 1), subject, at, known, some, turns=turns, now=now)
    verdicts = {one.id + f"/{one.module}" * bool(one.module): verdict(one, explanation) for one in some}
    return DeviceTexts("; ".join(of_device(explanation, since=0)), verdicts, some)
