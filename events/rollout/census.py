"""The fleet as a rollout is judged on it."""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from events.rollout.cohort import Hashes
from events.rollout.sets import NOBODY, FleetSet
from events.rollout.state import RolloutDocument


class Fleet(Protocol):
    """What is asked of the fleet only where somebody is about to be admitted, or brought back."""

    def where(self, condition: str) -> FleetSet:
        """The devices that a target condition is true for."""
        ...

    def by_value(self, tag: str) -> Mapping[object, FleetSet]:
        """The devices by their value of a tag; those without one are not among them."""
        ...

    def hashes(self) -> dict[int, Hashes]:
        """By partition and ordinal, the hashes of the ids of devices."""
        ...

    def codes(self, devices: FleetSet) -> Mapping[int, FleetSet]:
        """Devices by the code that their agent answered with last, as far as that is read."""
        ...

    def rollback_id(self, name: str, document: RolloutDocument) -> str:
        """What the deployment of a rollback is to be called; empty where none is wanted, or what it goes back to is not there."""
        ...


class Back(msgspec.Struct, frozen=True, eq=False):
    """How a rollback goes: whom it is for, who is back and well, who is not, and who has nothing to go back to."""

    devices: FleetSet = NOBODY
    healthy: FleetSet = NOBODY
    unhealthy: FleetSet = NOBODY
    unmanaged: FleetSet = NOBODY


class Census(msgspec.Struct, frozen=True, eq=False):
    """The sets of one deployment, all partitions together, as of `vectors` ((partition, fleet) positions).

    `lagging` names the partitions that are behind or stopped. `target` are enabled devices that the condition is true for, whether
    admitted or not; of whoever has the deployment (`actual`), `healthy` and `unhealthy` are as in DESIGN §3, and
    `answered_failure` have answered with a failure; `held` are those for whom it is over a limit, and `already` those who ran the
    same before. `not_applied` are, by the reason, targeted devices for which it is no matter of rank that they do not have it.
    `is_open_to_all`: the deployment admits every targeted device.
    """

    fleet: Fleet
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
