"""The devices that a deployment targets now, and advice on types in its condition, for the author of the deployment."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from events.deployment.advice import Advice, another_type, targets_nothing
from events.deployment.state import DeploymentDocument
from events.envelope import Vector
from events.fleet.column import PRIMITIVE_KINDS, value_key
from events.log.keys import FLEET
from events.log.port import Log
from events.projection_store.fleet_projection import FleetProjection, Within
from events.projection_store.port import ProjectionStore
from events.projection_store.query_index import PartitionIndex, indexes, kinds_of
from events.query.condition import parse_condition
from events.query.module_condition import is_module_condition
from events.query.tree import Comparison, Constant, Path, PathOf, leaves

SETTLE_SECONDS = 1.0
"""How long the author of a deployment waits at most until workers have applied it."""

_POLL_SECONDS = 0.02


@dataclass(eq=False)
class TargetedDevices:
    """Reads the targets of deployments that were written just now."""

    log: Log
    projections: ProjectionStore
    fleet_projection: FleetProjection
    pause: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def count(self, name: str, *, within: Within | None = None) -> int | None:
        """As `FleetProjection.targeted` once workers have applied the present log; `None` if that takes over `SETTLE_SECONDS`."""
        return self.fleet_projection.targeted(name, within=within) if self._settled() else None

    def advice(
        self, name: str, document: DeploymentDocument, targeted: int, *, within: Within | None = None
    ) -> tuple[Advice, ...]:
        """Advice on the devices that a deployment targets, as of the projections."""
        # The advice on documents already covers an empty condition.
        if not document.target_condition.strip():
            return ()
        nothing = (targets_nothing(name),) if not targeted else ()
        return (*nothing, *self._other_types(name, document.target_condition, within))

    def meeting(self, name: str, others: Collection[str]) -> set[str]:
        """Those of other deployments that target a device in common with this one."""
        if not others:
            return set()
        targets = self.fleet_projection.targets(name)
        numbers = [number for number, by_id in targets.items() if by_id]
        targets_of_others = self.fleet_projection.targets(*others, among=numbers)
        return {
            other
            for number in numbers
            for other, members in targets_of_others[number].items()
            if members.intersect(targets[number][name])
        }

    def _settled(self) -> bool:
        # The heads of now, not of each round: a busy log would never be reached.
        heads, until = self.log.heads(), self.clock() + SETTLE_SECONDS
        # Workers mostly need a few milliseconds.
        numbers, pause_seconds = range(self.log.partitions), _POLL_SECONDS / 16
        while True:
            partitions = self.projections.read_each(numbers)
            vectors = [stored.checkpoint.vector for stored in partitions]
            if all(Vector(heads[number], heads[FLEET]).is_within(vectors[number]) for number in numbers):
                return True
            if self.clock() >= until:
                return False
            self.pause(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _POLL_SECONDS)

    def _other_types(self, name: str, condition: str, within: Within | None) -> Iterable[Advice]:
        if is_module_condition(condition):
            return
        compared = set()
        for leaf in leaves(parse_condition(condition)):
            match leaf:
                case Comparison(PathOf(path), _, Constant(str() | int() | float() as literal)) if path != ("deviceId",):
                    compared.add((path, value_key(literal)[0]))
        # Most properties have values of one type, which the names of the sets say: the sets are read for others alone.
        kinds = kinds_of(self.projections, range(self.log.partitions), {path for path, _ in compared})
        for path, kind in sorted(compared):
            if not (kinds[path] & PRIMITIVE_KINDS) - {kind}:
                continue
            counts = self._by_type(indexes(self.projections, range(self.log.partitions)), path, within)
            if any(count for other, count in counts.items() if other != kind):
                yield another_type(name, path, kind, counts)

    @staticmethod
    def _by_type(read: Iterable[PartitionIndex], path: Path, within: Within | None) -> Counter[str]:
        """How many devices have a property, by its type; empty if it is not indexed, as with more than 1,000 values."""
        counts: Counter[str] = Counter()
        for index in read:
            seen = index.everyone() if within is None else index.everyone() & within(index.number)
            for (kind, _), members in (index.column(path) or {}).items():
                if kind in PRIMITIVE_KINDS:
                    counts[kind] += members.intersection_cardinality(seen)
        return counts
