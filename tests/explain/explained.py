"""A history of facts as an explanation reads it: folded by the partition, kept, and weighed."""

import msgspec

from events.deployment import state as deployment_state
from events.deployment.state import DeploymentDocument
from events.envelope import Vector
from events.explain.answer_text import of_device
from events.explain.assessment import weigh
from events.explain.rollout_turn import turn
from events.explain.verdict import Known, Standpoint, Subject, Twin, Weighed
from events.explain.verdict_text import ExplainContext, verdict
from events.fleet.deployments import deployment_of
from events.fleet.rows import NO_ROW, Row
from events.rollout import state as rollout_state
from events.rollout.facts import RolloutFact
from events.rollout.state import RolloutDocument
from events.view_store.memory import MemoryViewStore
from events.views.kept import Kept
from tests.fleet.histories import History, Model
from tests.fleet.test_laws import run


def known_of(history: History) -> dict[str, Known]:
    found: dict[str, DeploymentDocument | None] = {}
    rollouts: dict[str, RolloutDocument | None] = {}
    for one in history.fleet:
        name = deployment_of(one.subject)
        if isinstance(one.fact, RolloutFact):
            rollouts[name] = rollout_state.evolve(rollouts.get(name), one.fact, version=one.version, at=one.at)
        else:
            found[name] = deployment_state.evolve(found.get(name), one.fact, version=one.version, at=one.at)
    return {name: Known(document, rollouts.get(name)) for name, document in found.items() if document is not None}


def row_at(kept: Kept, ordinal: int) -> Row:
    number = int.from_bytes(kept.arrays["row_of"][4 * ordinal : 4 * ordinal + 4], "little")
    return msgspec.json.decode(kept.hashes["rows"][str(number)], type=Row) if number else NO_ROW


def _modules_of(device_id: str, model: Model, row: Row, kept: Kept) -> dict[str, Twin]:
    made = {module for device, module in model.by_hand if device == device_id}
    if model.twins[device_id].edge:
        sections = msgspec.json.decode(kept.hashes["configurations"].get(row.configuration, b"{}"))
        made |= sections.keys() | set(sections.get("$edgeAgent", {}).get("modules") or {})
    twins = {module: model.module_twins.get((device_id, module)) for module in made}
    return {
        module: Twin(device_id) if twin is None else Twin(device_id, twin.tags, twin.reported)
        for module, twin in twins.items()
    }


def weighed(
    history: History, kept: Kept, device_id: str, *, enabled: bool = True
) -> tuple[Subject, Standpoint, tuple[Weighed, ...]]:
    """A device as it stands at the end of a history, against what is kept, which may be behind."""
    model = Model(history)
    twin = model.twins[device_id]
    found = kept.hashes["ordinals"].get(device_id)
    ordinal = None if found is None else int(found)
    row = NO_ROW if ordinal is None else row_at(kept, ordinal)
    subject = Subject(
        Twin(device_id, twin.tags, twin.reported), twin.edge, enabled, _modules_of(device_id, model, row, kept)
    )
    at = Standpoint(0, kept.checkpoint.vector, head_of(history), ordinal, row)
    return subject, at, weigh(subject, at, kept, known_of(history))


def head_of(history: History) -> Vector:
    return Vector(len(history.partition), len(history.fleet))


class Told(msgspec.Struct):
    """What is said of a device: the answer, and the reason or the place of each deployment."""

    answer: str
    verdicts: dict[str, str]
    weighed: tuple[Weighed, ...]


def told(
    history: History,
    device_id: str = "d0",
    *,
    now: int = 0,
    by_way_of: Vector | None = None,
    folded: Vector | None = None,
    enabled: bool = True,
) -> Told:
    """Fold a history, as far as to a vector, and tell all of one device."""
    store = MemoryViewStore()
    vectors = [*([by_way_of] if by_way_of else []), folded or head_of(history)]
    run(history, vectors, store=store)
    subject, at, some = weighed(history, store.load(0), device_id, enabled=enabled)
    known = known_of(history)
    turns = {
        name: turn(one.rollout, subject.twin.row, enabled=enabled, order=None, waits="")
        for name, one in known.items()
        if one.rollout is not None
    }
    context = ExplainContext(device_id, subject, at, known, now, turns)
    verdicts = {one.id + f"/{one.module}" * bool(one.module): verdict(one, context) for one in some}
    return Told("; ".join(of_device(some, context, since=0)), verdicts, some)
