"""The state of the fleet that a rollout is judged on."""

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec

from events.rollout.cohort import Hashes
from events.rollout.sets import NO_DEVICES, FleetSet

Answer = TypeVar("Answer")


class _Question(msgspec.Struct, Generic[Answer], frozen=True):
    pass


class Where(_Question[FleetSet], frozen=True):
    """The devices that a target condition is true for."""

    condition: str


class ByValue(_Question[Mapping[object, FleetSet]], frozen=True):
    """The devices by their value of a tag, without the devices that have no value."""

    tag: str


class AdmissionOrder(_Question[dict[int, Hashes]], frozen=True):
    """The hashes of device ids by partition and ordinal, which determine the order of admission."""


class FailureCodes(_Question[Mapping[int, FleetSet]], frozen=True):
    """The failed devices by the code of their agent's last answer."""


class RollbackId(_Question[str], frozen=True):
    """The id of a rollback's deployment; empty if the content to roll back to does not exist any more."""


# The scheduler judges every rollout whenever the fleet moves, up to once a second, and these reads cost too much to repeat each
# time; a plan asks for them only before devices are admitted or rolled back.
Question = Where | ByValue | AdmissionOrder | FailureCodes | RollbackId
"""A read that a plan needs in few steps only."""


class NotRead(Exception):
    """A plan needs the answer to a question that was not read; read it, and plan again."""

    def __init__(self, question: Question) -> None:
        super().__init__(repr(question))
        self.question = question


class Back(msgspec.Struct, frozen=True, eq=False):
    """The progress of a rollback: its devices, and those that are back and healthy, unhealthy, or without any deployment."""

    devices: FleetSet = NO_DEVICES
    healthy: FleetSet = NO_DEVICES
    unhealthy: FleetSet = NO_DEVICES
    unmanaged: FleetSet = NO_DEVICES


class FleetSnapshot(msgspec.Struct, frozen=True, eq=False):
    """The device sets of one deployment in all partitions, at `vectors` ((partition, fleet) positions).

    - `lagging`: the names of partitions that are behind or stopped
    - `target`: enabled devices that the condition is true for, admitted or not
    - `actual`: devices that have the deployment; of these, `healthy` and `unhealthy` as in DESIGN §3, `answered_failure`
    - `held`: devices for which the merge is over a limit; `already`: devices that ran the same configuration before
    - `not_applied`: admitted devices without the deployment that no other deployment outranks, by reason
    - `is_open_to_all`: the deployment admits every targeted device
    - `answers`: the answers to the questions that were read
    """

    vectors: tuple[tuple[int, int], ...] = ()
    lagging: tuple[str, ...] = ()
    target: FleetSet = NO_DEVICES
    actual: FleetSet = NO_DEVICES
    healthy: FleetSet = NO_DEVICES
    unhealthy: FleetSet = NO_DEVICES
    held: FleetSet = NO_DEVICES
    already: FleetSet = NO_DEVICES
    back: Back = Back()
    answered_failure: FleetSet = NO_DEVICES
    not_applied: Mapping[str, FleetSet] = {}
    is_open_to_all: bool = False
    answers: Mapping[Question, Any] = {}

    def answer(self, question: _Question[Answer]) -> Answer:
        """The answer to a question.

        Raises:
            NotRead: it was not read.
        """
        assert isinstance(question, Question)
        if question not in self.answers:
            raise NotRead(question)
        answer: Answer = self.answers[question]
        return answer
