"""Updates and groups for tests: commands on a log in memory, and what stands after them."""

from typing import Any

from events.deployment import state as deployment_state
from events.deployment.state import DeploymentDocument
from events.log.keys import FLEET
from events.log.memory import MemoryLog
from events.rollout import state as rollout_state
from events.rollout.state import RolloutDocument
from events.update import state as update_state
from events.update.commands import CancelUpdateDeployment, DeployUpdate, ImportUpdate
from events.update.events import RollbackPolicy
from events.update.names import UpdateId, group_subject, update_deployment_of
from events.update.state import GroupDocument
from tests.producer.logs import producer
from tests.workers.system import base

V1, V2, V3 = (UpdateId("contoso", "camera", version) for version in ("1.0", "1.1", "1.10"))


def imported(update: UpdateId, **members: Any) -> ImportUpdate:
    return ImportUpdate(update, base("m", image=f"example.com/camera:{update.version}"), **members)


def deploy(name: str, update: UpdateId = V1, *, group: str = "north", **members: Any) -> DeployUpdate:
    return DeployUpdate(group, name, update, **members)


def cancel(name: str, **members: Any) -> CancelUpdateDeployment:
    return CancelUpdateDeployment("north", name, **members)


def back_to(update: UpdateId, **members: Any) -> RollbackPolicy:
    return RollbackPolicy(update, **{"percent": 50, **members})


class Fleet:
    """A log with three updates in it."""

    def __init__(self) -> None:
        self.log = MemoryLog()
        self.producer = producer(self.log)
        self.do(*map(imported, (V1, V2, V3)))

    def do(self, *commands: Any) -> None:
        self.producer.submit(commands).raise_if_refused()

    def refused(self, command: Any) -> Exception:
        """Why a command is refused; nothing of it is in the log."""
        before = self.log.head(FLEET)
        (one,) = self.producer.submit([command]).refused
        assert self.log.head(FLEET) == before
        return one.error

    def names(self, command: Any) -> list[tuple[str, str]]:
        """(subject, kind of event) of what a command becomes."""
        before = self.log.head(FLEET)
        self.do(command)
        return [
            (envelope.subject, type(envelope.event).__name__)
            for envelope in self.log.read(FLEET, after=before, limit=1000)
        ]

    def _stored(self, subject: str) -> bytes | None:
        (stored,) = self.log.load([subject], fleet=True)
        return stored.snapshot

    def group(self, name: str = "north") -> GroupDocument:
        data = self._stored(group_subject(name))
        assert data is not None
        return update_state.decode_group(data)

    def states(self, name: str = "north") -> dict[str, str]:
        return {one.id: one.state.value for one in self.group(name).deployments}

    def update_deployment(self, name: str, group: str = "north") -> DeploymentDocument:
        data = self._stored(update_deployment_of(group, name))
        assert data is not None
        return deployment_state.decode(data)

    def rollout(self, name: str, group: str = "north") -> RolloutDocument:
        data = self._stored(rollout_state.subject_of(update_deployment_of(group, name)))
        assert data is not None
        return rollout_state.decode(data)
