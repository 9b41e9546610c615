from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET
from pyroaring import BitMap

from events.bitmaps import from_bytes, to_bytes
from events.deployment.events import DeploymentCreated
from events.envelope import Vector
from events.fleet.assignments import AssignmentChange, AssignmentStatus
from events.fleet.configuration import Configuration, module_ids
from events.fleet.partition import Partition
from events.fleet.resolve import resolve
from events.log.events import BlockResolved
from events.manifest.document import DEVICE, MODULE
from events.projection.new_paths import NewPaths, TwinText
from events.projection_store.memory import MemoryProjectionStore
from events.properties import DESIRED_BYTES_MAX, size_of
from events.query.condition import parse_condition
from events.query.evaluate import holds
from events.query.select import compile_select
from events.query.tree import Not
from events.readiness.effective import RuleFindings
from events.stored_projection.partition_codec import checkpoint_of, restore, writes_of
from events.stored_projection.stored_partition import ARRAYS, HASHES, StoredPartition
from tests import shortening
from tests.fleet.histories import History, Model, conditions, histories, row_of
from tests.shortening import examples, shortened

LAWS = settings(derandomize=True, deadline=None, max_examples=examples(150))


def documents_at(history: History, position: int) -> dict[str, TwinText]:
    """The documents that stand when the partition's log has come to a position."""
    prefix = History()
    prefix.partition = history.partition[:position]
    model, versions = Model(prefix), {}
    for envelope in prefix.partition:
        if "/" not in envelope.subject:
            versions[envelope.subject] = envelope.version
    return {name: TwinText(versions[name], model.twins[name].tags, model.twins[name].reported) for name in model.twins}


def module_documents_at(history: History, position: int) -> dict[tuple[str, str], TwinText]:
    """Those of modules, by device and module."""
    prefix = History()
    prefix.partition = history.partition[:position]
    twins = Model(prefix).module_twins
    return {subject: TwinText(0, twin.tags, twin.reported) for subject, twin in twins.items()}


def replay_to(partition: Partition, history: History, vector: Vector) -> None:
    """Apply on to a vector, filling newly named paths as the worker does."""
    partition.apply(history.partition[partition.vector.partition : vector.partition])
    fleet = history.fleet[partition.vector.fleet : vector.fleet]
    paths = partition.paths_to_fill(fleet)
    if paths:
        partition.open_paths(paths)
        new = NewPaths(partition, paths)
        for name, document in documents_at(history, vector.partition).items():
            assert partition.twin_versions[partition.directory.ordinal_of[name]] == document.version
            new.fill(name, "", document)
        for (name, module), document in module_documents_at(history, vector.partition).items():
            new.fill(name, module, document)
    partition.apply_fleet(fleet)
    assert not partition.paths_to_fill([])


def run(
    history: History, vectors: list[Vector], *, store: MemoryProjectionStore, reload: bool = False
) -> list[AssignmentChange]:
    """Apply through the vectors, committing at each; `reload` restores the partition from the store before each step."""
    partition, assignment_changes = Partition(0), []
    for vector in vectors:
        if reload:
            partition = restore(0, store.load(0), history.fleet[: partition.vector.fleet])
        expected = store.checkpoint(0)
        replay_to(partition, history, vector)
        assignment_change = partition.resolve()
        assert store.commit(0, writes_of(partition, assignment_change, expected=expected))
        assert store.checkpoint(0) == checkpoint_of(partition)
        if assignment_change is not None:
            assignment_changes.append(assignment_change)
    return assignment_changes


@st.composite
def steps(draw: st.DrawFn, history: History) -> list[Vector]:
    """A rising walk of vectors to the head."""
    head = Vector(len(history.partition), len(history.fleet))
    cuts_partition = sorted(draw(st.lists(st.integers(0, head.partition), max_size=5)))
    cuts_fleet = sorted(draw(st.lists(st.integers(0, head.fleet), min_size=len(cuts_partition), max_size=5)))
    return [*(Vector(p, f) for p, f in zip(cuts_partition, cuts_fleet, strict=False)), head]


def kept_at_head(history: History, vectors: list[Vector], **how: Any) -> tuple[StoredPartition, list[AssignmentChange]]:
    store = MemoryProjectionStore()
    assignment_changes = run(history, vectors, store=store, **how)
    return store.load(0), assignment_changes


def test_select_on_the_index_finds_whom_evaluate_finds_and_a_third_of_the_conditions_finds_some_but_not_all() -> None:
    partly: list[bool] = []

    @LAWS
    @given(history=histories(), texts=st.lists(conditions, min_size=6, max_size=6))
    def hold(history: History, texts: list[str]) -> None:
        partition = Partition(0)
        partition.apply(history.partition)
        paths = frozenset([("properties", "reported", "env"), ("properties", "reported", "site", "floor")])
        partition.open_paths(paths)
        for name, document in documents_at(history, len(history.partition)).items():
            NewPaths(partition, paths).fill(name, "", document)
        model = Model(history)
        for text in texts:
            condition = parse_condition(text)
            verdicts = {name: holds(condition, row_of(model.twins[name])) for name in partition.directory.ordinal_of}
            partly.append({verdict is True for verdict in verdicts.values()} == {True, False})
            true, false = compile_select(condition), compile_select(Not(condition))
            within = BitMap(partition.directory.live - BitMap([0]))
            for name, ordinal in partition.directory.ordinal_of.items():
                verdict = verdicts[name]
                assert (ordinal in true(partition.index, None)) == (verdict is True)
                assert (ordinal in false(partition.index, None)) == (verdict is False)
                assert (ordinal in true(partition.index, within)) == (verdict is True and ordinal != 0)

    hold()
    assert sum(partly) / len(partly) >= 0.3


def test_every_managed_device_has_the_stack_and_the_merge_that_the_plain_reading_gives() -> None:
    heights: list[int] = []

    @LAWS
    @given(data=st.data(), history=histories())
    def hold(data: st.DataObject, history: History) -> None:
        heights.extend(assert_stacks(history, data.draw(steps(history))))

    hold()
    managed = [height for height in heights if height]
    if shortening.is_short:
        return  # Too few are drawn to hold a share.
    assert len(managed) >= len(heights) / 3
    # Layers, and what they do to each other, are not the exception here.
    assert len([height for height in managed if height > 1]) >= len(managed) / 6


def assert_stacks(history: History, vectors: list[Vector]) -> list[int]:
    """Hold every device to the plain reading; answers how many deployments each has."""
    store = MemoryProjectionStore()
    run(history, vectors, store=store)
    partition = restore(0, store.load(0), history.fleet)
    model = Model(history)
    assert set(partition.directory.ordinal_of) == set(model.twins)
    for name, (_, deployment) in model.deployments.items():
        if "moduleContent" in deployment.content:
            continue
        assert {partition.directory.ids[ordinal] for ordinal in partition.targets.members[name]} == model.targets(name)
    for name, ordinal in partition.directory.ordinal_of.items():
        assignment, stack = partition.assignments.by_number[partition.assignment_of[ordinal]], model.stack(name)
        assert (assignment.status is AssignmentStatus.MANAGED) == bool(stack)
        if stack:
            assert tuple(layer.id for layer in assignment.stack) == stack
            assert assignment.configuration == Configuration.of(model.sections(stack)).digest
    return [len(model.stack(name)) for name in model.twins]


@pytest.mark.full
def test_every_device_edge_capable_or_not_has_all_configurations_of_its_own_twin_that_target_it() -> None:
    heights: list[int] = []
    over_limit: list[bool] = []

    @LAWS
    @given(data=st.data(), history=histories(own_of_ten=5))
    def hold(data: st.DataObject, history: History) -> None:
        store = MemoryProjectionStore()
        run(history, data.draw(steps(history)), store=store)
        partition = restore(0, store.load(0), history.fleet)
        model = Model(history)
        for name, ordinal in partition.directory.ordinal_of.items():
            own, stack = (
                partition.assignments.by_number[partition.assignment_of[ordinal]].own_part,
                model.own_stack(name),
            )
            section = model.own_section(stack)
            heights.append(len(stack))
            over_limit.append(size_of(section) > DESIRED_BYTES_MAX)
            if over_limit[-1]:
                assert tuple(layer.id for layer in own.wanted) == stack
                assert "more than 32768" in own.reason
                continue
            assert (tuple(layer.id for layer in own.stack), own.wanted, own.reason) == (stack, (), "")
            assert (
                own.configuration
                == Configuration.of({DEVICE: section} if section or is_set(model, stack) else {}).digest
            )

    hold()
    assert len([height for height in heights if height > 1]) >= len(heights) / 20


def is_set(model: Model, stack: tuple[str, ...], member: str = "deviceContent") -> bool:
    return any(model.deployments[name][1].content[member] for name in stack)


def test_every_module_whoever_made_it_has_all_configurations_that_target_it() -> None:
    heights: list[int] = []

    @LAWS
    @given(data=st.data(), history=histories(own_of_ten=0, modules_of_ten=6, by_hand=True))
    def hold(data: st.DataObject, history: History) -> None:
        store = MemoryProjectionStore()
        run(history, data.draw(steps(history)), store=store)
        partition = restore(0, store.load(0), history.fleet)
        model, ids = Model(history), partition.directory.ids
        assignments = {
            name: partition.assignments.by_number[partition.assignment_of[at]]
            for name, at in partition.directory.ordinal_of.items()
        }
        assert {module for sets in partition.targets.of_modules.values() for module in sets} <= set("abc")
        for module in "abc":
            having = {
                name
                for name, assignment in assignments.items()
                if (name, module) in model.by_hand
                or (model.twins[name].edge and module in named_by(partition, assignment.configuration))
            }
            for name, (_, deployment) in model.deployments.items():
                if "moduleContent" in deployment.content:
                    targets = partition.targets.of_modules.get(name, {}).get(module, BitMap())
                    assert {ids[at] for at in targets} == model.targets_of_module(name, module, having)
            for name, assignment in assignments.items():
                stack, part = model.module_stack(name, module, having), assignment.module_part(module)
                section = model.own_section(stack, "moduleContent")
                heights.extend([len(stack)] * (name in having))
                if size_of(section) > DESIRED_BYTES_MAX:
                    assert tuple(layer.id for layer in part.wanted) == stack
                    assert "more than 32768" in part.reason
                    continue
                assert (tuple(layer.id for layer in part.stack), part.wanted, part.reason) == (stack, (), "")
                given = {MODULE: section} if section or is_set(model, stack, "moduleContent") else {}
                assert part.configuration == Configuration.of(given).digest

    hold()
    assert len([height for height in heights if height]) >= len(heights) / 4
    assert len([height for height in heights if height > 1]) >= len(heights) / 20


def named_by(partition: Partition, digest: str) -> set[str]:
    sections = partition.assignments.configurations[digest].sections
    return module_ids({name: msgspec.json.decode(section) for name, section in sections.items()})


@pytest.mark.parametrize("kind", shortened(["moduleContent", "modulesContent", "deviceContent"]))
def test_neither_modules_nor_own_twins_are_disturbed_by_what_is_for_the_others(kind: str) -> None:
    changes: list[int] = []

    @LAWS
    @given(data=st.data(), history=histories(own_of_ten=3, modules_of_ten=3, by_hand=True))
    def hold(data: st.DataObject, history: History) -> None:
        alone = History()
        alone.partition = history.partition
        created: dict[str, bool] = {}
        for envelope in history.fleet:
            if isinstance(envelope.event, DeploymentCreated):
                created[envelope.subject] = kind in envelope.event.content
            of_kind = created[envelope.subject]
            alone.fleet.append(msgspec.structs.replace(envelope, event=ELSEWHERE) if of_kind else envelope)
        vectors = data.draw(steps(history))
        with_others, without = (parts(one, vectors, without=kind) for one in (history, alone))
        assert with_others == without
        changes.append(len({msgspec.json.encode(part) for part in with_others.values()}))

    hold()
    assert max(changes) > 1


ELSEWHERE = BlockResolved(0, 1, "an event that is no deployment's")


def parts(history: History, vectors: list[Vector], *, without: str) -> dict[str, Any]:
    """What each device has that a kind of configurations must leave alone; edge deployments decide who has which module."""
    store = MemoryProjectionStore()
    run(history, vectors, store=store)
    partition = restore(0, store.load(0), history.fleet)
    assignments = {
        name: partition.assignments.by_number[partition.assignment_of[at]]
        for name, at in partition.directory.ordinal_of.items()
    }
    if without == "modulesContent":
        return {name: assignment.own_part for name, assignment in assignments.items()}
    kept: Any = {"modules": UNSET} if without == "moduleContent" else {"own": UNSET}
    return {name: msgspec.structs.replace(assignment, **kept) for name, assignment in assignments.items()}


@LAWS
@given(data=st.data(), history=histories())
def test_projections_kept_step_by_step_equal_those_rebuilt_from_events_and_assignment_changes_alone(
    data: st.DataObject, history: History
) -> None:
    vectors = data.draw(steps(history))
    kept, assignment_changes = kept_at_head(history, vectors)
    rebuilt, found = kept_at_head(
        history, [*(assignment_change.after for assignment_change in assignment_changes), vectors[-1]]
    )
    assert found == assignment_changes
    assert rebuilt == kept


@LAWS
@given(data=st.data(), history=histories())
def test_a_worker_that_forgets_everything_between_commits_keeps_the_same_bytes(
    data: st.DataObject, history: History
) -> None:
    vectors = data.draw(steps(history))
    one, _ = kept_at_head(history, vectors, reload=True)
    other, _ = kept_at_head(history, vectors)
    assert one.checkpoint == other.checkpoint
    for name in HASHES:
        assert one.hashes[name] == other.hashes[name], name
    assert one.arrays == other.arrays


@pytest.mark.full
def test_what_the_rules_find_is_kept_of_each_configuration_of_edge_devices_and_of_no_other() -> None:
    found: list[bool] = []

    @LAWS
    @given(data=st.data(), history=histories(by_hand=True))
    def hold(data: st.DataObject, history: History) -> None:
        kept, _ = kept_at_head(history, data.draw(steps(history)))
        sections = {
            digest: msgspec.json.decode(some) for digest, some in kept.hashes["configurations"].items() if some != b"{}"
        }
        modules = {digest: some for digest, some in sections.items() if not {DEVICE, MODULE} & some.keys()}
        assert kept.hashes["readiness"] == {
            digest: RuleFindings.of(some).to_bytes() for digest, some in modules.items()
        }
        found.extend(bool(RuleFindings.of(some).modules) for some in modules.values())

    hold()
    assert sum(found) >= len(found) / 2


@LAWS
@given(history=histories())
def test_the_sets_of_one_stack_each_are_disjoint_and_cover_everybody(history: History) -> None:
    partition = Partition(0)
    replay_to(partition, history, Vector(len(history.partition), len(history.fleet)))
    partition.resolve()
    everybody = partition.directory.live
    deployments = partition.deployments
    groups = [
        (tuple(deployment.id for deployment in stack), BitMap(ordinals))
        for stack, ordinals in resolve(
            everybody,
            bases_descending=deployments.bases_descending,
            layers_ascending=deployments.layers_ascending,
            eligible=partition.targets.eligible,
        )
    ]
    assert len({stack for stack, _ in groups}) == len(groups)
    assert BitMap.union(BitMap(), *(members for _, members in groups)) == everybody
    assert sum(len(members) for _, members in groups) == len(everybody)


@LAWS
@given(history=histories())
def test_status_sets_are_disjoint_parts_of_actual(history: History) -> None:
    partition = Partition(0)
    replay_to(partition, history, Vector(len(history.partition), len(history.fleet)))
    partition.resolve()
    sets = partition.answers.sets
    assert not sets["healthy"] & sets["unhealthy"]
    assert not sets["succeeded"] & sets["failed"]
    assert sets["healthy"] <= sets["acknowledged"]
    for members in (*sets.values(), *partition.answers.undelivered.values()):
        assert members <= partition.directory.live


@LAWS
@given(members=st.sets(st.integers(0, 5000)), order=st.randoms(use_true_random=False))
def test_equal_sets_have_equal_bytes(members: set[int], order: Any) -> None:
    shuffled = list(members)
    order.shuffle(shuffled)
    one, other = BitMap(members), BitMap()
    for member in shuffled:
        other.add(member)
    for extra in range(100, 400):
        other.add(extra)
        if extra not in members:
            other.discard(extra)
    assert to_bytes(one) == to_bytes(other)
    assert from_bytes(to_bytes(one)) == one


def test_the_kept_form_names_every_hash_and_array() -> None:
    store = MemoryProjectionStore()
    kept = store.load(0)
    assert (tuple(kept.hashes), tuple(kept.arrays)) == (HASHES, ARRAYS)
    assert msgspec.json.decode(msgspec.json.encode(kept.checkpoint)) is not None
