"""What rollouts need from the time of a device's admission: whether it ran the same already, and what it had before."""

from pyroaring import BitMap

from events.deployment.events import Ended
from events.fleet.answers import DeviceAnswers
from events.fleet.assignments import Assignment, Assignments, AssignmentStatus, Layer
from events.fleet.deployments import Deployments, Phased


class RolloutNotes:
    """The notes of each deployment that is rolled out in phases, until its rollout is over."""

    def __init__(self, deployments: Deployments, assignments: Assignments, answers: DeviceAnswers) -> None:
        self._deployments, self._assignments, self._answers = deployments, assignments, answers
        self.already: dict[Layer, BitMap] = {}
        """The devices that ran the same configuration at their admission."""
        self.changed_already: set[Layer] = set()
        self.before: dict[Layer, dict[str, BitMap]] = {}
        """The devices that were healthy with a configuration at their admission, by deployment and configuration."""
        self.changed_before: set[tuple[Layer, str]] = set()

    def note(self, old: Assignment, new: Assignment, members: BitMap) -> None:
        """Note devices that move from one assignment to another."""
        came, left = set(new.stack) - set(old.stack), set(old.stack) - set(new.stack)
        same = old.configuration == new.configuration and new.status is AssignmentStatus.MANAGED
        for layer in came | left:
            previous = self.already.get(layer, BitMap())
            after = previous | members if layer in came and same and self._is_phased(layer) else previous - members
            if after != previous:
                self.already[layer] = after
                self.changed_already.add(layer)
            if layer in came and self._is_phased(layer) and old.was_assigned:
                self._note_before(layer, old.configuration, members & self._answers.sets["healthy"])
            elif layer in left:
                for digest in self.before.get(layer, {}):
                    self._note_before(layer, digest, members, gone=True)

    def _note_before(self, layer: Layer, digest: str, members: BitMap, *, gone: bool = False) -> None:
        by_digest = self.before.setdefault(layer, {})
        previous = by_digest.get(digest, BitMap())
        after = previous - members if gone else previous | members
        if after == previous:
            return
        if digest not in by_digest:
            # A rollback restores this configuration even when no assignment has it any more.
            self._assignments.hold(digest)
        by_digest[digest] = after
        self.changed_before.add((layer, digest))

    def _is_phased(self, layer: Layer) -> bool:
        deployment = self._deployments.by_id.get(layer.id)
        return (
            deployment is not None and deployment.created == layer.created and isinstance(deployment.admission, Phased)
        )

    def _is_over(self, layer: Layer) -> bool:
        deployment = self._deployments.by_id.get(layer.id)
        return deployment is None or deployment.created != layer.created or isinstance(deployment.admission, Ended)

    def drop(self) -> None:
        """Drop the notes of deployments that have ended or were deleted."""
        for layer in [layer for layer in self.already if self._is_over(layer)]:
            del self.already[layer]
            self.changed_already.add(layer)
        for layer, by_digest in list(self.before.items()):
            is_over = self._is_over(layer)
            for digest in [digest for digest, members in by_digest.items() if is_over or not members]:
                del by_digest[digest]
                self._assignments.release(digest)
                self.changed_before.add((layer, digest))
            if not by_digest:
                del self.before[layer]
