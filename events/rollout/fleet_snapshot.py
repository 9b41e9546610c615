"""The fleet as a rollout is judged on it."""

from collections.abc import Mapping
from typing import Any

import msgspec

from events.rollout.cohort import Hashes
from events.rollout.sets import NOBODY, FleetSet


class Where(msgspec.Struct, frozen=True):
    """The devices (`FleetSet`) that a target condition is true for."""

    condition: str


class ByValue(msgspec.Struct, frozen=True):
    """The devices (`FleetSet`) by their value of a tag; a device without one is not among them."""

    tag: str


class AdmissionOrder(msgspec.Struct, frozen=True):
    """By partition and ordinal, the hashes of the ids of devices, which the order of admission follows from."""


class FailureCodes(msgspec.Struct, frozen=True):
    """The failed devices (`FleetSet`) by the code that their agent answered with last, as far as that is read."""


class RollbackId(msgspec.Struct, frozen=True):
    """What the deployment of a rollback is to be called; empty where what it goes back to is not there."""


Question = Where | ByValue | AdmissionOrder | FailureCodes | RollbackId
"""What a plan needs only where devices are about to be admitted or brought back; it costs too much to be read each time."""


class NotRead(Exception):
    """A plan needs the answer to a question that was not read; read it, and plan again."""

    def __init__(self, question: Question) -> None:
        super().__init__(repr(question))
        self.question = question


class Back(msgspec.Struct, frozen=True, eq=False):
    """How a rollback goes: whom it is for, who is back and well, who is not, and who has nothing to go back to."""

    devices: FleetSet = NOBODY
    healthy: FleetSet = NOBODY
    unhealthy: FleetSet = NOBODY
    unmanaged: FleetSet = NOBODY


class FleetSnapshot(msgspec.Struct, frozen=True, eq=False):
    """The sets of one deployment, all partitions together, as of `vectors` ((partition, fleet) positions).

    `lagging` names the partitions that are behind or stopped. `target` are enabled devices that the condition is true for, whether
    admitted or not; of whoever has the deployment (`actual`), `healthy` and `unhealthy` are as in DESIGN §3, and
    `answered_failure` have answered with a failure; `held` are those for whom it is over a limit, and `already` those who ran the
    same before. `not_applied` are, by the reason, targeted devices for which it is no matter of rank that they do not have it.
    `is_open_to_all`: the deployment admits every targeted device. `answers` are those to the questions that were read.
    """

    vectors: tuple[tuple[int, int], ...] = ()
    lagging: tuple[str, ...] = ()
    target: FleetSet = NOBODY
    actual: FleetSet = NOBODY
    healthy: FleetSet = NOBODY
    unhealthy: FleetSet = NOBODY
    held: FleetSet = NOBODY
    already: FleetSet = NOBODY
    back: Back = Back()
    answered_failure: FleetSet = NOBODY
    not_applied: Mapping[str, FleetSet] = {}
    is_open_to_all: bool = False
    answers: Mapping[Question, Any] = {}

    def where(self, condition: str) -> FleetSet:
        """The answer to `Where`; as the following, it raises `NotRead` where that was not read."""
        answer: FleetSet = self._answer(Where(condition))
        return answer

    def by_value(self, tag: str) -> Mapping[object, FleetSet]:
        """The answer to `ByValue`."""
        answer: Mapping[object, FleetSet] = self._answer(ByValue(tag))
        return answer

    def order(self) -> dict[int, Hashes]:
        """The answer to `AdmissionOrder`."""
        answer: dict[int, Hashes] = self._answer(AdmissionOrder())
        return answer

    def failure_codes(self) -> Mapping[int, FleetSet]:
        """The answer to `FailureCodes`."""
        answer: Mapping[int, FleetSet] = self._answer(FailureCodes())
        return answer

    def rollback_id(self) -> str:
        """The answer to `RollbackId`."""
        answer: str = self._answer(RollbackId())
        return answer

    def _answer(self, question: Question) -> Any:
        if question not in self.answers:
            raise NotRead(question)
        return self.answers[question]
