"""One partition of the fleet: the fold of its own facts and the fleet's, and what every device runs in consequence."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, assert_never

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from pyroaring import BitMap

from events.canonical import JsonObject
from events.deployment.facts import (
    Admitted,
    Ended,
    Everyone,
    NotStarted,
)
from events.device.facts import (
    ConfigurationSet,
    DesiredDelivered,
    DeviceFact,
    DeviceRegistered,
    DeviceRetired,
    DeviceUpdated,
    ModuleCreated,
    ModuleDeleted,
    ModuleUpdated,
    PropertiesReported,
    TwinPatched,
    TwinReplaced,
)
from events.envelope import Envelope, Vector
from events.fleet.answers import Answers, Expected
from events.fleet.children import Children
from events.fleet.configuration import AGENT, HUB, Configuration, HeldBack, effective
from events.fleet.deployments import (
    CONTENT_KEY,
    Change,
    Deployment,
    Deployments,
    Phased,
    deployment_of,
    paths_in,
    targeting_facts,
)
from events.fleet.directory import Directory
from events.fleet.errors import CannotFold
from events.fleet.holders import Holders, Planned
from events.fleet.index import DEVICE_ID, Index
from events.fleet.metrics import Metrics, State
from events.fleet.module_targets import ModuleTargets, News
from events.fleet.outcome import Moved, Outcome
from events.fleet.packed import PAGE_ITEMS, Packed, grouped
from events.fleet.resolve import Ordinals, Stack, resolve, resolve_own, together
from events.fleet.rows import UNASSIGNED, Layer, Row, Rows, Standing, stack_key
from events.manifest.document import Kind
from events.rollout.facts import DevicesRetried, RollbackBegan
from events.targeting.tree import Path

_EXPECTED_MAX = 10_000
T = TypeVar("T")


class MergeCache:
    """Effective configurations by stack, shared by the partitions of a process; the oldest are forgotten."""

    def __init__(self, stacks_max: int = 20_000) -> None:
        self._by_stack: dict[tuple[Layer, ...], Configuration | HeldBack] = {}
        self._stacks_max = stacks_max

    def __call__(self, stack: Sequence[Deployment]) -> Configuration | HeldBack:
        """What a stack merges to."""
        key = stack_key(stack)
        found = self._by_stack.get(key)
        if found is None:
            if len(self._by_stack) >= self._stacks_max:
                del self._by_stack[next(iter(self._by_stack))]
            found = self._by_stack[key] = effective(stack)
        return found


class Partition:
    """The state of one partition at `vector`. Fold, then `resolve`; an exception leaves it unusable."""

    def __init__(self, number: int, merge: MergeCache | None = None) -> None:
        self.number = number
        self.vector = Vector()
        self.at = 0
        self.outcomes = 0
        self.decided = Vector()
        self.rebuilt: int | UnsetType = UNSET
        """How often what is kept of it was replaced; no fact says so, and nothing follows from it."""
        self.directory = Directory()
        self.index = Index(self.directory)
        self.deployments = Deployments(number)
        self.targets: dict[str, BitMap] = {}
        self.eligible: dict[str, BitMap] = {}
        self.rows = Rows()
        self.row_of = Packed()
        self.moved_by = Packed()
        self.twin_versions = Packed()
        self.answers = Answers()
        self.hand_written = Packed()
        """How often desired properties of a device or of its modules were written by hand, by ordinal."""
        self.hand_writes = 0
        """The same of all devices that there ever were."""
        self._expected: dict[int, Expected] = {}
        self.modules: dict[str, BitMap] = {}
        """Who has a module made by hand, by its name."""
        self.of_modules = ModuleTargets(self.index, self.deployments, self._admitted)
        self.changed_modules: set[str] = set()
        self.children = Children()
        self.kept_sets: dict[str, bytes] = {}
        self.changed_targets: set[tuple[int, str]] = set()
        self.changed_deployments: set[tuple[int, str]] = set()
        self.changed_ids: set[str] = set()
        self.changed_id_pages: set[int] = set()
        self._merge = merge or MergeCache()
        self._touched = BitMap()
        self._renewed = BitMap()
        self._gone = BitMap()
        self._changes: dict[str, Change] = {}
        self._by_hand: dict[int, list[JsonObject]] = {}
        self._retried: list[BitMap] = []
        self.already: dict[Layer, BitMap] = {}
        """By the deployment that is rolled out in phases, who ran the same already when they were admitted."""
        self.changed_already: set[Layer] = set()
        self.before: dict[Layer, dict[str, BitMap]] = {}
        """By the same, who had which configuration, and was well with it, when they were admitted."""
        self.changed_before: set[tuple[Layer, str]] = set()
        self._restoring: set[str] = set()
        self.metrics = Metrics(
            State(
                self.directory,
                self.index,
                self.deployments,
                self.modules,
                self.rows,
                self.row_of,
                self.answers,
                self._openly_targeted,
            )
        )

    # -- folding the partition's own facts

    def fold(self, facts: Iterable[Envelope[DeviceFact]]) -> None:
        """Fold facts of the partition's log, dense from the vector on.

        Raises:
            CannotFold: a fact does not follow; the state is unusable from here on.
        """
        ordinal_of = self.directory.ordinal_of
        position, at = self.vector.partition, self.at
        for envelope in facts:
            fact, subject = envelope.fact, envelope.subject
            assert envelope.position == position + 1
            ordinal = ordinal_of.get(subject)
            try:
                if ordinal is not None:
                    self._fold_device(ordinal, subject, fact, envelope)
                elif type(fact) is DeviceRegistered:
                    self._register(subject, fact, envelope.version)
                else:
                    self._fold_module(subject, fact, envelope)
            except CannotFold:
                raise
            except Exception as error:
                raise CannotFold(envelope.position, subject, f"{type(error).__name__}: {error}") from error
            position = envelope.position
            at = max(at, envelope.at)
        self.vector = Vector(position, self.vector.fleet)
        self.at = at

    def skip_to(self, position: int) -> None:
        """Go past events that an operator decided to skip, up to a position; nothing where the partition is there or beyond."""
        if position > self.vector.partition:
            self.vector = Vector(position, self.vector.fleet)

    def _fold_device(self, ordinal: int, device_id: str, fact: DeviceFact, envelope: Envelope[DeviceFact]) -> None:
        match fact:
            case TwinPatched():
                if fact.desired is not None:
                    self._write_by_hand(ordinal)
                if fact.tags is not None and self.index.patch_tags(ordinal, fact.tags):
                    self._touched.add(ordinal)
            case TwinReplaced():
                self._write_by_hand(ordinal)
                if self.index.replace_tags(ordinal, fact.tags):
                    self._touched.add(ordinal)
            case PropertiesReported():
                if self.index.patch_reported(ordinal, fact.patch):
                    self._touched.add(ordinal)
            case ConfigurationSet(content):
                self._by_hand.setdefault(ordinal, []).append(content.get(CONTENT_KEY, {}))
            case DesiredDelivered(versions):
                self.answers.fold_delivered(ordinal, versions)
            case DeviceUpdated():
                self.directory.update(ordinal, edge=fact.edge, enabled=fact.enabled)
                self.children.put(ordinal, fact.parent_scope or "")
                self._renewed.add(ordinal)
            case DeviceRetired():
                self._retire(device_id)
                return
            case DeviceRegistered():
                raise CannotFold(envelope.position, device_id, "registered although it is not retired")
            case ModuleCreated(module_id):
                self.modules.setdefault(module_id, BitMap()).add(ordinal)
                self.changed_modules.add(module_id)
                self._renewed.add(ordinal)
            case ModuleDeleted(module_id):
                self._remove_module(ordinal, module_id)
            case ModuleUpdated():
                pass
            case _:
                assert_never(fact)
        self.twin_versions[ordinal] = envelope.version

    def _remove_module(self, ordinal: int, module_id: str) -> None:
        self.modules[module_id].discard(ordinal)
        self.changed_modules.add(module_id)
        self.index.forget_module(ordinal, module_id)
        self._renewed.add(ordinal)
        if not self.modules[module_id]:
            del self.modules[module_id]

    def _fold_module(self, subject: str, fact: DeviceFact, envelope: Envelope[DeviceFact]) -> None:
        device_id, slash, _ = subject.partition("/")
        ordinal = self.directory.ordinal_of.get(device_id)
        if not slash or ordinal is None:
            raise CannotFold(envelope.position, subject, "the device is not registered")
        module_id, changed = subject[len(device_id) + 1 :], False
        match fact:
            case PropertiesReported(patch):
                if module_id == AGENT:
                    self.answers.fold_agent(ordinal, patch, self._expected_of(self.row_of[ordinal]))
                elif module_id == HUB:
                    self.answers.fold_hub(ordinal, patch)
                changed = self.index.patch_module(ordinal, module_id, "reported", patch)
            case TwinPatched(tags, desired):
                if desired is not None:
                    self._write_by_hand(ordinal)
                if tags is not None:
                    changed = self.index.patch_module(ordinal, module_id, "tags", tags)
            case TwinReplaced(tags=tags):
                self._write_by_hand(ordinal)
                changed = self.index.replace_module_tags(ordinal, module_id, tags)
            case _:
                pass
        if changed:
            self._touched.add(ordinal)

    def _write_by_hand(self, ordinal: int) -> None:
        self.hand_written[ordinal] += 1
        self.hand_writes += 1

    def _register(self, device_id: str, fact: DeviceRegistered, version: int) -> None:
        ordinal = self.directory.register(device_id, edge=fact.edge, enabled=fact.enabled)
        count = ordinal + 1
        for packed in (self.row_of, self.moved_by, self.twin_versions, self.hand_written, self.answers):
            packed.reserve(count)
        self.twin_versions[ordinal] = version
        self.children.put(ordinal, fact.parent_scope or "")
        self.changed_ids.add(device_id)
        self.changed_id_pages.add(ordinal // PAGE_ITEMS)
        self._renewed.add(ordinal)

    def _retire(self, device_id: str) -> None:
        ordinal = self.directory.retire(device_id)
        self.index.forget(ordinal)
        self.answers.forget(ordinal)
        self.children.put(ordinal, "")
        self.twin_versions[ordinal] = 0
        self._by_hand.pop(ordinal, None)
        for module_id in [name for name, members in self.modules.items() if ordinal in members]:
            self._remove_module(ordinal, module_id)
        self.changed_ids.add(device_id)
        self._renewed.discard(ordinal)
        self._gone.add(ordinal)

    # -- folding the fleet's facts

    def paths_to_fill(self, facts: Iterable[Envelope[Any]]) -> frozenset[Path]:
        """The paths that these fleet facts name and the index does not have; fill them before folding."""
        return self.index.missing(self.deployments.paths_named_after(targeting_facts(facts)))

    def open_paths(self, paths: frozenset[Path]) -> None:
        """Begin to index some paths; from here on folding keeps them, and `fill` brings what was before."""
        self.index.name(self.index.named | paths)

    def hold_paths_of(self, facts: Iterable[Envelope[Any]]) -> None:
        """Index whatever some fleet facts will name, from before the first fact on."""
        named = {path for _, _, fact in targeting_facts(facts) for path in paths_in(fact)}
        self.index.hold(frozenset(named - {DEVICE_ID}), named=self.deployments.named_paths())

    def paths_held_by(self, facts: Iterable[Envelope[Any]]) -> frozenset[Path]:
        """The paths that `hold_paths_of` some facts would begin to index: fill them from documents, or they are empty."""
        named = {path for _, _, fact in targeting_facts(facts) for path in paths_in(fact)}
        return self.index.missing(named - {DEVICE_ID})

    def release_paths(self) -> None:
        """Index what the deployments name now, and no more."""
        self.index.hold(frozenset(), named=self.deployments.named_paths())

    def fold_fleet(self, facts: Sequence[Envelope[Any]]) -> None:
        """Fold facts of the fleet's log, dense from the vector on; those of other rooms only move the vector."""
        if not facts:
            return
        assert facts[0].position == self.vector.fleet + 1
        for name, change in self.deployments.fold(targeting_facts(facts)).items():
            former = self._changes.get(name)
            self._changes[name] = Change(former.before if former else change.before, change.after)
        for envelope in facts:
            if isinstance(envelope.fact, DevicesRetried):
                self._retried.append(self.deployments.members(envelope.fact.devices))
            elif isinstance(envelope.fact, RollbackBegan) and envelope.fact.restore is True:
                self._restoring.add(deployment_of(envelope.subject))
        self.index.name(self.deployments.named_paths())
        self.vector = Vector(self.vector.partition, facts[-1].position)
        self.at = max(self.at, facts[-1].at)

    # -- coming back

    def restore_deployments(self, facts: Iterable[Envelope[Any]]) -> None:
        """Fold the fleet's facts up to a vector whose consequences are put back too."""
        self.deployments.fold(targeting_facts(facts))

    def restore_targets(self, targets: Mapping[str, BitMap]) -> None:
        """Put targets back by the names that they are kept by, and derive who is eligible."""
        for name, members in targets.items():
            deployment_id, _, module = name.partition("/")
            deployment = self.deployments.by_id[deployment_id]
            if deployment.kind is Kind.MODULE:
                self.of_modules.restore(deployment, module, members)
            else:
                self.targets[name] = members
                self.eligible[name] = self._admitted(deployment, members)

    def row_counts(self) -> Counter[int]:
        """How many ordinals are in each row."""
        return self.row_of.counts()

    # -- what follows

    def resolve(self) -> Outcome | None:
        """Decide anew for whoever may be concerned since the last call; `None` when no assignment changed."""
        news = self._take_news()
        targeted = self._targeted(news.changes)
        planned, concerned = self._plan(news)
        stale = self.answers.stale
        if self.deployments.has_phased:
            # Who is well shows with the reports that came until now, and with what they were about.
            self._judge()
        moves = self._move(planned)
        # Whom a deployment targets and does not admit, its twin shows all the same.
        targeted |= self._targeted(news.changes)
        standing = targeted | concerned | self.answers.stale | stale
        self._count(news, standing)
        self._judge()
        if not moves:
            return None
        self.outcomes += 1
        for move in moves:
            self.moved_by.put(np.array(move.ordinals(), dtype=np.uint32), self.outcomes)
        before, self.decided = self.decided, self.vector
        return Outcome(self.number, before, self.vector, moves)

    def planned(self) -> tuple[Planned, set[str]]:
        """Who `resolve` would move to which row, and whose targets it would change, by the names that they are kept by.

        Nobody is moved: the state is of no use after it but to be looked at.
        """
        planned, _ = self._plan(self._take_news())
        return planned, {name for _, name in self.changed_targets | self.of_modules.changed}

    def _plan(self, news: News) -> tuple[Planned, BitMap]:
        """Bring targets up to date; answers who is to move, and everybody whose assignment may have changed."""
        concerned = self._retarget(news)
        moved = self._assign_devices(concerned)
        of_modules = self._retarget_modules(news, moved)
        planned = self._with_gone(self._with_modules(moved, of_modules))
        return planned, BitMap().union(*concerned.values(), *of_modules.values())

    def _judge(self) -> None:
        self.answers.judge(self.row_of, self._expected_of)

    def _take_news(self) -> News:
        sets, noted = self.index.take_touched()
        touched = (self._touched | noted) - self._gone
        news = News(self._changes, sets, touched, self._renewed, BitMap(self._gone))
        self._changes, self._touched, self._renewed = {}, BitMap(), BitMap()
        for name, change in news.changes.items():
            self.changed_deployments |= {
                (one.created, name) for one in (change.before, change.after) if one is not None
            }
        return news

    def _targeted(self, names: Iterable[str]) -> BitMap:
        """Whom any of some deployments targets."""
        found = self.of_modules.everybody(names)
        return found.union(*(self.targets[name] for name in names if name in self.targets))

    def _retarget(self, news: News) -> dict[Kind, BitMap]:
        """Bring the targets up to date of all but configurations of modules.

        Answers whose assignment may have changed, by the part of it.
        """
        concerned: dict[Kind, BitMap] = defaultdict(BitMap)
        for name, change in news.changes.items():
            before, after = _of_devices(change.before), _of_devices(change.after)
            old, new = self.eligible.pop(name, BitMap()), BitMap()
            self.targets.pop(name, None)
            self.changed_targets |= {(one.created, name) for one in (before, after) if one is not None}
            if after is not None:
                self.targets[name] = after.target.select(self.index, self._candidates(after))
                new = self.eligible[name] = self._admitted(after, self.targets[name])
            for kind in {one.kind for one in (before, after) if one is not None}:
                concerned[kind] |= old ^ new if _same_but_target(before, after) else old | new
        by_id = self.deployments.by_id
        if news.renewed or news.gone:
            unchanged = by_id.keys() - news.changes.keys()
            self._retarget_within(news.renewed, unchanged, concerned)
            self._retarget_within(news.gone, unchanged, concerned)
        for kind in (Kind.EDGE, Kind.DEVICE):
            concerned[kind] |= news.renewed
        affected = self.deployments.affected(news.sets) - news.changes.keys()
        self._retarget_within(news.touched - news.renewed, affected, concerned)
        return concerned

    def _retarget_modules(self, news: News, moved: Planned) -> dict[str, BitMap]:
        """Bring the targets of configurations of modules up to date, once it is planned who has which module."""
        stood = (one for change in news.changes.values() for one in (change.before, change.after))
        if not self.deployments.of_modules_ascending and not any(one and one.kind is Kind.MODULE for one in stood):
            return {}
        holders = Holders(self.directory, self.modules, self.rows, self.row_of, moved=moved)
        renewed = news.renewed | holders.planned
        return self.of_modules.retarget(msgspec.structs.replace(news, renewed=renewed), holders)

    def _count(self, news: News, standing: BitMap) -> None:
        for name, change in news.changes.items():
            before, after = change.before, change.after
            if before is not None and (after is None or after.created != before.created):
                self.metrics.define(before.created, name, {})
            if after is not None:
                self.metrics.define(after.created, name, after.metrics)
        self.metrics.update(news.sets, news.touched, news.renewed | news.gone, standing)

    def count_anew(self) -> None:
        """Find the rows of all metrics, on a state that was put back."""
        for deployment in self.deployments.by_id.values():
            self.metrics.define(deployment.created, deployment.id, deployment.metrics)
        self.metrics.fill()

    def _openly_targeted(self, name: str, module: str) -> BitMap:
        deployment = self.deployments.by_id[name]
        if isinstance(deployment.admission, NotStarted | Ended):
            return BitMap()
        if deployment.kind is Kind.MODULE:
            return self.of_modules.targets.get(name, {}).get(module, BitMap())
        return self.targets[name]

    def _candidates(self, deployment: Deployment) -> BitMap:
        """Whom a deployment can target at all: what is for modules, edge-capable devices alone."""
        return self.directory.edge if deployment.kind is Kind.EDGE else self.directory.live

    def _retarget_within(self, ordinals: BitMap, names: Iterable[str], concerned: dict[Kind, BitMap]) -> None:
        if not ordinals:
            return
        by_id = self.deployments.by_id
        for name in names:
            deployment = by_id[name]
            if deployment.kind is Kind.MODULE:
                continue
            target = self.targets[name]
            new = deployment.target.select(self.index, ordinals & self._candidates(deployment))
            old = target & ordinals
            if new == old:
                continue
            difference = new ^ old
            concerned[deployment.kind] |= difference
            target ^= difference
            self.changed_targets.add((deployment.created, name))
            self.eligible[name] = self._admitted(deployment, target)

    def _admitted(self, deployment: Deployment, target: BitMap) -> BitMap:
        match deployment.admission:
            case Everyone():
                return target
            case NotStarted() | Ended():
                return BitMap()
            case Phased(members):
                return target & members
            case Admitted(device_ids):
                known = (self.directory.ordinal_of.get(device_id) for device_id in device_ids)
                return target & BitMap([ordinal for ordinal in known if ordinal is not None])
            case _:
                assert_never(deployment.admission)

    def _assign_devices(self, concerned: Mapping[Kind, BitMap]) -> Planned:
        """What follows for the modules that deployments and hands name, and for the devices' own twins."""
        moved: Planned = {}
        for stack, ordinals in resolve(
            concerned[Kind.EDGE] & self.directory.live,
            bases_descending=self.deployments.bases_descending,
            layers_ascending=self.deployments.layers_ascending,
            eligible=self.eligible,
        ):
            for old, members in grouped(self.row_of.take(ordinals), ordinals):
                row = self.rows.after(old, stack, self._merge)
                if row is not self.rows.by_number[old] and row != self.rows.by_number[old]:
                    _collect(moved, old, row, members)
        if self.deployments.has_had_own:
            stacks = resolve_own(
                concerned[Kind.DEVICE] & self.directory.live,
                ascending=self.deployments.own_ascending,
                eligible=self.eligible,
            )
            moved = self._with_part(moved, stacks, lambda row, stack: self.rows.after_own(row, stack, self._merge))
        moved = self._assign_back(moved)
        self._assign_by_hand(moved)
        return self._assign_again(moved)

    def _with_modules(self, moved: Planned, concerned: Mapping[str, BitMap]) -> Planned:
        """What is planned so far, with what configurations of modules give to those concerned."""
        if not concerned:
            return moved
        return self._with_part(moved, together(self._decided(concerned)), self._after_modules)

    def _decided(self, concerned: Mapping[str, BitMap]) -> Iterator[tuple[tuple[str, Stack], Ordinals]]:
        for module in sorted(concerned):
            eligible = self.of_modules.eligible_for(module)
            ascending = [one for one in self.deployments.of_modules_ascending if one.id in eligible]
            within = concerned[module] & self.directory.live
            for stack, ordinals in resolve_own(within, ascending=ascending, eligible=eligible):
                yield (module, stack), ordinals

    def _after_modules(self, row: Row, stacks: tuple[tuple[str, Stack], ...]) -> Row:
        for module, stack in stacks:
            row = self.rows.after_module(module, row, stack, self._merge)
        return row

    def _with_part(
        self, moved: Planned, decided: Iterable[tuple[T, Ordinals]], after: Callable[[Row, T], Row]
    ) -> Planned:
        """What is planned so far, with what is decided for some twins of each laid upon it; nobody is decided for twice."""
        result: Planned = {}
        stacks = [(stack, BitMap(ordinals)) for stack, ordinals in decided]
        concerned = BitMap().union(*(those for _, those in stacks))
        planned = BitMap()
        for (old, _), (row, members) in moved.items():
            planned |= members
            for stack, those in stacks:
                if some := members & those:
                    _collect(result, old, after(row, stack), some)
            if rest := members - concerned:
                _collect(result, old, row, rest)
        for stack, those in stacks:
            ordinals = np.array(those - planned, dtype=np.uint32)
            rows = self.row_of.take(ordinals)
            for old in np.unique(rows).tolist():
                former = self.rows.by_number[old]
                row = after(former, stack)
                if row != former:
                    _collect(result, old, row, ordinals[rows == old])
        return result

    def _assign_by_hand(self, moved: Planned) -> None:
        """Lay what was set by hand since the last call over what follows from the deployments."""
        for ordinal, contents in self._by_hand.items():
            old = self.row_of[ordinal]
            row = self.rows.by_number[old]
            for key, (planned, members) in moved.items():
                if ordinal in members:
                    row = planned
                    members.discard(ordinal)
                    if not members:
                        del moved[key]
                    break
            for content in contents:
                row = self.rows.by_hand(row, content)
            if row != self.rows.by_number[old]:
                _collect(moved, old, row, [ordinal])
        self._by_hand = {}

    def _assign_back(self, moved: Planned) -> Planned:
        """What is planned so far, with those restored whose deployment is rolled back and whom nothing else targets."""
        names, self._restoring = self._restoring, set()
        former = [
            (layer, digest, members)
            for layer, some in self.before.items()
            if layer.id in names
            for digest, members in some.items()
        ]
        if not former:
            return moved
        result: Planned = {}
        for (old, _), (row, members) in moved.items():
            rest = members
            for layer, digest, had in former if row.standing is Standing.UNMANAGED else ():
                # Whoever has it goes back when it ends, whenever that is folded; whoever had lost it does not.
                if self.rows.by_number[old].has(layer) and (some := rest & had):
                    rest = rest - some
                    _collect(result, old, self.rows.restored(self.rows.by_number[old], row, digest), some)
            if rest:
                _collect(result, old, row, rest)
        return result

    def _assign_again(self, moved: Planned) -> Planned:
        """What is planned so far, with the same once more, under a new `$version`, for those who try again."""
        every, self._retried = self._retried, []
        # One after the other, so that it is as if each had been folded by itself.
        for retried in every:
            moved = self._once_more(moved, retried & self.directory.live)
        return moved

    def _once_more(self, moved: Planned, retried: BitMap) -> Planned:
        if not retried:
            return moved
        result: Planned = {}
        planned = BitMap()
        for (old, _), (row, members) in moved.items():
            planned |= members
            # Who had nothing has nothing to try again, however late that is found.
            again = members & retried if AGENT in self.rows.by_number[old].versions else BitMap()
            for some, after in ((again, row.again()), (members - again, row)):
                if some:
                    _collect(result, old, after, some)
        ordinals = np.array(retried - planned, dtype=np.uint32)
        rows = self.row_of.take(ordinals)
        for number in np.unique(rows).tolist():
            former = self.rows.by_number[number]
            if former.again() != former:
                _collect(result, number, former.again(), ordinals[rows == number])
        return result

    def _note_already(self, old: Row, new: Row, members: BitMap) -> None:
        """Who comes under a deployment that is rolled out, and runs what it gives already, is there already."""
        came, left = set(new.stack) - set(old.stack), set(old.stack) - set(new.stack)
        same = old.configuration == new.configuration and new.standing is Standing.MANAGED
        for layer in came | left:
            former = self.already.get(layer, BitMap())
            after = former | members if layer in came and same and self._is_phased(layer) else former - members
            if after != former:
                self.already[layer] = after
                self.changed_already.add(layer)
            if layer in came and self._is_phased(layer) and old.was_assigned:
                self._note_before(layer, old.configuration, members & self.answers.sets["healthy"])
            elif layer in left:
                for digest in self.before.get(layer, {}):
                    self._note_before(layer, digest, members, gone=True)

    def _note_before(self, layer: Layer, digest: str, members: BitMap, *, gone: bool = False) -> None:
        some = self.before.setdefault(layer, {})
        former = some.get(digest, BitMap())
        after = former - members if gone else former | members
        if after == former:
            return
        if digest not in some:
            self.rows.hold(digest)
        some[digest] = after
        self.changed_before.add((layer, digest))

    def _is_phased(self, layer: Layer) -> bool:
        deployment = self.deployments.by_id.get(layer.id)
        return (
            deployment is not None and deployment.created == layer.created and isinstance(deployment.admission, Phased)
        )

    def _is_over(self, layer: Layer) -> bool:
        deployment = self.deployments.by_id.get(layer.id)
        return deployment is None or deployment.created != layer.created or isinstance(deployment.admission, Ended)

    def _drop_notes(self) -> None:
        """Forget who was there already once a rollout is over, and what was before once its deployment is."""
        for layer in [layer for layer in self.already if self._is_over(layer)]:
            del self.already[layer]
            self.changed_already.add(layer)
        for layer, some in list(self.before.items()):
            is_over = self._is_over(layer)
            for digest in [digest for digest, members in some.items() if is_over or not members]:
                del some[digest]
                self.rows.release(digest)
                self.changed_before.add((layer, digest))
            if not some:
                del self.before[layer]

    def _with_gone(self, moved: Planned) -> Planned:
        gone = np.array(self._gone, dtype=np.uint32)
        rows = self.row_of.take(gone)
        for old in np.unique(rows).tolist():
            if old != UNASSIGNED:
                _collect(moved, old, self.rows.by_number[UNASSIGNED], gone[rows == old])
        self._gone = BitMap()
        return moved

    def _move(self, moved: Planned) -> tuple[Moved, ...]:
        # Rows are numbered in the order of the lowest ordinal that moved, whatever order they were found in.
        moves = []
        in_order = sorted(
            ((old, row, members) for (old, _), (row, members) in moved.items()), key=lambda move: move[2].min()
        )
        for old, row, members in in_order:
            new = self.rows.number_of(row)
            self.rows.move(old, new, len(members))
            self.row_of.put(np.array(members, dtype=np.uint32), new)
            self.answers.stale |= members
            if row.stack != self.rows.by_number[old].stack:
                self._note_already(self.rows.by_number[old], row, members)
            moves.append(Moved.of(self.rows.by_number[old], row, members))
        self._drop_notes()
        self.rows.drop_unused()
        return tuple(moves)

    def _expected_of(self, number: int) -> Expected:
        """What the devices of a row are to answer for; numbers of rows are never given twice."""
        expected = self._expected.get(number)
        if expected is None:
            if len(self._expected) >= _EXPECTED_MAX:
                self._expected.clear()
            row = self.rows.by_number[number]
            expected = self._expected[number] = row.expected(self.rows.configurations[row.configuration])
        return expected


def _of_devices(deployment: Deployment | None) -> Deployment | None:
    return None if deployment is None or deployment.kind is Kind.MODULE else deployment


def _same_but_target(before: Deployment | None, after: Deployment | None) -> bool:
    return before is not None and after is not None and (before.rank, before.kind) == (after.rank, after.kind)


def _collect(moved: Planned, old: int, row: Row, ordinals: Any) -> None:
    key = (old, msgspec.json.encode(row, order="deterministic"))
    members = BitMap(ordinals)
    if key in moved:
        members |= moved[key][1]
    moved[key] = (row, members)
